"""`curr-ab evaluate SUITE` measures models, and `curr-ab compare` sets two runs side by side."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.cli.shell import add_command, refuse_for_several, say
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.evaluation.plan import PLANS, ClassificationPlan, SuitePlan, TablePlan
from curr_ab.extras import needs_extra
from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import OptionError, Options, add_flags, option, read_flags, read_options

if TYPE_CHECKING:
    from curr_ab.evaluation.comparison import LossComparison
    from curr_ab.measures.fold_comparison import Comparison

# The line of each suite in the list, and the data that it takes.
_SUITES = {
    "loss": (
        "measure the loss under fixed masks, as pretraining does",
        "DATA is a folder made by `curr-ab data prepare`.",
    ),
    "regions": (
        "measure the loss of each residue, masked alone, by region",
        "DATA is a folder of `curr-ab data prepare`, `builtin`, or a table with region masks.",
    ),
    "specificity": (
        "cross-validate a head on the model",
        "DATA are tables with the columns name, h_sequence, l_sequence and label.",
    ),
    "pairing": (
        "cross-validate a head on native against shuffled pairs",
        "DATA are tables of native pairs, or of labelled ones.",
    ),
    "fitness": (
        "correlate scores with measured fitness",
        "DATA are tables with the columns heavy, light and fitness, one for each assay.",
    ),
    "generation": (
        "judge pairs that a model draws, or those of a file, against real ones",
        "DATA are held-out pairs: a folder of `curr-ab data prepare`, `builtin`, or tables. MODEL may also "
        "be a table of pairs that any generator made.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(Options):
    """Models, data, and the folder of results."""

    model: tuple[str, ...] = option(
        help="Models to measure: members, folders, Hub ids or PEFT adapters", metavar="MODEL"
    )
    data: tuple[str, ...] = option(help="Data to measure them on", metavar="DATA")
    out: Path = option(help="Folder of results, tables and figures", metavar="FOLDER")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Options):
    """The comparison, and how it is printed."""

    metric: tuple[str, ...] = option((), "Metrics to compare, such as auroc", shown="all", metavar="NAME")
    column: str | None = option(
        None, "Column that is compared, of runs that learn several at once", metavar="NAME"
    )
    draws: int = option(1_000, "Number of draws of the permutation test", least=1)
    seed: int = option(0, "Seed of the random draws", least=0)
    json: bool = option(False, "Print JSON rather than a table")


def add_commands(commands: Any) -> None:
    """Add `evaluate` with a verb for each suite, and `compare`, to the command line."""
    about = "Measure models: every number with its error, once for each checkpoint, data set and setting."
    evaluate = commands.add_parser("evaluate", help="measure models on data", description=about)
    suites = evaluate.add_subparsers(title="suites", metavar="SUITE", required=True)
    for suite, plan in PLANS.items():
        text, data = _SUITES[suite]
        parser = add_command(suites, suite, text, _evaluate, MeasureOptions, more=f" {data}")
        shared = [one.name for one in fields(SuitePlan)]
        add_flags(parser.add_argument_group("suite"), plan, leave_out=shared)
        if issubclass(plan, TablePlan):
            add_flags(parser.add_argument_group("input"), ColumnNames)
        add_flags(parser.add_argument_group("model"), SuitePlan)
        flags = parser.get_default("flags")
        if issubclass(plan, ClassificationPlan):  # the rest of the recipe is changed by settings
            flags |= {one.name: f"--set {one.name}=..." for one in fields(Recipe) if one.name not in flags}
        parser.set_defaults(suite=suite)
    text = "compare two fine-tunings on the same folds, or two losses: means, differences, paired tests"
    compare = add_command(commands, "compare", text, _compare, CompareOptions)
    compare.add_argument("first", metavar="RUN", help="Folder of `curr-ab finetune`, or OUT/loss/MODEL-KEY")
    compare.add_argument("second", metavar="RUN", help="Another, on the same examples and folds, or masks")


def _evaluate(args: argparse.Namespace) -> None:
    """Measure the models one after the other, then print the table of all of them."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "evaluation runs in one process: start one for each model, on a GPU each, with the same --out"
        )
    options, given = read_options(args, MeasureOptions), read_flags(args, PLANS[args.suite])
    if issubclass(PLANS[args.suite], TablePlan):
        given["names"] = read_options(args, ColumnNames)
    if "name" in given:
        refuse_for_several(options.model, "name", "models")
    with needs_extra("evaluate"):
        from curr_ab.evaluation.run import run_suite, write_tables

        for model in options.model:
            run_suite(args.suite, model, options.data, options.out, say=_say, **given)
        say(write_tables(options.out, args.suite))


