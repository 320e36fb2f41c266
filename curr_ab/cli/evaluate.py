"""`curr-ab evaluate SUITE`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from curr_ab.evaluation.plan import PLANS, options_of

DESCRIPTION = "Measure models: every number with its error, once for each checkpoint, data set and setting."
_DATA = {
    "loss": "folder made by `curr-ab data prepare`",
    "regions": "such a folder, `builtin`, or a table of pairs with region masks",
    "specificity": "table(s) `name, h_sequence, l_sequence, label`",
    "pairing": "table(s) of native pairs, or of labelled ones",
    "fitness": "a table `heavy, light, fitness` for each assay",
}


def add_commands(commands: Any) -> None:
    """Add `evaluate` with its suites to the command line."""
    evaluate = commands.add_parser("evaluate", help="measure models on data", description=DESCRIPTION)
    add_suites(evaluate)


def add_suites(parser: argparse.ArgumentParser) -> None:
    """A verb for each suite, with the fields of its plan as options."""
    verbs = parser.add_subparsers(title="suites", metavar="SUITE", required=True, dest="suite")
    for suite, plan in PLANS.items():
        about = (plan.__doc__ or "").strip().rstrip(".")
        verb = verbs.add_parser(suite, help=about[:1].lower() + about[1:], description=about + ".")
        verb.add_argument(
            "--model",
            action="append",
            required=True,
            metavar="MODEL",
            help="member, folder, Hub id or PEFT adapter; once for each model",
        )
        verb.add_argument("--data", nargs="+", required=True, metavar="DATA", help=_DATA[suite])
        verb.add_argument(
            "--out", type=Path, required=True, metavar="FOLDER", help="results, tables, figures"
        )
        _add_options(verb, suite)
        verb.set_defaults(run=run)


def _add_options(parser: argparse.ArgumentParser, suite: str) -> None:
    for name, kind, help in options_of(suite):
        default = getattr(PLANS[suite], name)
        choices = get_args(kind) if get_origin(kind) is Literal else None
        several = isinstance(default, tuple)
        shown = " ".join(map(str, default)) if several else default
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            default=default,
            choices=choices,
            type=int if int in (kind, *get_args(kind)) else str,
            nargs="*" if several else None,
            metavar=None if choices else name.rpartition("_")[2].upper(),
            help=help if shown in (None, "") else f"{help} ({shown})",
        )


def run(args: argparse.Namespace) -> None:
    """Measure the models one after the other, then print the table of all of them."""
    from curr_ab.extras import needs_extra

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "evaluation runs in one process: start one for each model, on a GPU each, with the same --out"
        )
    options = {name: getattr(args, name) for name, _, _ in options_of(args.suite)}
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if options["name"] is not None and len(args.model) > 1:
        raise ValueError("--name names one model; leave it out where there are several")
    with needs_extra("finetune" if args.suite in ("specificity", "pairing", "fitness") else "pretrain"):
        from curr_ab.evaluation.run import run_suite
        from curr_ab.evaluation.tables import write_tables

        for model in args.model:
            run_suite(args.suite, model, args.data, args.out, say=_say, **options)
        print(write_tables(args.out, args.suite))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
