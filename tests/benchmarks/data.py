"""Measures `prepare` on a synthetic archive in the OAS format: pairs per second, peak memory, growth of time.

    python -m benchmarks.data [PAIRS] [--processes N] [--cluster exact] [--wide] [--other FOLDER] [--runs N]

The archive is made in a temporary folder and goes with it. PAIRS is 1,000,000 in 100 files unless given; a
tenth of it is measured first, and the two figures tell whether time grows linearly. FOLDER is another version
of the project, such as a work tree of an earlier commit, which prepares the same files in turn; of several
runs the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from support.whole_chains import single_chain, whole_chain

from curr_ab.data.preparing.components import repeated
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.cut import DomainCutter
from curr_ab.data.reading.formats import builtin_path
from curr_ab.data.reading.pairs import read_source
from curr_ab.data.reading.table import Recognised
from curr_ab.domains import find_domains
from curr_ab.words import CHAINS

PAIRS_PER_FILE = 10_000
RUN = """
import sys
try:
    from curr_ab.cli.main import main
except ImportError:  # of an earlier commit
    from curr_ab.cli import main
sys.exit(main())
"""
CURR_AB = [sys.executable, "-c", RUN]
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
CODONS = dict(
    zip(
        RESIDUES,
        "GCT TGT GAT GAA TTT GGT CAT ATT AAA CTG ATG AAC CCA CAG CGT TCT ACC GTG TGG TAC".split(),  # noqa: SIM905
        strict=True,
    )
)
PIECES = ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4")
COLUMNS = (
    *("sequence_id", "sequence", "locus", "stop_codon", "vj_in_frame", "productive", "v_call", "d_call"),
    *("j_call", "sequence_alignment", "germline_alignment", "sequence_alignment_aa", "v_identity"),
    *(f"{piece}_aa" for piece in PIECES),
    "junction_aa",
)
WIDTH = 99  # columns of a chain in OAS itself
METADATA = {"Run": "SRR0000000", "Author": "Simulated et al., 2026", "Species": "human", "Disease": "None"}


def varied(residues: str, places: list[int], letters: list[int]) -> str:
    """The chain with residues replaced, so that a small corpus makes a large archive of different pairs."""
    out = list(residues)
    for place, letter in zip(places, letters, strict=True):
        out[place % len(out)] = RESIDUES[letter]
    return "".join(out)


def fields(row: dict[str, str], chain: str, residues: str) -> list[str]:
    nucleotides = "".join(map(CODONS.__getitem__, residues))
    lengths = [len(list(run)) for _, run in groupby(row[f"region_mask_{chain}"])]
    pieces = [residues[a:b] for a, b in pairwise(accumulate([0, *lengths]))]
    locus = row[f"v_call_{chain}"][:3]
    calls = [row[f"v_call_{chain}"], row["d_call_heavy"] if chain == "heavy" else "", row[f"j_call_{chain}"]]
    head = [row["id"], nucleotides, locus, "F", "T", "T", *calls, nucleotides, nucleotides, residues, "97.5"]
    return [*head, *pieces, f"C{pieces[5]}W"]


def filler(residues: str) -> list[str]:
    """What OAS has beside the columns that are read: alignments, places, numbers, and ANARCI's numbering."""
    numbering = str({f"{place} ": residue for place, residue in enumerate(residues, 1)})
    texts = [*["".join(map(CODONS.__getitem__, residues))] * 7, *[residues] * 10, f'"{numbering}"']
    return [*texts, *["295"] * (WIDTH - len(COLUMNS) - len(texts))]


