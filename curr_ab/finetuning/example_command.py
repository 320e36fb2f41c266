"""`curr-ab example-data`: a table to try a recipe on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


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

        from curr_ab.data.atomic import replacing, write_parquet
        from curr_ab.finetuning.planting import plant
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
