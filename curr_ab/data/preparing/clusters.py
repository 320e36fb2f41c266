"""Which pairs are too alike to be held apart: a label for each row, the first row of its cluster."""

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
from curr_ab.options import OptionError

Labels = npt.NDArray[np.int64]
BLOCK = 1 << 22  # rows in memory
INSTALL = "install it (Debian: apt-get install mmseqs2; conda: conda install -c bioconda mmseqs2)"


def blocks(num_rows: int) -> Iterator[slice]:
    """The rows in pieces that fit into memory."""
    for start in range(0, num_rows, BLOCK):
        yield slice(start, min(start + BLOCK, num_rows))


def label_equal(keys: npt.NDArray[np.uint64], labels: Labels) -> None:
    """Rows of equal keys get the number of the first of them; one range of keys is in memory at a time."""
    num_ranges = 1 + len(keys) // BLOCK
    bounds = [number * (1 << 64) // num_ranges for number in range(num_ranges + 1)]
    for low, high in pairwise(bounds):
        rows = []
        for block in blocks(len(keys)):
            inside = (keys[block] >= np.uint64(low)) & (keys[block] <= np.uint64(high - 1))
            rows.append(block.start + np.flatnonzero(inside))
        chosen = np.concatenate([*rows, np.zeros(0, np.int64)])
        _, first, inverse = np.unique(keys[chosen], return_index=True, return_inverse=True)
        labels[chosen] = chosen[first][inverse]


def require_mmseqs() -> str:
    """The path of the binary, or an error that says how to come by it."""
    binary = shutil.which("mmseqs")
    if binary is None:
        raise OptionError(f"clustering needs MMseqs2: {INSTALL}, or choose the cluster exact", "cluster")
    return binary


def _write_fasta(partitions: list[PartitionTask], path: Path) -> None:
    """The concatenated pair of every row, named by the row's number."""
    row = 0
    with path.open("wb") as file:
        for task in partitions:
            table = read_partition(task, ["heavy", "light"])
            numbers = pa.array(range(row, row + len(table))).cast(pa.string())
            heavy, light = (pc.fill_null(table[chain], "").combine_chunks() for chain in ("heavy", "light"))
            residues = pc.binary_join_element_wise(heavy, light, "")
            lines = pc.binary_join_element_wise(">", numbers, "\n", residues, "\n", "").cast(
                pa.large_string()
            )
            offsets = np.frombuffer(lines.buffers()[1], np.int64)
            if len(lines):
                file.write(memoryview(lines.buffers()[2])[: offsets[len(lines)]])
            row += len(table)


def label_similar(
    partitions: list[PartitionTask],
    labels: Labels,
    *,
    identity: float,
    coverage: float,
    threads: int,
    folder: Path,
) -> None:
    """Rows that MMseqs2's linear-time clustering puts together get the number of the first of them."""
    binary = require_mmseqs()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fasta, result = Path(scratch, "pairs.fasta"), Path(scratch, "result")
        _write_fasta(partitions, fasta)
        command = [binary, "easy-linclust", str(fasta), str(result), str(Path(scratch, "tmp"))]
        command += ["--min-seq-id", str(identity), "-c", str(coverage), "--threads", str(threads), "-v", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ValueError(f"mmseqs failed: {(done.stderr or done.stdout).strip()[-500:]}")
        with pyarrow.csv.open_csv(
            f"{result}_cluster.tsv",
            pyarrow.csv.ReadOptions(column_names=["representative", "member"]),
            pyarrow.csv.ParseOptions(delimiter="\t"),
        ) as reader:
            for batch in reader:
                labels[batch["member"].to_numpy()] = batch["representative"].to_numpy()
    _name_after_first(labels)


def _name_after_first(labels: Labels) -> None:
    """The representative depends on the tool; the first row does not."""
    first = np.arange(len(labels))
    for block in blocks(len(labels)):
        np.minimum.at(first, labels[block], np.arange(block.start, block.stop))
    for block in blocks(len(labels)):
        labels[block] = first[labels[block]]


def label_column(partitions: list[PartitionTask], column: str, labels: Labels) -> None:
    """Rows of one value, such as a clone, get the number of the first of them; rows without stand alone."""
    first_of: dict[str, int] = {}
    row = 0
    for task in partitions:
        values = read_partition(task, [column])[column].combine_chunks().dictionary_encode()
        names = values.dictionary.to_pylist()
        codes = values.indices.to_numpy(zero_copy_only=False)
        known = values.is_valid().to_numpy(zero_copy_only=False)
        own = np.arange(row, row + len(values))
        if names:
            codes = codes[known].astype(np.int64)
            places = np.full(len(names), -1)
            places[codes[::-1]] = own[known][::-1]  # the last assignment is the first row
            firsts = np.array(
                [first_of.setdefault(name, int(place)) for name, place in zip(names, places, strict=True)]
            )
            own[known] = firsts[codes]
        labels[row : row + len(own)] = own
        row += len(own)


def create_labels(path: Path, num_rows: int) -> Labels:
    """An array on disk; written under a temporary name by the caller."""
    return np.lib.format.open_memmap(path, "w+", np.int64, (num_rows,))
