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

Target = Literal["classes", "residues", "number"]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
UNKNOWN = -100  # label of residues of which nothing is known, as in torch's cross entropy
METRICS = Path(__file__).parent / "metrics"


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
        predicted, truth = predicted[truth != UNKNOWN], truth[truth != UNKNOWN]
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
