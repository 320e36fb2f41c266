"""The metrics once more, in numpy: a permutation test scores thousands of swaps, fold by fold."""

from __future__ import annotations

import numpy as np

from curr_ab.evaluation.measuring import Floats, Labels, Metric
from curr_ab.extras import needs_extra

_RANKING = ("auroc", "aupr", "spearman")


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
