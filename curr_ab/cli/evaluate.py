"""`curr-ab evaluate SUITE`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from curr_ab.cli.shell import refuse_for_several, sentence
from curr_ab.evaluation.plan import PLANS, ClassificationPlan, SuitePlan
from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import Options, add_flags, option, read_flags, read_options

DESCRIPTION = "Measure models: every number with its error, once for each checkpoint, data set and setting."
_TEXT = {
    "loss": "measure the loss under fixed masks, as pretraining does",
    "regions": "measure the loss of each residue, masked alone, by region",
    "specificity": "cross-validate a head on the model",
    "pairing": "cross-validate a head on native against shuffled pairs",
    "fitness": "correlate scores with measured fitness",
}
_DATA = {
    "loss": "DATA is a folder made by `curr-ab data prepare`.",
    "regions": "DATA is a folder of `curr-ab data prepare`, `builtin`, or a table with region masks.",
    "specificity": "DATA are tables with the columns name, h_sequence, l_sequence and label.",
    "pairing": "DATA are tables of native pairs, or of labelled ones.",
    "fitness": "DATA are tables with the columns heavy, light and fitness, one for each assay.",
}


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(Options):
    """What is measured, and where the numbers go."""

    model: tuple[str, ...] = option(
        help="Models to measure: members, folders, Hub ids or PEFT adapters", metavar="MODEL"
    )
    data: tuple[str, ...] = option(help="Data to measure them on", metavar="DATA")
    out: Path = option(help="Folder of results, tables and figures", metavar="FOLDER")


def add_commands(commands: Any) -> None:
    """Add `evaluate` with a verb for each suite to the command line."""
    evaluate = commands.add_parser("evaluate", help="measure models on data", description=DESCRIPTION)
    suites = evaluate.add_subparsers(title="suites", metavar="SUITE", required=True)
    for suite, plan in PLANS.items():
        parser = suites.add_parser(
            suite, help=_TEXT[suite], description=f"{sentence(_TEXT[suite])} {_DATA[suite]}"
        )
        add_flags(parser, MeasureOptions)
        shared = [one.name for one in fields(SuitePlan)]
        add_flags(parser.add_argument_group("suite"), plan, leave_out=shared)
        add_flags(parser.add_argument_group("model"), SuitePlan)
        flags = parser.get_default("flags")
        if issubclass(plan, ClassificationPlan):  # the rest of the recipe is changed by settings
            flags |= {one.name: f"--set {one.name}=..." for one in fields(Recipe) if one.name not in flags}
        parser.set_defaults(run=run, suite=suite)


def run(args: argparse.Namespace) -> None:
    """Measure the models one after the other, then print the table of all of them."""
    from curr_ab.extras import needs_extra

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "evaluation runs in one process: start one for each model, on a GPU each, with the same --out"
        )
    options, given = read_options(args, MeasureOptions), read_flags(args, PLANS[args.suite])
    if "name" in given:
        refuse_for_several(options.model, "name", "models")
    with needs_extra("finetune" if args.suite in ("specificity", "pairing", "fitness") else "pretrain"):
        from curr_ab.evaluation.run import run_suite, write_tables

        for model in options.model:
            run_suite(args.suite, model, options.data, options.out, say=_say, **given)
        print(write_tables(options.out, args.suite))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
