"""Measures training and inference on GPUs, and writes the table of docs/benchmarks.md.

    python -m benchmarks.gpu [--sizes 8M 650M] [--kinds train recipe embed score ddp fsdp2] [--results FILE]

For each size: the trainer's own step by the published plan, without dropout, and with compiled layers;
beside it the recipe as published (stock `EsmForMaskedLM`, pairs padded to 320, stock collator, bf16 autocast,
32 pairs at once); embeddings and exact scores; for sizes that several GPUs train, DDP on those
that are here, and FSDP2 on one and on those. A step is 128 pairs of the built-in corpus. Tokens are those of
records, without padding. Shares are of the peak of dense bf16 products in the maker's data sheet, of all GPUs
together.

Every row has processes of its own, warms up, and is a median of several blocks of steps, each waited for. It
is written down when it is measured: the same command goes on after a kill, and tries a row again that failed.
Without a GPU the same code runs on tiny shapes as a rehearsal, whose figures are none and reach no document.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from curr_ab.family import SIZES
from curr_ab.files import write_json
from curr_ab.training.launch import launch_words

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
RESULTS = Path(__file__).with_suffix(".json")  # what the document shows
FSDP2 = ROOT / "train_scripts" / "accelerate" / "fsdp2.yaml"
UNMEASURED = (
    "Unmeasured: nothing here was run on a GPU. `cd tests && python -m benchmarks.gpu` measures on yours."
)
KINDS = ("train", "recipe", "embed", "score", "ddp", "fsdp2")


@dataclass(frozen=True)
class Row:
    """Something that is measured."""

    size: str
    kind: str
    what: str
    num_gpus: int = 1
    dropout: float = 0.0
    compile: bool = False

    @property
    def key(self) -> str:
        return f"{self.size}, {self.what}, {self.num_gpus} GPU{'s' * (self.num_gpus > 1)}"

    def launch(self) -> list[str]:
        """Words between Python and the module that measures the row."""
        if self.kind != "fsdp2":
            return launch_words(self.num_gpus)
        words = ["-m", "accelerate.commands.launch", "--config_file", str(FSDP2)]
        return [*words, "--num_processes", str(self.num_gpus), "--main_process_port", "0"]


@dataclass(frozen=True)
class Scale:
    """Amount of work in a row."""

    shape: Mapping[str, int]  # of a model that is smaller than the size's own
    pairs_per_step: int
    pairs_at_once: int  # of the recipe
    steps: int  # in a block
    blocks: int  # after one that warms up
    embedded: int
    scored: int


FULL = Scale({}, 128, 32, steps=30, blocks=5, embedded=4_096, scored=8)
TINY = Scale(
    {"hidden_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40},
    *(4, 2),
    steps=1,
    blocks=2,
    embedded=4,
    scored=1,
)


def rows(sizes: Sequence[str], kinds: Sequence[str], num_gpus: int) -> Iterator[Row]:
    """All rows for a machine with so many GPUs, small to large."""
    for size in (size for size in SIZES if size.name in sizes):
        several = [count for count in (2, 4, 8) if count <= num_gpus]
        of_size = [
            Row(size.name, "train", "published plan", dropout=0.1),
            Row(size.name, "train", "dropout 0"),
            Row(size.name, "train", "dropout 0, compiled", compile=True),
            Row(size.name, "recipe", "the recipe as published", dropout=0.1),
            Row(size.name, "embed", "embedding"),
            Row(size.name, "score", "exact score"),
        ]
        if size.num_gpus > 1:
            of_size += [Row(size.name, "ddp", "published plan, DDP", count, 0.1) for count in several]
            counts = [1, *several]
            of_size += [Row(size.name, "fsdp2", "published plan, FSDP2", count, 0.1) for count in counts]
        yield from (row for row in of_size if row.kind in kinds)


def left_out(row: Row) -> str:
    """Why a machine without GPUs does not run the row; empty where it does."""
    if row.kind in ("ddp", "fsdp2"):
        return "left out: needs GPUs"
    return "left out: a compiler takes minutes for it" if row.compile else ""


def measure(row: Row, scale: Scale, corpus: Path, minutes: float) -> dict[str, Any]:
    """What the row's processes found; `problem` where they could not."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        task = {"row": asdict(row), "scale": asdict(scale), "corpus": str(corpus), "folder": folder}
        words = [*row.launch(), "-m", "benchmarks.gpu_row", json.dumps(task), str(found)]
        ended = run_processes(words, minutes)
        if not found.exists():
            return {"problem": ended or "ended without a result"}
        measured: dict[str, Any] = json.loads(found.read_text())
        return measured