def write_unit(folder: Path, number: int, wide: bool = False) -> None:
    """One paired data unit, with the metadata line of OAS and its columns (nucleotides included)."""
    random = np.random.default_rng(number)
    corpus = pq.read_table(builtin_path()).to_pylist()
    lines = [json.dumps(json.dumps(METADATA | {"Subject": f"Subject-{number}"})).replace('\\"', '""')]
    names = [*COLUMNS, *(f"filler_{place}" for place in range(WIDTH - len(COLUMNS) if wide else 0))]
    lines.append(",".join(f"{column}_{chain}" for chain in CHAINS for column in names))
    rows = random.integers(0, len(corpus), PAIRS_PER_FILE).tolist()
    places = random.integers(0, 1 << 20, (PAIRS_PER_FILE, 4)).tolist()
    letters = random.integers(0, len(RESIDUES), (PAIRS_PER_FILE, 4)).tolist()
    for row, place, letter in zip(rows, places, letters, strict=True):
        pair = corpus[row]
        heavy, light = varied(pair["heavy"], place, letter), varied(pair["light"], place, letter)
        of_chains = [fields(pair, "heavy", heavy), fields(pair, "light", light)]
        if wide:
            of_chains = [[*of_chains[0], *filler(heavy)], [*of_chains[1], *filler(light)]]
        lines.append(",".join([*of_chains[0], *of_chains[1]]))
    with gzip.open(folder / f"unit_{number:04d}_paired.csv.gz", "wt", compresslevel=6) as file:
        file.write("\n".join(lines) + "\n")


def memory(process_id: int) -> int:
    """Resident bytes of a process and all that it started; pages that they share count more than once."""
    total, waiting = 0, [process_id]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            waiting += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # files come and go while the run goes on
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def measure(
    files: list[Path], out: Path, processes: int, cluster: str, project: Path | None = None
) -> tuple[float, float, int, int]:
    """Seconds, processor seconds, peak memory and peak disk of one `curr-ab data prepare`."""
    command = [*CURR_AB, "data", "prepare", *map(str, files), "--out", str(out)]
    command += ["--cluster", cluster, "--processes", str(processes), "--quiet"]
    environment = os.environ if project is None else {**os.environ, "PYTHONPATH": str(project)}
    start, peak, disk, before = time.perf_counter(), 0, 0, processor_seconds()
    process = subprocess.Popen(command, env=environment)
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        disk = max(disk, folder_bytes(out)) if out.exists() else disk
        time.sleep(0.1)
    if process.returncode != 0:
        raise SystemExit(f"prepare failed with status {process.returncode}")
    return time.perf_counter() - start, processor_seconds() - before, peak, disk


def processor_seconds() -> float:
    """Of all processes that were started here and have ended, and of those that they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_labels(num_keys: int, folder: Path) -> float:
    """Processor seconds of finding equal keys among random ones, of which a tenth are."""
    keys = np.random.default_rng(0).integers(0, 1 << 63, num_keys, np.uint64) * np.uint64(2)
    keys[::10] = keys[1::10]
    start = time.process_time()
    if sum(len(rows) for rows, _ in repeated(keys, folder)) < num_keys // 10:
        raise SystemExit("equal keys were not found")
    return time.process_time() - start


def measure_alignment(count: int = 1_000) -> dict[str, float]:
    """Chains of one core and second, by what stands beside their domains."""
    rows, draw = pq.read_table(builtin_path()).slice(0, count).to_pylist(), random.Random(0)
    kinds = {
        "bare domains": [row["heavy"] for row in rows],
        "contigs": [whole_chain(row["heavy"], "heavy", draw)[: len(row["heavy"]) + 60] for row in rows],
        "scFvs": [single_chain(row["heavy"], row["light"], draw).text for row in rows],
    }
    find_domains(rows[0]["heavy"])  # loads the matrices
    speeds = {}
    for kind, chains in kinds.items():
        start = time.process_time()
        for chain in chains:
            find_domains(chain)
        speeds[kind] = count / (time.process_time() - start)
    return speeds


def without_outcomes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch as a cutter leaves it that aligned nothing."""
    for chain in CHAINS:
        batch = batch.append_column(f"domain_{chain}", pa.nulls(len(batch), pa.string()))
        for side in ("start", "end"):
            batch = batch.append_column(f"domain_{side}_{chain}", pa.nulls(len(batch), pa.int32()))
    return batch


