"""Metrics of numbers in numpy, each defined once: for `evaluate`, for bootstraps, for swapped predictions.

Leading dimensions [...] of either side stand for several sets of items, such as the draws of a bootstrap, and
the result holds a value for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def score(name: str, measured: Array, predicted: Array) -> Array:
    """The metric `name` of predictions and measurements [..., items]."""
    return METRICS[name](measured, predicted)


def pearson(measured: Array, predicted: Array) -> Array:
    """Pearson's correlation; 0 where all numbers of a side are equal, as they rank nothing."""
    x, y = (side - side.mean(axis=-1, keepdims=True) for side in (measured, predicted))
    scale = np.sqrt((x * x).sum(-1)) * np.sqrt((y * y).sum(-1))
    # Of equal numbers the mean may be off by a rounding: nothing but that would be correlated.
    is_constant = (np.ptp(measured, axis=-1) == 0) | (np.ptp(predicted, axis=-1) == 0) | (scale == 0)
    correlation: Array = (x * y).sum(-1) / np.where(is_constant, 1, scale)
    return np.where(is_constant, 0.0, correlation.clip(-1, 1))


def spearman(measured: Array, predicted: Array) -> Array:
    """Spearman's correlation: Pearson's of the ranks."""
    return pearson(ranks(measured), ranks(predicted))


def rmse(measured: Array, predicted: Array) -> Array:
    """The square root of the mean squared difference."""
    return np.sqrt(np.mean((predicted - measured) ** 2, axis=-1))


METRICS: dict[str, Callable[[Array, Array], Array]] = {
    "spearman": spearman,
    "pearson": pearson,
    "rmse": rmse,
}
CORRELATIONS = ("spearman", "pearson")


def ranks(values: Array, axis: int = -1) -> Array:
    """Ranks from 1 along the axis; equal values share the mean of theirs."""
    from scipy.stats import rankdata  # slow to import, and few need it

    return rankdata(values, axis=axis)


def refuse_equal(name: str, measured: Array) -> None:
    """Refuse a correlation with measurements that are all equal: it is not defined."""
    if name in CORRELATIONS and len(np.unique(measured)) < 2:
        raise ValueError(f"{name} needs measurements that differ; all {len(measured)} are equal")
