"""Scores of predictions: the task's metric with what each unit contributes, and the others beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curr_ab.benchmark.predictions import LABELLED, Predictions, fold_of, guess, items_of, shares
from curr_ab.benchmark.statistics import (
    Estimate,
    Layout,
    Rows,
    Score,
    cross_validated,
    estimate,
    make_layout,
)
from curr_ab.benchmark.tasks.task import Task
from curr_ab.measures.metrics import NUMBER, Floats, Labels, Metric, metrics_for, score
from curr_ab.words import Target

LOSS = "loss"
_LEAST = 1e-12  # probability
# Metrics that rank items: predictions by models of different folds must be on one scale.
_RANKING = ("auroc", "aupr", "spearman", "pearson")
LOWER_IS_BETTER = (LOSS, "rmse", "calibration-error")


@dataclass(frozen=True)
class Scores:
    """The task's metric, and the values of all others by name."""

    metric: str
    found: Estimate
    others: dict[str, float]
    num_items: int
    units: str  # in words
    by_fold: bool


def score_predictions(task: Task, predictions: Predictions, *, is_guess: bool = False) -> Scores:
    """All scores of a task, over all test parts together, or fold by fold where the data's owners do so."""
    labels, values, pairs = items_of(task, predictions)
    folds = fold_of(task)[pairs]
    layout = _layout(task, pairs)
    metrics = _metrics(task)
    if task.metric not in metrics:
        raise ValueError(f"{task.name}: metric must be one of {', '.join(metrics)}; got {task.metric!r}")
    by_fold = _by_fold(task, layout, labels)
    raised = values if by_fold else _above_guess(task, values, folds)
    calls = {
        name: _score_of(task, metric, labels, raised if name in _RANKING else values)
        for name, metric in metrics.items()
    }
    others = dict(_others(task, calls, layout, by_fold=by_fold))
    found = estimate(calls[task.metric], layout, by_fold=by_fold)
    # Of one fold no pair trains the model that tests another.
    if task.kind in LABELLED and len(task.folds or ()) > 1 and not is_guess:
        shown = score_predictions(task, guess(task), is_guess=True)
        found = cross_validated(found, shown.found, lower_is_better=task.metric in LOWER_IS_BETTER)
    units = "pairs" if task.groups is None else "groups"
    return Scores(task.metric, found, others, len(labels), units, by_fold)


def check_metric(task: Task) -> None:
    """Refuse a task whose metric has no value for any model, or none without one of its units."""
    if task.kind == "loss":
        return
    nothing = guess(task) if task.kind in LABELLED else Predictions(np.zeros(len(task)))
    labels, _, pairs = items_of(task, nothing)
    layout = replace(_layout(task, pairs), folds=np.zeros(len(labels), np.int64))
    if not _is_defined(layout, labels, 0) or len(np.unique(labels)) < 2:
        units = "pairs" if task.groups is None else "groups"
        what = "each class in two" if labels.dtype.kind != "f" else "different numbers in four"
        raise ValueError(
            f"{task.name} must have {what} or more {units} that its folds test; got {len(labels):,} items in "
            f"{layout.num_units:,} {units}; give a file with more, or take more pairs"
        )


def _layout(task: Task, pairs: Sequence[int]) -> Layout:
    names = pairs if task.groups is None else [task.groups[pair] for pair in pairs]
    return make_layout(names, fold_of(task)[pairs])


def _others(
    task: Task, calls: Mapping[str, Score], layout: Layout, *, by_fold: bool
) -> Iterator[tuple[str, float]]:
    """The other metrics; one that these labels or predictions do not define is left out."""
    for name, call in calls.items():
        if name == task.metric:
            continue
        try:
            value = estimate_value(call, layout, by_fold=by_fold and name in _RANKING)
        except ValueError:
            continue
        if np.isfinite(value):
            yield name, value


def _above_guess(task: Task, values: Floats, folds: Rows) -> Floats:
    """Predictions [items] or log-probabilities [items, classes], less the guess of the fold's training part.

    A fold whose test part holds more than its share of a class has less of it to train on. Ranked as they
    are, predictions of such folds would be wrong together, also those of a model that knows nothing.
    """
    if task.folds is None or task.kind == "ranking":
        return values
    raised = values if values.ndim == 1 else np.log(values.clip(_LEAST))
    for fold, (train, _) in enumerate(task.folds):
        known = shares(task, train)
        guess = known[0] if values.ndim == 1 else np.log(known.clip(_LEAST))
        raised = np.where((folds == fold)[(...,) + (None,) * (values.ndim - 1)], raised - guess, raised)
    return raised


def estimate_value(call: Score, layout: Layout, *, by_fold: bool) -> float:
    """The score of all items, or its mean over folds, without an error."""
    if not by_fold:
        return call(np.arange(len(layout.folds)))
    return float(np.mean([call(np.flatnonzero(layout.folds == fold)) for fold in np.unique(layout.folds)]))


def _metrics(task: Task) -> dict[str, Metric | None]:
    if task.kind == "loss":
        return {LOSS: None}
    if task.kind == "ranking":
        return {"spearman": NUMBER["spearman"]}
    target: Target = "number" if task.kind == "number" else "classes"
    return dict(metrics_for(target, len(task.label_names)))


def _score_of(task: Task, metric: Metric | None, labels: Labels, values: Floats) -> Score:
    if metric is None:
        return lambda rows: float(values[rows].mean())
    measured = task.sign * labels if task.kind == "ranking" else labels
    given: Metric = metric
    return lambda rows: score(given, measured[rows], values[rows])


def _by_fold(task: Task, layout: Layout, labels: Labels) -> bool:
    """True where the metric is a mean over folds, and each fold has a score without any one of its units."""
    if task.folds is None or task.kind == "ranking" or task.average != "folds":
        return False
    return all(_is_defined(layout, labels, fold) for fold in np.unique(layout.folds))


def _is_defined(layout: Layout, labels: Labels, fold: int) -> bool:
    rows: Rows = np.flatnonzero(layout.folds == fold)
    units = np.unique(layout.units[rows])
    kinds = np.unique(labels)
    if labels.dtype.kind == "f":
        return len(units) > 3 and len(np.unique(labels[rows])) > 3
    holders = [np.unique(layout.units[rows[labels[rows] == kind]]) for kind in kinds]
    return all(len(of_kind) >= min(2, len(units)) for of_kind in holders)
