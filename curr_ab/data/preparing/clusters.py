"""Clusters of pairs that must share a split: each row's label is the index of its cluster's first row."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from curr_ab.data.preparing.order import PartitionTask, read_partition
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.files import replacing
from curr_ab.options import OptionError

Labels = npt.NDArray[np.int64]
BLOCK = 1 << 22  # rows of an array that are in memory at once
INSTALL = "install it (Debian: apt-get install mmseqs2; conda: conda install -c bioconda mmseqs2)"


def blocks(num_rows: int) -> Iterator[slice]:
    """Cut the rows into blocks that fit into memory."""
    for start in range(0, num_rows, BLOCK):
        yield slice(start, min(start + BLOCK, num_rows))


def label_equal(keys: npt.NDArray[np.uint64], labels: Labels) -> None:
    """Give rows of equal keys the index of the first of them; one range of keys is in memory at a time."""
    num_ranges = 1 + len(keys) // BLOCK
    bounds = [index * (1 << 64) // num_ranges for index in range(num_ranges + 1)]
    for low, high in pairwise(bounds):
        rows = []
        for block in blocks(len(keys)):
            inside = (keys[block] >= np.uint64(low)) & (keys[block] <= np.uint64(high - 1))
            rows.append(block.start + np.flatnonzero(inside))
        chosen = np.concatenate([*rows, np.zeros(0, np.int64)])
        _, first, inverse = np.unique(keys[chosen], return_index=True, return_inverse=True)
        labels[chosen] = chosen[first][inverse]


def require_mmseqs() -> str:
    """Path of the MMseqs2 binary; an error says how to install it."""
    binary = shutil.which("mmseqs")
    if binary is None:
        raise OptionError(f"clustering needs MMseqs2: {INSTALL}, or choose the cluster exact", "cluster")
    return binary


def _write_fasta(partitions: list[PartitionTask], path: Path) -> None:
    """Write both chains of every row as one sequence, named by the row's index."""
    row = 0
    with path.open("wb") as file:
        for task in partitions:
            table = read_partition(task, ["heavy", "light"])
            indices = pa.array(range(row, row + len(table))).cast(pa.string())
            heavy, light = (pc.fill_null(table[chain], "").combine_chunks() for chain in ("heavy", "light"))
            residues = pc.binary_join_element_wise(heavy, light, "")
            lines = pc.binary_join_element_wise(">", indices, "\n", residues, "\n", "").cast(
                pa.large_string()
            )
            offsets = np.frombuffer(lines.buffers()[1], np.int64)
            if len(lines):
                file.write(memoryview(lines.buffers()[2])[: offsets[len(lines)]])
            row += len(table)


def label_similar(
    plan: PreparationPlan, partitions: list[PartitionTask], labels: Labels, *, threads: int, folder: Path
) -> None:
    """Give rows in one cluster of MMseqs2's linear-time clustering the index of the first of them."""
    binary = require_mmseqs()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fasta, result = Path(scratch, "pairs.fasta"), Path(scratch, "result")
        _write_fasta(partitions, fasta)
        command = [binary, "easy-linclust", str(fasta), str(result), str(Path(scratch, "tmp"))]
        command += ["--min-seq-id", str(plan.identity), "-c", str(plan.coverage)]
        command += ["--threads", str(threads), "-v", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ValueError(f"MMseqs2 failed: {(done.stderr or done.stdout).strip()[-500:]}")
        with pyarrow.csv.open_csv(
            f"{result}_cluster.tsv",
            pyarrow.csv.ReadOptions(column_names=["representative", "member"]),
            pyarrow.csv.ParseOptions(delimiter="\t"),
        ) as reader:
            for batch in reader:
                labels[batch["member"].to_numpy()] = batch["representative"].to_numpy()
    _name_after_first(labels)


def _name_after_first(labels: Labels) -> None:
    """Rename clusters from their representative, which depends on the tool, to their first row."""
    first = np.arange(len(labels))
    for block in blocks(len(labels)):
        np.minimum.at(first, labels[block], np.arange(block.start, block.stop))
    for block in blocks(len(labels)):
        labels[block] = first[labels[block]]


def label_column(partitions: list[PartitionTask], column: str, labels: Labels) -> None:
    """Give rows of one value, such as a clone, the index of the first of them; others stay alone."""
    first_of: dict[str, int] = {}
    row = 0
    for task in partitions:
        values = read_partition(task, [column])[column].combine_chunks().dictionary_encode()
        names = values.dictionary.to_pylist()
        codes = values.indices.to_numpy(zero_copy_only=False)
        valid = values.is_valid().to_numpy(zero_copy_only=False)
        rows = np.arange(row, row + len(values))
        if names:
            codes = codes[valid].astype(np.int64)
            here = np.full(len(names), -1)  # the first row of each value in this partition
            here[codes[::-1]] = rows[valid][::-1]  # the last assignment is the first row
            firsts = np.array(
                [first_of.setdefault(name, int(first)) for name, first in zip(names, here, strict=True)]
            )
            rows[valid] = firsts[codes]
        labels[row : row + len(rows)] = rows
        row += len(rows)


def connected(labels: Labels, others: Labels) -> Labels:
    """The first of the rows with which each is linked: by a label of either kind, also through others.

    As everywhere here, a label is the number of the first row that has it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num_rows = len(labels)
    links = coo_array(
        (np.ones(num_rows, np.int8), (np.asarray(labels), np.asarray(others))), (num_rows, num_rows)
    )
    _, component = connected_components(links, directed=False)
    _, first, inverse = np.unique(component[np.asarray(labels)], return_index=True, return_inverse=True)
    first_rows: Labels = first[inverse]
    return first_rows


def write_labels(
    plan: PreparationPlan,
    partitions: list[PartitionTask],
    *,
    sequence_keys: Path,
    folder: Path,
    processes: int,
) -> Path:
    """Write the labels of all rows, unless an earlier run did; return their path."""
    path = folder / "labels.npy"
    if path.exists():
        return path
    keys = np.load(sequence_keys, mmap_mode="r")
    with replacing(path) as temporary:
        labels = np.lib.format.open_memmap(temporary, "w+", np.int64, (len(keys),))
        if plan.cluster == "exact":
            label_equal(keys, labels)
        elif plan.cluster == "source":
            label_column(partitions, "clone", labels)
        else:
            label_similar(plan, partitions, labels, threads=processes, folder=folder)
        if plan.group_by_donor:
            with replacing(folder / "donors.npy") as donors_path:
                donors = np.lib.format.open_memmap(donors_path, "w+", np.int64, (len(labels),))
                label_column(partitions, "donor", donors)
                # Clusters that share a donor cannot be held apart, nor can those of donors who share one.
                labels[:] = connected(labels, donors)
    return path
