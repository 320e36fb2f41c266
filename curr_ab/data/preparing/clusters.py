"""Clusters of pairs that must share a split: each row's label is the index of its cluster's first row."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from curr_ab.data.preparing.clonotypes import link_clonotypes
from curr_ab.data.preparing.components import Labels, blocks, new_array, repeated, settle, unite
from curr_ab.data.preparing.order import PartitionTask, first_rows, read_donors, read_partition
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.files import replacing, write_json
from curr_ab.options import OptionError
from curr_ab.workers import describe_end

AFTER_A_KILL = "run the same command again, it goes on"
INSTALL = "install it (Debian: apt-get install mmseqs2; conda: conda install -c bioconda mmseqs2)"


def require_mmseqs() -> str:
    """Path of the MMseqs2 binary; an error says how to install it."""
    binary = shutil.which("mmseqs")
    if binary is None:
        raise OptionError(
            f"the cluster mmseqs needs MMseqs2: {INSTALL}, or choose the cluster clonotype or exact",
            "cluster",
        )
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


# Ends its process group when its input ends, as that of a killed parent does: MMseqs2 starts others.
_GUARD = """
import os, subprocess, sys, threading
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def watch():
    sys.stdin.read()
    os.killpg(0, 9) if hasattr(os, "killpg") else process.kill()
threading.Thread(target=watch, daemon=True).start()
code = process.wait()
os.kill(os.getpid(), -code) if code < 0 else os._exit(code)
"""


def _run_mmseqs(command: list[str]) -> None:
    guarded = [sys.executable, "-c", _GUARD, *command]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(guarded, start_new_session=True, text=True, **pipes) as process:  # type: ignore[call-overload]
        said = process.stdout.read()  # the guard's input stays open meanwhile
        status = process.wait()
    if status != 0:
        last = [line.strip() for line in said.splitlines() if line.strip()][-1:]
        end = describe_end(status) if status < 128 else describe_end(128 - status)  # a shell's word for it
        raise ValueError(": ".join([f"MMseqs2 {end}", *last]) + f"; {AFTER_A_KILL}")


def link_similar(
    plan: PreparationPlan, partitions: list[PartitionTask], labels: Labels, *, threads: int, folder: Path
) -> None:
    """Unite the rows of each cluster of MMseqs2's linear-time clustering."""
    binary = require_mmseqs()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fasta, result = Path(scratch, "pairs.fasta"), Path(scratch, "result")
        _write_fasta(partitions, fasta)
        command = [binary, "easy-linclust", str(fasta), str(result), str(Path(scratch, "tmp"))]
        command += ["--min-seq-id", str(plan.identity), "-c", str(plan.coverage)]
        command += ["--threads", str(threads), "-v", "1"]
        _run_mmseqs(command)
        with pyarrow.csv.open_csv(
            f"{result}_cluster.tsv",
            pyarrow.csv.ReadOptions(column_names=["representative", "member"]),
            pyarrow.csv.ParseOptions(delimiter="\t"),
        ) as reader:
            for batch in reader:
                unite(labels, batch["member"].to_numpy(), batch["representative"].to_numpy())


def _clones(partitions: list[PartitionTask]) -> Iterator[tuple[Labels, pa.Array]]:
    for task, start in zip(partitions, first_rows(partitions), strict=True):
        clones = read_partition(task, ["clone"])["clone"].combine_chunks()
        yield start + np.flatnonzero(clones.is_valid()), clones.drop_null()


def _donors(partitions: list[PartitionTask]) -> Iterator[tuple[Labels, pa.Array]]:
    """Also those of duplicates that were dropped."""
    for task, start in zip(partitions, first_rows(partitions), strict=True):
        donors = read_donors(task)
        yield start + donors["row"].to_numpy(), donors["donor"].combine_chunks()


def link_values(labels: Labels, values: Iterator[tuple[Labels, pa.Array]]) -> int:
    """Unite the rows of each value, such as those of a donor; return the number of rows that have one.

    Clusters that share a donor cannot be held apart, nor can those of donors who share one.
    """
    first_of: dict[str, int] = {}
    num_known = 0
    for rows, column in values:
        encoded = column.dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        here = dict(zip(codes.tolist(), rows.tolist(), strict=True))  # a row of each value
        names = enumerate(encoded.dictionary.to_pylist())
        firsts = np.array([first_of.setdefault(name, here[code]) for code, name in names], np.int64)
        unite(labels, rows, firsts[codes])
        num_known += len(np.unique(rows))
    return num_known


def write_labels(
    plan: PreparationPlan,
    partitions: list[PartitionTask],
    *,
    sequence_keys: Path,
    folder: Path,
    processes: int,
) -> Path:
    """Write the labels of all rows, unless an earlier run did; return their path.

    Equal heavy chains, and equal light chains that stand alone, are one cluster whatever else is.
    """
    path = folder / "labels.npy"
    if path.exists():
        return path
    keys = np.load(sequence_keys, mmap_mode="r")
    with replacing(path) as temporary:
        labels = new_array(temporary, np.int64, len(keys))
        for block in blocks(len(labels)):
            labels[block] = np.arange(block.start, block.stop)
        if plan.cluster == "source":
            link_values(labels, _clones(partitions))
        else:
            for rows, firsts in repeated(keys, folder):
                labels[rows] = firsts
        if plan.cluster == "mmseqs":
            link_similar(plan, partitions, labels, threads=processes, folder=folder)
        elif plan.cluster == "clonotype":
            link_clonotypes(partitions, first_rows(partitions), labels, plan.cdr3_identity)
        if plan.group_by_donor:
            num_known = link_values(labels, _donors(partitions))
            write_json(donors_path(path), {"pairs_without_donor": len(labels) - num_known})
        settle(labels)
        labels.flush()
    return path


def donors_path(labels: Path) -> Path:
    """Path of the number of pairs without a donor, where donors are held apart."""
    return labels.with_name("donors.json")