def run_processes(words: Sequence[str], minutes: float) -> str:
    """Run Python with these words and all that it starts to the end; why it ended if not well, in a line."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=60 * minutes)
    except subprocess.TimeoutExpired:
        return f"ended after {minutes:g} minutes"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode == 0:
        return ""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b[A-Z]\w*(Error|Exception): ", line)]
    last = lines[-1:] or [f"exit status {process.returncode}"]
    return (errors or last)[0][:300]  # the launcher's own error follows that of the process


def read_results(path: Path, machine: Mapping[str, Any]) -> dict[str, Any]:
    """The results so far, of this machine; empty ones where there are none."""
    if not path.exists():
        return {"machine": dict(machine), "rows": {}}
    results: dict[str, Any] = json.loads(path.read_text())
    if results["machine"] != machine:
        raise SystemExit(
            f"results must be of one machine and its packages; got {path} of {results['machine']}, and this "
            f"is {dict(machine)}: name another file with --results, or delete it"
        )
    return results


def table(results: Mapping[str, Any]) -> str:
    """The machine in a sentence, and a line for each row."""
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    peak = machine["peak_flops"]
    of = f"{peak / 1e12:,.0f} TFLOP/s a GPU" if peak else "unknown"
    lines = [
        f"{' and '.join(machine['devices'])}; driver {machine['driver']}; {packages}. Peak in bf16: {of}.",
        "",
        "| size | what | GPUs | speed | share of the peak | GiB a GPU | attention |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    order = [row.key for row in rows([size.name for size in SIZES], KINDS, 8)]
    return "\n".join([*lines, *(line_of(results["rows"][key]) for key in order if key in results["rows"])])


def line_of(row: Mapping[str, Any]) -> str:
    """A line of the table."""
    start = f"| {row['size']} | {row['what']} | {row['num_gpus']} | "
    if row.get("problem"):
        return f"{start}{row['problem'].replace('|', ' ')} | | | |"
    share = "" if row["share"] is None else f"{row['share']:.1%}"
    speed = f"{median(row['speeds']):,.0f} {row['unit']}s/s"
    return f"{start}{speed} | {share} | {row['memory_gib']:.1f} | {row['attention']} |"


def document_table() -> str:
    """What docs/benchmarks.md says of GPUs."""
    return table(json.loads(RESULTS.read_text())) if RESULTS.exists() else UNMEASURED


def run(
    wanted: Sequence[Row], scale: Scale, path: Path, machine: Mapping[str, Any], minutes: float
) -> dict[str, Any]:
    """Measure the rows that are not there yet, each written down at once."""
    from curr_ab.data import PreparationPlan, prepare

    results = read_results(path, machine)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        prepare("builtin", corpus, PreparationPlan(cluster="source"))
        for row in wanted:
            if row.key in results["rows"] and not results["rows"][row.key].get("problem"):
                continue
            problem = "" if machine["driver"] else left_out(row)
            found = {"problem": problem} if problem else measure(row, scale, corpus, minutes)
            results["rows"][row.key] = {**asdict(row), **found}
            write_json(path, results)
            print(line_of(results["rows"][row.key]), flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and on a GPU fill the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [size.name for size in SIZES]
    parser.add_argument("--sizes", nargs="+", default=names, choices=names, help="sizes to measure (all)")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, help="what to measure (all)")
    parser.add_argument("--results", type=Path, help="file of results (the document's on a GPU, else none)")
    parser.add_argument("--minutes", type=float, default=15, help="most that a row may take (%(default)s)")
    args = parser.parse_args(arguments)
    from benchmarks.gpu_row import describe_machine

    machine = describe_machine()
    if num_gpus := len(machine["devices"]) if machine["driver"] else 0:
        wanted = list(rows(args.sizes, args.kinds, num_gpus))
        run(wanted, FULL, args.results or RESULTS, machine, args.minutes)
        if args.results is None:
            subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py")], check=True)
        return
    if args.results and args.results.resolve() == RESULTS:
        raise SystemExit(
            f"results must be another file without a GPU; got {RESULTS}, which the document shows: name one"
        )
    print("no GPU here: a rehearsal on tiny shapes, whose figures are no GPU's and reach no document")
    with tempfile.TemporaryDirectory() as folder:
        path = args.results or Path(folder) / "rehearsal.json"
        run(list(rows(args.sizes, args.kinds, 0)), TINY, path, machine, args.minutes)


if __name__ == "__main__":
    main()
