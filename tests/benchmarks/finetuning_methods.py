"""Runs `auto` and every single method over the same folds; its tables are in `docs/small-data.md`.

    python -m benchmarks.finetuning_methods --out FOLDER [--data RECIPE:FILE ...] [--pairs N --tasks NAME ...]

Prints for each table of labels a Markdown table: every method and the best baseline, `auto` minus it with a
corrected t-test over folds, and processor time. What FOLDER holds is not computed again: the same command
goes on, and one with more methods adds to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.finetuning_sweep import planted
from curr_ab.files import read_object, write_json
from curr_ab.finetuning import cross_validate, resolve_recipe
from curr_ab.finetuning.beside import HEADLINES, read_comparisons
from curr_ab.finetuning.choice import Choice
from curr_ab.measures.fold_comparison import compare_predictions
from curr_ab.measures.fold_predictions import read_run
from curr_ab.quantities import format_value

METHODS = ("auto", "probe", "frozen", "lora", "dora", "full")
PROCESSOR = "processor_seconds.json"


def main() -> None:
    """Print the table of each set as soon as its methods have run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--data", nargs="*", default=[], metavar="RECIPE:FILE")
    parser.add_argument("--tasks", nargs="*", default=[], help="planted, see `curr-ab example-data`")
    parser.add_argument("--pairs", type=int, nargs="+", default=[100, 500, 2_000])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # The machine may be shared: all that a run times is processor time here.
    time.perf_counter = time.process_time
    tables = [tuple(each.split(":", 1)) for each in args.data]
    tables += [(task, str(planted(args.out, task, number))) for task in args.tasks for number in args.pairs]
    for recipe, file in tables:
        folder = args.out / f"{Path(recipe).stem} {Path(file).stem}"
        for method in args.methods:
            run(recipe, file, folder / method, method, args.model, args.folds)
        print(f"\n{folder.name}\n\n" + "\n".join(table(folder)), flush=True)


def run(recipe: str, file: str, folder: Path, method: str, model: str, folds: int) -> None:
    """Run a method, or go on with it; its processor time adds up over interruptions."""
    if (folder / "comparison.json").exists():
        return
    path = folder / PROCESSOR
    before = read_object(path)["seconds"] if path.exists() else 0.0
    began = time.process_time()
    try:
        settings = {"method": method, "folds": folds, "final": False}
        cross_validate(resolve_recipe(recipe, settings), model, [file], folder)
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"seconds": before + time.process_time() - began})


def table(folder: Path) -> Sequence[str]:
    """The lines of a set's table, of the methods that have run."""
    finished = [name for name in METHODS if (folder / name / "comparison.json").exists()]
    if "auto" not in finished:
        return ["`auto` has not run"]
    auto = read_run(folder / "auto")
    metric = HEADLINES[auto.target]
    [comparison] = read_comparisons(folder / "auto")
    best = comparison.best_baseline
    others = {name: read_run(folder / name) for name in finished[1:]}
    others[f"best baseline, {best}"] = read_run(folder / "auto", beside=best)
    lines = [f"| method | {metric} | `auto` minus it | p | processor time, s |", "|---|---:|---:|---:|---:|"]
    shown, values = "", {}
    for name, other in others.items():
        [found] = compare_predictions(auto, other, metrics=[metric]).metrics
        shown = format_value(found.first, found.first_error)
        values[name] = f"{name} | {format_value(found.second, found.second_error)}"
        if found.over_folds is not None:
            over = found.over_folds
            values[name] += f" | {found.first - found.second:+.3f} ({over.low:+.3f} to {over.high:+.3f})"
            values[name] += f" | {over.p:.2g}"
        else:
            values[name] += f" | {found.first - found.second:+.3f} | {found.p_predictions:.2g}"
        spent = f"{of_method(folder / name):.1f}" if name in finished else ""
        lines.append(f"| {values[name]} | {spent} |")
    lines.insert(2, f"| auto | {shown} | | | choice {of_choice(folder / 'auto'):.1f} |")
    methods = [Choice.read(path).named for path in sorted((folder / "auto").glob("fold-*"))]
    return [*lines, "", "chosen: " + "; ".join(methods)]


def of_method(run: Path) -> float:
    """Time of a method's fits; features, which the choice needs too, are left out of both."""
    return sum(float(read_object(path)["seconds"]) for path in run.glob("fold-*/seconds.json"))


def of_choice(run: Path) -> float:
    """Time of a choice: regressions, which are kept from the baselines beside the run, and trials."""
    beside = sum(float(read_object(path)["seconds"]) for path in run.glob("beside/*/fold-*/seconds.json"))
    return beside + sum(Choice.read(path).seconds for path in run.glob("fold-*"))


if __name__ == "__main__":
    main()
