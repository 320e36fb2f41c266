"""Measures ways to fine-tune on small data, each over the same folds; its table is in `docs/small-data.md`.

    python -m benchmarks.finetuning_sweep --out FOLDER [--pairs N ...] [--ways NAME ...] [--data R:FILE ...]

Tables are those of `curr-ab example-data` with a planted signal, and with --data files of one's own, each
with the recipe R (a name or a YAML file) that reads it. What FOLDER holds is not computed again, so the same
command goes on, and one with more ways adds to it. A way is the recipe but for what it names.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

PLANTED = ("specificity-multiclass", "developability")
# As the recipes were before: a new head on <cls>, their epochs, no early stopping.
BEFORE = {"pooling": "cls", "start": "random", "fewest_steps": 0, "early_stopping": 0}
LAST = {"layers": 1}
WAYS: dict[str, dict[str, Any]] = {
    "probe, <cls>": {"method": "probe", "features": "cls"},
    "probe, mean per chain": {"method": "probe", "features": "mean-per-chain"},
    "probe": {"method": "probe"},
    "frozen, as published": {"method": "frozen"},
    "lora, as before": BEFORE,
    "lora, before, mean per chain": {**BEFORE, "pooling": "mean_per_chain"},
    "lora, before, mean per chain, 200 steps": {**BEFORE, "pooling": "mean_per_chain", "fewest_steps": 200},
    "lora": {},
    "lora, new head": {"start": "random"},
    "lora, all epochs": {"early_stopping": 0},
    "lora, last layer": LAST,
    "lora, last layer, rate 1e-4": {**LAST, "learning_rate": 1e-4},
    "lora, last layer, rate 1e-3": {**LAST, "learning_rate": 1e-3},
    "lora, last layer, rank 2": {**LAST, "rank": 2},
    "lora, last layer, rank 32": {**LAST, "rank": 32, "alpha": 64},
    "lora, last layer, <cls>": {**LAST, "pooling": "cls"},
    "lora, last layer, new head": {**LAST, "start": "random"},
    "dora, last layer": {**LAST, "method": "dora"},
    "full": {"method": "full"},
}
SHOWN = {"classes": ("auroc", "accuracy"), "number": ("spearman", "pearson"), "residues": ("aupr", "auroc")}


def main() -> None:
    """Print a line for each way and table as soon as it is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--pairs", type=int, nargs="+", default=[200])
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="NAME")
    parser.add_argument("--tasks", nargs="*", default=list(PLANTED))
    parser.add_argument("--data", nargs="*", default=[], metavar="RECIPE:FILE")
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="for every way")
    args = parser.parse_args()
    tables = [(task, str(planted(args.out, task, number))) for task in args.tasks for number in args.pairs]
    tables += [tuple(each.split(":", 1)) for each in args.data]
    for recipe, file in tables:
        for way in args.ways:
            print(line(args, recipe, file, way), flush=True)


def planted(out: Path, task: str, num_pairs: int) -> Path:
    """The file of so many labelled pairs."""
    import pyarrow.parquet as pq

    from curr_ab.finetuning import plant

    path = out / f"{task}-{num_pairs}.parquet"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        pq.write_table(plant(task, num_pairs, seed=1), path)
    return path


def line(args: argparse.Namespace, name: str, file: str, way: str) -> str:
    """The table, the way, its seconds and its metrics, computed now or read."""
    from curr_ab.finetuning import cross_validate, resolve_recipe
    from curr_ab.finetuning.recipe import Recipe
    from curr_ab.options import read_settings
    from curr_ab.results import read_results

    given = read_settings(tuple(args.set), Recipe, "recipe")
    recipe = resolve_recipe(
        name, {"folds": args.folds, "final": False, "method": "lora", **given, **WAYS[way]}
    )
    folder = args.out / f"{Path(file).stem} {recipe.name}" / way.replace("<", "").replace(">", "")
    seconds = folder / "seconds.json"
    if not seconds.exists():
        began = time.perf_counter()
        cross_validate(recipe, args.model, [file], folder)
        seconds.write_text(json.dumps(time.perf_counter() - began))
    rows = [row for row in read_results(folder / "results.json") if "fold" not in row.details]
    metrics = {row.metric: row.shown for row in rows}
    shown = " | ".join(metrics[metric] for metric in SHOWN[recipe.target])
    return f"| {Path(file).stem} | {way} | {shown} | {json.loads(seconds.read_text()):.0f} s |"


if __name__ == "__main__":
    main()