def measure_cutting(unit: Path) -> tuple[float, float, int]:
    """Processor seconds of reading a unit as it is and with no chain aligned, and how many chains are."""

    def seconds() -> tuple[float, int]:
        recognised: list[Recognised] = []
        start = time.process_time()
        for _ in read_source(str(unit), ColumnNames(), "paired", recognised=recognised):
            pass
        return time.process_time() - start, sum(recognised[0].aligned.values())

    seconds()  # loads what is loaded once
    with_cutting, num_aligned = min(seconds() for _ in range(3))
    with mock.patch.object(DomainCutter, "cut", lambda cutter, batch: without_outcomes(batch)):
        without, _ = min(seconds() for _ in range(3))
    return with_cutting, without, num_aligned


def clusters(out: Path) -> int:
    report = json.loads((out / "dataset.json").read_text())["report"]
    return sum(report["clusters"].values())


def main() -> None:
    """Print one line for each size and the ratio of the two times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cluster", choices=("clonotype", "exact", "mmseqs"), default="exact")
    parser.add_argument("--other", type=Path)
    parser.add_argument("--runs", type=int, default=1, help="of each size and version, in turn")
    parser.add_argument("--wide", action="store_true", help=f"{WIDTH} columns a chain, as OAS has, for 21")
    args = parser.parse_args()
    if args.other is not None and not (args.other / "curr_ab").is_dir():
        parser.error(f"{args.other} is no work tree of the project")
    for kind, speed in measure_alignment().items():
        print(f"{kind}: {speed:,.0f} aligned in a second on one core")
    num_files = max(10, args.pairs // PAIRS_PER_FILE)
    with tempfile.TemporaryDirectory(prefix="curr_ab_bench_") as name:
        folder = Path(name)
        with ProcessPoolExecutor(args.processes) as pool:
            list(pool.map(write_unit, [folder] * num_files, range(num_files), [args.wide] * num_files))
        files = sorted(folder.glob("*.csv.gz"))
        size = sum(file.stat().st_size for file in files)
        print(f"archive: {num_files} files, {size / 1e6:.0f} MB compressed")
        with_cutting, without, num_aligned = measure_cutting(files[0])
        print(f"a file is read in {with_cutting:.2f} s, {num_aligned} chains aligned; ", end="")
        print(f"in {without:.2f} s if none was")
        labels = [measure_labels(10 * number, folder / "keys") for number in (args.pairs, 5 * args.pairs)]
        print(
            f"equal ones of {10 * args.pairs:,} keys are found in {labels[0]:.2f} processor seconds; ", end=""
        )
        print(f"five times the keys take {labels[1] / labels[0]:.1f} times the time")
        seconds: dict[tuple[int, Path | None], list[float]] = defaultdict(list)
        for count in (num_files // 10, num_files):
            pairs = count * PAIRS_PER_FILE
            for project in ((None, args.other) if args.other else (None,)) * args.runs:
                name = "" if project is None else f" by {project}"
                out = folder / f"out{count}"
                wall, used, peak, disk = measure(files[:count], out, args.processes, args.cluster, project)
                seconds[pairs, project].append(used)
                print(f"{pairs:>9,} pairs{name}: {used:6.1f} processor seconds, {wall:6.1f} s, ", end="")
                print(f"{pairs / wall:,.0f} pairs/s, peak memory {peak / 1e9:.2f} GB, ", end="")
                print(f"peak disk {disk / 1e6:,.0f} MB, {clusters(out):,} clusters", flush=True)
                shutil.rmtree(out)
            if args.other:
                ratio = median(seconds[pairs, None]) / median(seconds[pairs, args.other])
                print(f"{pairs:>9,} pairs: {ratio:.2f} times the processor seconds of the other")
        small, large = sorted(pairs for pairs, project in seconds if project is None)
        growth = median(seconds[large, None]) / median(seconds[small, None])
        print(f"{large / small:.0f} times the pairs take {growth:.1f} times the processor seconds")


if __name__ == "__main__":
    main()
