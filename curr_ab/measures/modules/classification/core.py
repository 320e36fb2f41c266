"""Metrics of classes in numpy, each defined once: for `evaluate`, and for tests that swap predictions.

A leading dimension [...] of the predictions stands for several sets of them, such as the draws of a
permutation test, and the result holds a value for each. `labels` are numbers of classes [items].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BINS = 15  # of the calibration error


def score(
    name: str, labels: Array, predictions: Array, *, num_classes: int, average: str | None = None
) -> Array:
    """The metric `name` of chosen classes [..., items] or of probabilities [..., items, classes].

    Precision, recall and F1 are of class 1 ("binary"), the mean over the classes that occur or are chosen
    ("macro"), or the share of all items that are right ("micro").
    """
    if name in OF_PROBABILITIES:
        return OF_PROBABILITIES[name](labels, predictions)
    counts = confusion(labels, predictions, num_classes)
    return averaged(name, counts, average) if name in AVERAGED else OF_CHOICES[name](counts)


def confusion(labels: Array, chosen: Array, num_classes: int) -> Array:
    """Counts [..., true class, chosen class]."""
    sets = chosen.reshape(-1, len(labels))
    cells = num_classes * (num_classes * np.arange(len(sets))[:, None] + labels) + sets
    counts = np.bincount(cells.ravel(), minlength=len(sets) * num_classes**2)
    return counts.reshape(*chosen.shape[:-1], num_classes, num_classes)


def accuracy(counts: Array) -> Array:
    """The share of items whose class was chosen."""
    return _right(counts).sum(-1) / counts.sum((-2, -1))


def mcc(counts: Array) -> Array:
    """Matthews' correlation of true and chosen classes; 0 where all items are of one class."""
    true, chosen, size = counts.sum(-1), counts.sum(-2), counts.sum((-2, -1))
    together = _right(counts).sum(-1) * size - (true * chosen).sum(-1)
    # In floating point: the product of two such squares may not fit 64 bits.
    spread = (size**2 - (true**2).sum(-1)).astype(float) * (size**2 - (chosen**2).sum(-1))
    return together / np.sqrt(np.where(spread == 0, np.inf, spread))


def averaged(name: str, counts: Array, average: str | None) -> Array:
    """Precision, recall or F1; of a class that is never chosen, 0 / 0 counts as 0."""
    num_classes = counts.shape[-1]
    if average not in ("macro", "micro") and (average != "binary" or num_classes != 2):
        choices = "binary, macro or micro" if num_classes == 2 else "macro or micro"
        raise ValueError(f"average must be {choices} for {num_classes} classes; got {average}")
    if average == "micro":
        return accuracy(counts)
    true, chosen = counts.sum(-1), counts.sum(-2)
    below = AVERAGED[name](true, chosen)
    shares = _right(counts) / np.where(below == 0, 1, below)
    if average == "binary":
        return shares[..., 1]
    return shares.sum(-1) / (true + chosen > 0).sum(-1)


def auroc(labels: Array, probabilities: Array) -> Array:
    """The area under the ROC curve: how often a positive is above a negative, equal ones counting half."""
    areas = []
    for number, positive, scores in _one_against_the_rest(labels, probabilities):
        num_positive, size = int(positive.sum()), len(positive)
        if num_positive in (0, size):
            raise ValueError(
                f"auroc needs items of class {number} and others; got {num_positive} of {size} in that class"
            )
        falling = _falling(positive, scores)
        num_negative = size - num_positive
        # Negatives below each positive, and positives at or above each negative: their mean halves the ties.
        below = num_negative - (falling.rank - falling.hits)
        pairs = np.where(falling.positive, below, falling.hits).sum(-1)
        areas.append(pairs / (2 * num_positive * num_negative))
    return np.mean(areas, axis=0)


def aupr(labels: Array, probabilities: Array) -> Array:
    """Average precision: the precision at each positive, equal scores being one threshold."""
    areas = []
    for number, positive, scores in _one_against_the_rest(labels, probabilities):
        if not positive.any():
            raise ValueError(f"aupr needs items of class {number}; got none among {len(positive)}")
        falling = _falling(positive, scores)
        precision = np.where(falling.positive, falling.hits / falling.rank, 0)
        areas.append(precision.sum(-1) / positive.sum())
    return np.mean(areas, axis=0)


def calibration_error(labels: Array, probabilities: Array) -> Array:
    """The difference between confidence in the chosen class and its accuracy, a mean over equal bins."""
    confidence = probabilities.max(-1).reshape(-1, len(labels))
    right = probabilities.argmax(-1).reshape(-1, len(labels)) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins += BINS * np.arange(len(bins))[:, None]
    # |accuracy - confidence| of each bin, weighted by its share: a sum of differences, divided by all.
    gaps = np.bincount(bins.ravel(), (right - confidence).ravel(), minlength=len(bins) * BINS)
    errors: Array = np.abs(gaps.reshape(-1, BINS)).sum(-1) / len(labels)
    return errors.reshape(probabilities.shape[:-2])


OF_PROBABILITIES: dict[str, Callable[[Array, Array], Array]] = {
    "auroc": auroc,
    "aupr": aupr,
    "calibration_error": calibration_error,
}
OF_CHOICES: dict[str, Callable[[Array], Array]] = {"accuracy": accuracy, "mcc": mcc}
# By what the items that are right are divided, of the counts of a true and of a chosen class.
AVERAGED: dict[str, Callable[[Array, Array], Array]] = {
    "precision": lambda true, chosen: chosen,
    "recall": lambda true, chosen: true,
    "f1": lambda true, chosen: (true + chosen) / 2,
}


class _Falling(NamedTuple):
    """Items from the highest score to the lowest; all that share a score are reached at once."""

    positive: Array
    rank: Array  # number of items with this score or a higher one
    hits: Array  # number of positives among them


def _falling(positive: Array, scores: Array) -> _Falling:
    order = np.argsort(-scores, axis=-1)
    sorted_scores = np.take_along_axis(scores, order, -1)
    is_last = np.ones(scores.shape, bool)  # of those with the same score
    is_last[..., :-1] = sorted_scores[..., 1:] != sorted_scores[..., :-1]
    ends = np.where(is_last, np.arange(scores.shape[-1]), scores.shape[-1])
    last = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
    in_order = positive[order]
    return _Falling(in_order, last + 1, np.take_along_axis(in_order.cumsum(-1), last, -1))


def _one_against_the_rest(labels: Array, probabilities: Array) -> Iterator[tuple[int, Array, Array]]:
    """Number, members and scores of each class; of two classes only the last."""
    num_classes = probabilities.shape[-1]
    for number in range(num_classes) if num_classes > 2 else [1]:
        yield number, labels == number, probabilities[..., number]


def _right(counts: Array) -> Array:
    return np.diagonal(counts, axis1=-2, axis2=-1)