def _say(line: str) -> None:
    say(line, file=sys.stderr, flush=True)


def _compare(args: argparse.Namespace) -> None:
    options = read_options(args, CompareOptions)
    from curr_ab.evaluation import compare_losses, compare_runs
    from curr_ab.evaluation.comparison import is_loss

    if is_loss(args.first) or is_loss(args.second):
        if options.metric:
            raise OptionError("metric must be none for folders of the suite loss, which have one", "metric")
        if options.column is not None:
            raise OptionError("column must be none for folders of the suite loss", "column")
        losses = compare_losses(args.first, args.second, draws=options.draws, seed=options.seed)
        say(json.dumps(losses.to_dict(), indent=1) if options.json else loss_table(losses))
        return
    comparison = compare_runs(
        args.first,
        args.second,
        column=options.column,
        metrics=options.metric,
        draws=options.draws,
        seed=options.seed,
    )
    say(json.dumps(comparison.to_dict(), indent=1) if options.json else table(comparison))


def table(runs: Comparison) -> str:
    """The comparison as text."""
    lines = [
        f"{runs.task}: {runs.first} (first) and {runs.second} (second), {runs.num_folds} folds, "
        f"{runs.num_pairs:,} pairs; mean ± standard error over folds",
        "",
        f"{'metric':<17} {'first':>15} {'second':>15} {'difference [95 %]':>27} {'p folds':>8} {'p pred':>8}",
    ]
    for row in runs.metrics:
        first, second = _mean(row.first, row.first_error), _mean(row.second, row.second_error)
        between, p_folds = f"{row.first - row.second:+.4f}", ""
        if row.over_folds is not None:
            between += f" [{row.over_folds.low:+.4f}, {row.over_folds.high:+.4f}]"
            p_folds = f"{row.over_folds.p:.3g}"
        lines.append(
            f"{row.metric:<17} {first:>15} {second:>15} {between:>27} {p_folds:>8} {row.p_predictions:>8.3g}"
        )
    exact = [row.metric for row in runs.metrics if row.test_of_predictions == "exact McNemar"]
    by = f"swapping the predictions of {runs.num_units:,} {runs.units}"
    lines += [
        "",
        "p folds: corrected resampled t-test (Nadeau and Bengio): would other training data say the same?",
        f"p pred: {by}{f'; {exact[0]} by the exact McNemar test' if exact else ''}: would other examples?",
        "Nothing is corrected for looking at several metrics.",
    ]
    return "\n".join(lines)


def loss_table(losses: LossComparison) -> str:
    """The comparison of two losses as text."""
    rows = {
        losses.first: losses.first_loss,
        losses.second: losses.second_loss,
        "difference": losses.difference,
    }
    width = max(map(len, rows))
    return "\n".join(
        [
            f"loss of {losses.num_pairs:,} pairs ({losses.split}) under the same masks; "
            "mean ± standard error over pairs",
            "",
            *(f"{name:<{width}}  {value:+.5f} ± {error:.5f}" for name, (value, error) in rows.items()),
            "",
            f"p {losses.p:.3g}, swapping the losses of pairs: would other pairs say the same?",
        ]
    )


def _mean(value: float, error: float | None) -> str:
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"
