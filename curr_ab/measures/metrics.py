"""Predictions against labels: the metrics that suit classes, residues or numbers, by published names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from curr_ab.extras import needs_extra
from curr_ab.words import UNKNOWN_LABEL, Target

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
METRICS = Path(__file__).parent / "modules"
_RANKING = ("auroc", "aupr", "spearman")


class Metric(NamedTuple):
    """A module of the folder `metrics` and how it is used."""

    module: str
    takes: Literal["class", "probabilities", "number"]
    options: dict[str, str]


_SHARED = {
    "accuracy": Metric("accuracy", "class", {}),
    "mcc": Metric("mcc", "class", {}),
    "auroc": Metric("auroc", "probabilities", {}),
    "aupr": Metric("aupr", "probabilities", {}),
    "calibration-error": Metric("calibration_error", "probabilities", {}),
}


_AVERAGED = ("precision", "recall", "f1")


BINARY = _SHARED | {name: Metric(name, "class", {"average": "binary"}) for name in _AVERAGED}


SEVERAL = _SHARED | {
    f"{average}-{name}": Metric(name, "class", {"average": average})
    for average, names in {"macro": _AVERAGED, "micro": ("f1",)}.items()
    for name in names
}


NUMBER = {name: Metric(name, "number", {}) for name in ("spearman", "pearson", "rmse")}


def metrics_for(target: Target, num_classes: int) -> dict[str, Metric]:
    """The metrics of a task, by the names that results have."""
    if target == "number":
        return NUMBER
    return BINARY if num_classes == 2 else SEVERAL


def measure(
    target: Target, labels: Sequence[Any] | Labels, predictions: Any, label_names: Sequence[str] = ()
) -> dict[str, float]:
    """All metrics of the task; one that the labels leave undefined is an error that says why.

    `predictions` are the probabilities of all classes, [examples, classes], or one number for each example.
    For residues labels and predictions are given example by example and counted residue by residue; where
    the label is -100 nothing is known and nothing counted. Class 1 is the positive one of two.
    """
    truth, predicted = flat(target, labels, predictions, label_names)
    found = {}
    for name, metric in metrics_for(target, len(label_names)).items():
        shown = predicted.argmax(axis=1) if metric.takes == "class" else predicted
        values = _module(metric.module).compute(predictions=shown, references=truth, **metric.options)
        found[name] = float(values[metric.module])
    return found


def scorer(metric: Metric) -> Callable[[Labels, Floats], float]:
    """The metric as a function of arrays that `flat` gave: for thousands of draws, without tables between."""
    module = _module(metric.module)

    def score(truth: Labels, predicted: Floats) -> float:
        shown = predicted.argmax(axis=1) if metric.takes == "class" else predicted
        values = module._compute(predictions=shown, references=truth, **metric.options)
        return float(values[metric.module])

    return score


def flat(
    target: Target, labels: Sequence[Any] | Labels, predictions: Any, label_names: Sequence[str] = ()
) -> tuple[Labels, Floats]:
    """Labels [items] and predictions [items, classes] or [items], checked; items are residues or examples."""
    if len(labels) != len(predictions):
        raise ValueError(f"there are {len(labels)} labels and {len(predictions)} predictions")
    if target == "residues":
        for number, (known, shown) in enumerate(zip(labels, predictions, strict=True), start=1):
            if len(known) != len(shown):
                raise ValueError(f"example {number} has {len(known)} labels and {len(shown)} predictions")
        truth, predicted = (
            np.concatenate([np.asarray(one) for one in several]) for several in (labels, predictions)
        )
        predicted, truth = predicted[truth != UNKNOWN_LABEL], truth[truth != UNKNOWN_LABEL]
    else:
        truth, predicted = np.asarray(labels), np.asarray(predictions)
    predicted = predicted.astype(np.float64)
    if not len(truth):
        raise ValueError("there is nothing to measure: no example has a label")
    if not np.isfinite(predicted).all():
        raise ValueError("a prediction is not a finite number: the training has diverged")
    if target == "number":
        return truth.astype(np.float64), predicted.reshape(len(truth))
    if predicted.shape != (len(truth), len(label_names)):
        shape = " x ".join(map(str, predicted.shape))
        raise ValueError(f"predictions are {shape}, for {len(truth)} labels of {len(label_names)} classes")
    for number, name in enumerate(label_names):
        if not (truth == number).any():
            raise ValueError(
                f"none of the {len(truth)} examples is {name!r}: most metrics are not defined; "
                "use fewer folds, or more examples of that class"
            )
    if strangers := sorted({*np.unique(truth).tolist()} - set(range(len(label_names)))):
        raise ValueError(f"label {strangers[0]} is none of the {len(label_names)} classes")
    return truth.astype(np.int64), predicted


@cache
def _module(name: str) -> Any:
    with needs_extra("finetune"):
        import evaluate
    # It makes an empty folder for tables that `keep_in_memory` does not write.
    with TemporaryDirectory() as unused:
        return evaluate.load(str(METRICS / name), keep_in_memory=True, cache_dir=unused)


def swappable(metric: Metric, predictions: Floats) -> Floats | Labels:
    """What the metric sees of one fold's predictions, on a scale that two models share.

    A ranking metric sees ranks: probabilities of a bold and of a timid model, once mixed, would rank by
    whose they are.
    """
    if metric.takes == "class":
        chosen: Labels = predictions.argmax(axis=1)
        return chosen
    return _ranks(predictions) if metric.module in _RANKING else predictions


def quick_score(metric: Metric, truth: Labels, seen: Floats | Labels, num_classes: int) -> float:
    """The metric of one fold, of what `swappable` gave."""
    if metric.takes == "class":
        counts = np.bincount(truth * num_classes + seen, minlength=num_classes**2)
        return _of_counts(metric, counts.reshape(num_classes, num_classes))
    if metric.takes == "number":
        return _of_numbers(metric.module, truth, seen)
    if metric.module == "calibration_error":
        return _calibration_error(truth, seen)
    area = _auroc if metric.module == "auroc" else _aupr
    numbers = range(1, 2) if num_classes == 2 else range(num_classes)
    return float(np.mean([area(truth == number, seen[:, number]) for number in numbers]))


def _ranks(values: Floats) -> Floats:
    with needs_extra("finetune"):
        from scipy.stats import rankdata
    found: Floats = rankdata(values, axis=0)
    return found


def _of_counts(metric: Metric, counts: Labels) -> float:
    """Of a confusion matrix [true, predicted]; 0 / 0 counts as 0."""
    right, true, predicted, size = counts.diagonal(), counts.sum(1), counts.sum(0), counts.sum()
    if metric.module == "accuracy" or metric.options.get("average") == "micro":
        return float(right.sum() / size)
    if metric.module == "mcc":
        spread = float(size**2 - (true**2).sum()) * float(size**2 - (predicted**2).sum())
        return float(right.sum() * size - true @ predicted) / spread**0.5 if spread else 0.0
    below = {"precision": predicted, "recall": true, "f1": (true + predicted) / 2}[metric.module]
    shares = right / np.where(below == 0, 1, below)
    if metric.options["average"] == "binary":
        return float(shares[1])
    return float(shares[true + predicted > 0].mean())


def _of_numbers(module: str, truth: Floats, seen: Floats) -> float:
    if module == "rmse":
        return float(np.sqrt(np.mean((seen - truth) ** 2)))
    if module == "spearman":
        truth, seen = _ranks(truth), _ranks(seen)
    if np.ptp(seen) == 0:
        return 0.0
    x, y = truth - truth.mean(), seen - seen.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _calibration_error(truth: Labels, probabilities: Floats, bins: int = 15) -> float:
    confidence = probabilities.max(axis=1)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    right = probabilities.argmax(axis=1) == truth
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def _auroc(positive: Labels, scores: Floats) -> float:
    """Of all pairs of a positive and a negative, the share in which the positive is higher."""
    count = int(positive.sum())
    above = float(_ranks(scores)[positive].sum()) - count * (count + 1) / 2
    return above / (count * (len(scores) - count))


def _aupr(positive: Labels, scores: Floats) -> float:
    """Precision at each threshold, weighted by the recall that it gains."""
    order = np.argsort(-scores)
    falling = scores[order]
    last = np.append(falling[1:] != falling[:-1], True)  # of equal scores
    found, shown = positive[order].cumsum()[last], np.flatnonzero(last) + 1
    return float((np.diff(found, prepend=0) * found / shown).sum() / found[-1])
