"""`curr-ab compare`: two fine-tunings on the same folds, or two losses under the same masks, side by side."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curr_ab.cli.shell import sentence
from curr_ab.options import OptionError, Options, add_flags, option, read_options

if TYPE_CHECKING:
    from curr_ab.evaluation.comparison import Comparison, LossComparison


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Options):
    """The comparison, and how it is printed."""

    metric: tuple[str, ...] = option((), "Metrics to compare, such as auroc", shown="all", metavar="NAME")
    draws: int = option(1_000, "Number of draws of the permutation test", least=1)
    seed: int = option(0, "Seed of the random draws", least=0)
    json: bool = option(False, "Print JSON rather than a table")


def add_commands(commands: Any) -> None:
    """Add the command to `curr-ab`."""
    text = "compare two fine-tunings on the same folds, or two losses: means, differences, paired tests"
    parser = commands.add_parser("compare", help=text, description=sentence(text))
    parser.add_argument("first", metavar="RUN", help="Folder of `curr-ab finetune`, or OUT/loss/MODEL-KEY")
    parser.add_argument("second", metavar="RUN", help="Another, on the same examples and folds, or masks")
    add_flags(parser, CompareOptions)
    parser.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> None:
    options = read_options(args, CompareOptions)
    from curr_ab.evaluation import compare_losses, compare_runs
    from curr_ab.evaluation.comparison import is_loss

    draws = {"draws": options.draws, "seed": options.seed}
    if is_loss(args.first) or is_loss(args.second):
        if options.metric:
            raise OptionError("metric must be none for folders of the suite loss, which have one", "metric")
        losses = compare_losses(args.first, args.second, **draws)
        print(json.dumps(losses.to_dict(), indent=1) if options.json else loss_table(losses))
        return
    found = compare_runs(args.first, args.second, metrics=options.metric, **draws)
    print(json.dumps(found.to_dict(), indent=1) if options.json else table(found))


def table(found: Comparison) -> str:
    """The comparison as text."""
    lines = [
        f"{found.task}: {found.first} (first) and {found.second} (second), {found.num_folds} folds, "
        f"{found.num_pairs:,} pairs; mean ± standard error over folds",
        "",
        f"{'metric':<17} {'first':>15} {'second':>15} {'difference [95 %]':>27} {'p folds':>8} {'p pred':>8}",
    ]
    for row in found.metrics:
        first, second = _mean(row.first, row.first_error), _mean(row.second, row.second_error)
        between, p_folds = f"{row.first - row.second:+.4f}", ""
        if row.over_folds is not None:
            between += f" [{row.over_folds.low:+.4f}, {row.over_folds.high:+.4f}]"
            p_folds = f"{row.over_folds.p:.3g}"
        lines.append(
            f"{row.metric:<17} {first:>15} {second:>15} {between:>27} {p_folds:>8} {row.p_predictions:>8.3g}"
        )
    exact = [row.metric for row in found.metrics if row.test_of_predictions == "exact McNemar"]
    by = f"swapping the predictions of {found.num_units:,} {found.units}"
    lines += [
        "",
        "p folds: corrected resampled t-test (Nadeau and Bengio): would other training data say the same?",
        f"p pred: {by}{f'; {exact[0]} by the exact McNemar test' if exact else ''}: would other examples?",
        "Nothing is corrected for looking at several metrics.",
    ]
    return "\n".join(lines)


def loss_table(found: LossComparison) -> str:
    """The comparison of two losses as text."""
    rows = {found.first: found.first_loss, found.second: found.second_loss, "difference": found.difference}
    width = max(map(len, rows))
    return "\n".join(
        [
            f"loss of {found.num_pairs:,} pairs ({found.split}) under the same masks; "
            "mean ± standard error over pairs",
            "",
            *(f"{name:<{width}}  {value:+.5f} ± {error:.5f}" for name, (value, error) in rows.items()),
            "",
            f"p {found.p:.3g}, swapping the losses of pairs: would other pairs say the same?",
        ]
    )


def _mean(value: float, error: float | None) -> str:
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"
