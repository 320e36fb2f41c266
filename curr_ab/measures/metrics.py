"""Predictions against labels: the metrics that suit classes, residues or numbers, by published names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from curr_ab.measures.modules.classification import core as classification
from curr_ab.measures.modules.regression import core as regression
from curr_ab.words import UNKNOWN_LABEL, Target

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]
Average = Literal["binary", "macro", "micro"]
# Folders of the two modules of the library `evaluate`, whose numpy is used here directly.
MODULES = Path(__file__).parent / "modules"


class Metric(NamedTuple):
    """A configuration of one of the modules, and how it is averaged over classes where it is."""

    configuration: str
    average: Average | None = None

    @property
    def is_of_numbers(self) -> bool:
        return self.configuration in regression.METRICS

    @property
    def is_of_choices(self) -> bool:
        """True where it sees nothing but the most probable class of each item."""
        return not self.is_of_numbers and self.configuration not in classification.OF_PROBABILITIES


_SHARED = {
    name.replace("_", "-"): Metric(name)
    for name in (*classification.OF_CHOICES, *classification.OF_PROBABILITIES)
}
BINARY = _SHARED | {name: Metric(name, "binary") for name in classification.AVERAGED}
_AVERAGES: dict[Average, Sequence[str]] = {"macro": tuple(classification.AVERAGED), "micro": ("f1",)}
SEVERAL = _SHARED | {
    f"{average}-{name}": Metric(name, average) for average, names in _AVERAGES.items() for name in names
}
NUMBER = {name: Metric(name) for name in regression.METRICS}
_RANKING = ("auroc", "aupr", "spearman")


def metrics_for(target: Target, num_classes: int) -> dict[str, Metric]:
    """The metrics of a task, by the names that results have."""
    if target == "number":
        return NUMBER
    return BINARY if num_classes == 2 else SEVERAL


def measure(
    target: Target, labels: Sequence[Any] | Labels, predictions: Any, label_names: Sequence[str] = ()
) -> dict[str, float]:
    """All metrics of the task; one that the labels leave undefined is an error with the reason.

    `predictions` are the probabilities of all classes, [examples, classes], or one number for each example.
    For residues labels and predictions are given example by example and counted residue by residue; where
    the label is -100 nothing is known and nothing counted. Class 1 is the positive one of two.
    """
    truth, predicted = flat(target, labels, predictions, label_names)
    metrics = metrics_for(target, len(label_names))
    return {name: score(metric, truth, predicted) for name, metric in metrics.items()}


def measure_column(
    target: Target, labels: Labels, predictions: Floats, bounds: Labels, label_names: Sequence[str] = ()
) -> tuple[int, dict[str, float]]:
    """Number of items and metrics of one of several columns, or of numbers of which some are bounds.

    `predictions` are the probability of the second class, or a number; `bounds` are 1 where the truth is
    above the label and -1 where it is below. A bound is in nothing but the concordance.
    """
    if target == "classes":
        return len(labels), measure(target, labels, np.stack([1 - predictions, predictions], 1), label_names)
    exact = bounds == 0
    values = measure(target, labels[exact], predictions[exact])
    if not exact.all():
        values["concordance"] = concordance(labels.astype(np.float64), predictions, bounds)
    return int(exact.sum()), values


def concordance(labels: Floats, predictions: Floats, bounds: Labels) -> float:
    """Share of the pairs of items in a known order that predictions put into it; equal ones count half.

    Of a bound the order with all that lies beyond it is known.
    """
    lowest = np.where(bounds < 0, -np.inf, labels)
    highest = np.where(bounds > 0, np.inf, labels)
    num_known, num_right = 0, 0.0
    for low, bound, prediction in zip(lowest, bounds, predictions, strict=True):
        below = (highest < low) | ((highest == low) & ((bound > 0) | (bounds < 0)))
        num_known += int(below.sum())
        others = predictions[below]
        num_right += float((others < prediction).sum() + 0.5 * (others == prediction).sum())
    if not num_known:
        raise ValueError("concordance needs items in a known order; no two are")
    return num_right / num_known


def measure_order(labels: Labels, probabilities: Floats) -> dict[str, float]:
    """Metrics of classes in order: distance of the chosen class, in classes; correlation of the expected."""
    expected = probabilities @ np.arange(probabilities.shape[1])
    return {
        "class-distance": float(np.abs(probabilities.argmax(1) - labels).mean()),
        "spearman": score(NUMBER["spearman"], labels.astype(np.float64), expected),
    }


def flat(
    target: Target, labels: Sequence[Any] | Labels, predictions: Any, label_names: Sequence[str] = ()
) -> tuple[Labels, Floats]:
    """Labels [items] and predictions [items, classes] or [items], checked; items are residues or examples."""
    if len(labels) != len(predictions):
        raise ValueError(
            f"each label must have a prediction; got {len(labels)} labels and {len(predictions)} predictions"
        )
    if target == "residues":
        for number, (known, shown) in enumerate(zip(labels, predictions, strict=True), start=1):
            if len(known) != len(shown):
                raise ValueError(
                    f"each residue of example {number} must have a label and a prediction; "
                    f"got {len(known)} labels and {len(shown)} predictions"
                )
        truth, predicted = (
            np.concatenate(list(map(np.asarray, of_examples))) for of_examples in (labels, predictions)
        )
        predicted, truth = predicted[truth != UNKNOWN_LABEL], truth[truth != UNKNOWN_LABEL]
    else:
        truth, predicted = np.asarray(labels), np.asarray(predictions)
    predicted = predicted.astype(np.float64)
    if not len(truth):
        raise ValueError("there is nothing to measure: no example has a label")
    if not np.isfinite(predicted).all():
        raise ValueError("predictions must be finite; got NaN or infinity: the training has diverged")
    if target == "number":
        return truth.astype(np.float64), predicted.reshape(len(truth))
    num_classes = len(label_names)
    if predicted.shape != (len(truth), num_classes):
        shape = " x ".join(map(str, predicted.shape))
        raise ValueError(f"predictions must be {len(truth)} x {num_classes} (labels x classes); got {shape}")
    for number, name in enumerate(label_names):
        if not (truth == number).any():
            raise ValueError(
                f"every class must have examples, or most metrics are not defined; got none of {name!r} "
                f"among {len(truth)}; use fewer folds, or more examples of that class"
            )
    if outside := sorted({*np.unique(truth).tolist()} - set(range(num_classes))):
        raise ValueError(f"labels must be numbers from 0 to {num_classes - 1}; got {outside[0]}")
    return truth.astype(np.int64), predicted


def score(metric: Metric, labels: Labels, predictions: Floats) -> float:
    """The metric of what `flat` gave."""
    if metric.is_of_numbers:
        regression.refuse_equal(metric.configuration, labels)
    shown = predictions.argmax(axis=-1) if metric.is_of_choices else predictions
    return float(scores(metric, labels, shown, predictions.shape[-1]))


def scores(metric: Metric, labels: Labels, shown: Floats | Labels, num_classes: int) -> Floats:
    """The metric of each of many sets [..., items] or [..., items, classes] of what `swappable` gave."""
    if metric.is_of_numbers:
        return regression.score(metric.configuration, labels, shown)
    return classification.score(
        metric.configuration, labels, shown, num_classes=num_classes, average=metric.average
    )


def swappable(metric: Metric, predictions: Floats) -> Floats | Labels:
    """The predictions of one fold as the metric sees them, on a scale that two models share.

    A ranking metric sees ranks: probabilities of a bold and of a timid model, once mixed, would rank by
    whose they are.
    """
    if metric.is_of_choices:
        chosen: Labels = predictions.argmax(axis=-1)
        return chosen
    return regression.ranks(predictions, axis=0) if metric.configuration in _RANKING else predictions
