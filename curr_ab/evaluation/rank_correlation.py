"""Spearman's correlation, plain and controlled for a third quantity, with bootstrapped intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curr_ab.pretraining.sampling import random_stream

Array = npt.NDArray[np.float64]
DRAWS = 500
_VALUES_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Correlation:
    """The estimate; `low` and `high` hold 95 % of the bootstrap."""

    value: float
    standard_error: float
    low: float
    high: float
    num_pairs: int


def correlate(score: Array, fitness: Array, seed: int, distance: Array | None = None) -> Correlation:
    """Of score and fitness; with a distance, of what it does not explain of either's ranks."""
    columns = [score, fitness] if distance is None else [score, fitness, distance]
    values = np.stack(columns)[None]  # [draws, columns, pairs]
    size = values.shape[-1]
    randomness = random_stream(seed, "bootstrap")
    draws = []
    per_chunk = max(1, _VALUES_AT_ONCE // (len(columns) * size))
    for first in range(0, DRAWS, per_chunk):
        drawn = randomness.integers(0, size, (min(per_chunk, DRAWS - first), size))
        draws.append(_rank_correlations(values[0][:, drawn].swapaxes(0, 1)))
    found = np.concatenate(draws)
    low, high = np.percentile(found, [2.5, 97.5])
    [value] = _rank_correlations(values)
    return Correlation(float(value), float(found.std(ddof=1)), float(low), float(high), size)


def _rank_correlations(values: Array) -> Array:
    """For each draw [draws, 2 or 3, pairs] the correlation of the first two, given the third.

    It is 0 where one of them is constant, or the third explains all of it: then it ranks nothing.
    """
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    x, y = ranks[:, 0], ranks[:, 1]
    if ranks.shape[1] == 3:
        z = ranks[:, 2]
        x, y = _without(x, z), _without(y, z)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (x * y).sum(-1) / np.sqrt(np.square(x).sum(-1) * np.square(y).sum(-1))
    defined: Array = np.nan_to_num(found)
    return defined


def _without(x: Array, z: Array) -> Array:
    """What is left of x after a regression on z."""
    square = np.square(z).sum(-1)
    slope = np.divide((x * z).sum(-1), square, out=np.zeros_like(square), where=square > 0)
    left: Array = x - slope[:, None] * z
    # Where z explains all of x, only rounding is left, and that must not be correlated with anything.
    tiny = np.square(left).sum(-1) <= 1e-12 * np.square(x).sum(-1)
    left[tiny] = 0
    return left
