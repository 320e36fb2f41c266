"""`curr-ab finetune`, and the same for `accelerate launch`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curr_ab.finetuning.recipe import Recipe, options, resolve_recipe, shipped_recipes

DESCRIPTION = """Fine-tune a member for a task: a fit for each fold, what each predicts, metrics, an adapter.

RECIPE is {recipes}, or a YAML file of your own.
The same command goes on where the run in OUT stands. To use several devices, start the same arguments with
`accelerate launch --config_file train_scripts/accelerate/ddp.yaml train_scripts/finetune.py`."""


def add_commands(commands: Any) -> None:
    """Add `finetune` to the command line."""
    parser = commands.add_parser(
        "finetune",
        help="fine-tune a member for a task, with cross-validation",
        description=_description(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _description() -> str:
    return DESCRIPTION.format(recipes=", ".join(shipped_recipes()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe's fields as options, and what is not part of a recipe."""
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a YAML file")
    parser.add_argument("--model", required=True, help="member, folder or repository, such as 350M-F")
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="FILE", help="labelled pairs: CSV, TSV, Parquet, hf://…"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the run")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the recipe and what it takes; train nothing"
    )
    recipe = parser.add_argument_group("recipe (overrides the file; written `name: value` in it)")
    for name, kind, help in options():
        if name == "name":
            continue
        flag = "--" + name.replace("_", "-")
        default = getattr(Recipe, name)
        shown = f"{help} ({' '.join(map(str, default)) if isinstance(default, tuple) else default})"
        if kind is bool:
            recipe.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=shown)
        else:
            several = "*" if isinstance(default, tuple) else None
            recipe.add_argument(flag, metavar=name.rpartition("_")[2].upper(), help=shown, nargs=several)


def run(args: argparse.Namespace) -> None:
    """Resolve the recipe, then print what it takes or fine-tune."""
    recipe = resolve_recipe(args.recipe, _given(args))
    if args.dry_run:
        from curr_ab.finetuning.preview import preview

        print(preview(recipe, args.model, args.data))
        return
    if args.out is None:
        raise ValueError("name the folder of the run: --out FOLDER")
    from curr_ab.finetuning import cross_validate
    from curr_ab.training.stopping import Interrupted

    try:
        cross_validate(recipe, args.model, args.data, args.out, figures=True)
    except Interrupted as stopped:
        print(f"finetune: {stopped}", file=sys.stderr)
        raise SystemExit(stopped.exit_status) from stopped


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What was given on the command line; text means what it would mean in YAML."""
    import yaml

    given: dict[str, Any] = {}
    for name, kind, _ in options():
        value = getattr(args, name, None)
        if name == "name" or value is None:
            continue
        is_text = isinstance(value, list) or kind in (str, str | None)  # labels, matrices, columns
        given[name] = value if is_text or isinstance(value, bool) else yaml.safe_load(value)
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """The command of `train_scripts/finetune.py`; exit status 2 for bad input, 128 + N after signal N."""
    parser = argparse.ArgumentParser(
        description=_description(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError) as error:
        print(f"finetune: {error}", file=sys.stderr)
        return 2
    return 0


def add_example_command(commands: Any) -> None:
    """Add `example-data` to the command line."""
    parser = commands.add_parser(
        "example-data",
        help="labelled pairs with a planted signal, to try a recipe on",
        description="Pairs of the built-in corpus with what a shipped recipe learns planted into them.",
    )
    parser.add_argument("task", metavar="RECIPE", help="name of a shipped recipe, such as specificity-binary")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".csv, .tsv or .parquet")
    parser.add_argument("--pairs", type=int, default=600, help="how many (600)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from curr_ab.extras import needs_extra

    with needs_extra("finetune"):
        import pyarrow.csv

        from curr_ab.files import replacing, write_parquet
        from curr_ab.finetuning.example_data import plant
    delimiters = {".csv": ",", ".tsv": "\t"}
    if args.out.suffix not in (*delimiters, ".parquet"):
        raise ValueError(f"{args.out} must end in .csv, .tsv or .parquet")
    table = plant(args.task, args.pairs, args.seed)
    if args.out.suffix == ".parquet":
        write_parquet(args.out, table)
        return
    with replacing(args.out) as temporary:
        options = pyarrow.csv.WriteOptions(delimiter=delimiters[args.out.suffix])
        pyarrow.csv.write_csv(table, temporary, options)
