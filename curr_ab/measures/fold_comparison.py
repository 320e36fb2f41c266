"""Paired tests of two predictions for the same folds: of two runs, or of a run and what stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curr_ab.measures.fold_predictions import RunPredictions, read_run
from curr_ab.measures.metrics import Flags, Floats, Labels, Metric, metrics_for, score, scores, swappable
from curr_ab.measures.statistics import (
    FoldTest,
    corrected_t,
    exact_mcnemar,
    mean_and_standard_error,
    permutation_p,
)
from curr_ab.options import OptionError

DRAWS = 1_000


@dataclass(frozen=True, kw_only=True)
class MetricComparison:
    """One metric of both: means over folds, and two tests that ask different questions.

    `over_folds` tells whether the difference would stay with other training data; `p_predictions` whether
    these very models would differ on other examples.
    """

    metric: str
    first: float
    first_error: float | None
    second: float
    second_error: float | None
    over_folds: FoldTest | None  # none of a single fold
    p_predictions: float
    test_of_predictions: Literal["exact McNemar", "permutation"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs; differences are first minus second."""

    first: str
    second: str
    task: str
    num_folds: int
    num_pairs: int
    units: str  # what was swapped
    num_units: int
    metrics: tuple[MetricComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"format": "curr-ab comparison 1", **asdict(self)}


def compare_runs(
    first: str | Path,
    second: str | Path,
    *,
    column: str | None = None,
    metrics: Sequence[str] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare the folders of two fine-tunings by some metrics, or all; they must have the same folds.

    Where they learn several columns at once, `column` is the one that is compared.
    """
    one, other = read_run(first, column=column), read_run(second, column=column)
    if column is not None and one.column is None:
        raise OptionError(f"column must be left out for a run of one column; got {column!r}", "column")
    return compare_predictions(one, other, metrics=metrics, draws=draws, seed=seed)


def compare_predictions(
    one: RunPredictions,
    other: RunPredictions,
    *,
    metrics: Sequence[str] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """The same of what was read from them."""
    _refuse_unpaired(one, other)
    known = metrics_for(one.target, len(one.label_names))
    if unknown := [name for name in metrics if name not in known]:
        raise ValueError(f"metrics of these runs must be of {', '.join(known)}; got {unknown[0]!r}")
    num_units, units = _units(one)
    return Comparison(
        first=_title(one, other),
        second=_title(other, one),
        task=one.task if one.column is None else f"{one.task} ({one.column})",
        num_folds=len(one.folds),
        num_pairs=sum(len(fold.ids) for fold in one.folds),
        units="groups" if one.grouped else "pairs",
        num_units=num_units,
        metrics=tuple(
            _compare(name, known[name], one, other, units=units, num_units=num_units, draws=draws, seed=seed)
            for name in metrics or known
        ),
    )


def _title(run: RunPredictions, beside: RunPredictions) -> str:
    return run.model if run.model != beside.model else f"{run.model} ({run.folder})"


def _refuse_unpaired(one: RunPredictions, other: RunPredictions) -> None:
    """Refuse runs that were not tested on the same pairs, fold by fold."""
    both = f"{one.folder} and {other.folder} cannot be compared"
    for name, mine, its in [
        ("targets", one.target, other.target),
        ("labels", ", ".join(one.label_names), ", ".join(other.label_names)),
        ("examples (fingerprints)", one.examples, other.examples),
        ("numbers of folds", len(one.folds), len(other.folds)),
    ]:
        if mine != its:
            raise ValueError(f"{both}: their {name} must be equal; got {mine} and {its}")
    for left, right in zip(one.folds, other.folds, strict=True):
        if left.ids != right.ids:
            unpaired = sorted(set(left.ids) ^ set(right.ids)) or [left.ids[0]]
            raise ValueError(
                f"{both}: fold {left.number} tests other pairs, such as {unpaired[0]!r}; "
                "use the same seed, scheme and number of folds"
            )
        if not np.array_equal(left.labels, right.labels):
            raise ValueError(f"{both}: fold {left.number} has other labels")


def _units(run: RunPredictions) -> tuple[int, list[Labels]]:
    """Number of units that are swapped, each as a whole, and the unit of each item, fold by fold."""
    numbers: dict[str, int] = {}
    units = []
    for fold in run.folds:
        names = fold.groups if run.grouped else [f"{fold.number} {pair}" for pair in range(len(fold.ids))]
        of_pairs = np.array([numbers.setdefault(name, len(numbers)) for name in names])
        units.append(of_pairs[fold.pairs])
    return len(numbers), units


def _compare(
    name: str,
    metric: Metric,
    one: RunPredictions,
    other: RunPredictions,
    *,
    units: list[Labels],
    num_units: int,
    draws: int,
    seed: int,
) -> MetricComparison:
    firsts, seconds = (
        [score(metric, fold.labels, fold.predictions) for fold in run.folds] for run in (one, other)
    )
    over_folds = None
    if len(firsts) > 1:
        ratio = float(np.mean([len(fold.ids) / fold.num_fitted for fold in one.folds]))
        over_folds = corrected_t(np.subtract(firsts, seconds).tolist(), ratio)

    exact = name == "accuracy" and one.target == "classes" and not one.grouped
    if exact:
        right = [run.pooled_predictions.argmax(axis=1) == run.pooled_labels for run in (one, other)]
        p = exact_mcnemar(*right)
    else:
        p = permutation_p(
            _difference_when_swapped(metric, one, other, units),
            num_units=num_units,
            draws=draws,
            seed=seed,
            values_per_draw=max(fold.predictions.size for fold in one.folds),
        )
    first, first_error = mean_and_standard_error(firsts)
    second, second_error = mean_and_standard_error(seconds)
    return MetricComparison(
        metric=name,
        first=first,
        first_error=first_error,
        second=second,
        second_error=second_error,
        over_folds=over_folds,
        p_predictions=p,
        test_of_predictions="exact McNemar" if exact else "permutation",
    )


def _difference_when_swapped(
    metric: Metric, one: RunPredictions, other: RunPredictions, units: list[Labels]
) -> Callable[[Flags], Floats]:
    """The difference that is shown, a mean over folds, as it would be with some units swapped."""
    folds = [
        (left.labels, swappable(metric, left.predictions), swappable(metric, right.predictions), of_items)
        for left, right, of_items in zip(one.folds, other.folds, units, strict=True)
    ]
    num_classes = len(one.label_names)

    def difference(swapped: Flags) -> Floats:
        differences = []
        for labels, mine, theirs, of_items in folds:
            swap = swapped[:, of_items]
            swap = swap.reshape(*swap.shape, *[1] * (mine.ndim - 1))  # beside [draws, items(, classes)]
            first, second = np.where(swap, theirs, mine), np.where(swap, mine, theirs)
            differences.append(
                scores(metric, labels, first, num_classes) - scores(metric, labels, second, num_classes)
            )
        mean: Floats = np.mean(differences, axis=0)
        return mean

    return difference
