"""Tests of two models that were fitted and tested on the same folds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curr_ab.extras import needs_extra
from curr_ab.randomness import random_stream

Floats = npt.NDArray[np.float64]
Swaps = npt.NDArray[np.bool_]
CONFIDENCE = 0.95
Array = npt.NDArray[np.float64]
DRAWS = 500
_VALUES_AT_ONCE = 2_000_000


class FoldTest(NamedTuple):
    """The mean difference over folds with its interval, and how probable one as large is by chance."""

    difference: float
    low: float
    high: float
    p: float


def corrected_t(differences: Sequence[float], tested_by_fitted: float) -> FoldTest:
    """Nadeau and Bengio's corrected resampled t-test.

    Folds share most of what their models are fitted on, so that their differences are correlated. The
    plain test overlooks that; this one adds the ratio of tested to fitted examples to the variance.
    """
    with needs_extra("finetune"):
        from scipy.stats import t as student
    num_folds = len(differences)
    if num_folds < 2:
        raise ValueError("a test over folds needs at least two of them")
    mean = float(np.mean(differences))
    error = math.sqrt(float(np.var(differences, ddof=1)) * (1 / num_folds + tested_by_fitted))
    if error == 0:
        return FoldTest(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    reach = error * float(student.ppf((1 + CONFIDENCE) / 2, num_folds - 1))
    p = 2 * float(student.sf(abs(mean) / error, num_folds - 1))
    return FoldTest(mean, mean - reach, mean + reach, p)


def exact_mcnemar(first_right: Swaps, second_right: Swaps) -> float:
    """How probable it is that the two differ so unequally on the examples that only one gets right."""
    with needs_extra("finetune"):
        from scipy.stats import binomtest
    only_first = int((first_right & ~second_right).sum())
    only_second = int((~first_right & second_right).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def permutation_p(difference: Callable[[Swaps], float], num_units: int, draws: int, seed: int) -> float:
    """How often swapping the two models' predictions of random units makes a difference as large.

    `difference` takes which units are swapped [units]. Units are what is independent: pairs, or donors.
    """
    generator = np.random.default_rng(seed)
    seen = abs(difference(np.zeros(num_units, bool)))
    # Sums in another order differ in their last digits.
    at_least = seen * (1 - 1e-9)
    larger = sum(abs(difference(generator.random(num_units) < 0.5)) >= at_least for _ in range(draws))
    return (1 + larger) / (1 + draws)


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error over folds; one fold has no standard error.

    Folds share most of their training examples, so that the error of another sample of examples is larger.
    """
    if not values:
        raise ValueError("there is no fold to average over")
    if len(values) == 1:
        return values[0], None
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


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
