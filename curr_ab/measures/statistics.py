"""Means with their errors, paired tests of two models, bootstraps and rank correlations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curr_ab.extras import needs_extra
from curr_ab.measures.metrics import Flags, Floats, Labels
from curr_ab.measures.modules.regression.core import pearson, ranks
from curr_ab.randomness import random_stream

CONFIDENCE = 0.95
DRAWS = 500  # of every bootstrap
_VALUES_AT_ONCE = 500_000


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error over folds; one fold has no standard error.

    Folds share most of their training examples, so that the error of another sample of examples is larger.
    """
    if not values:
        raise ValueError("a mean over folds needs at least one; got none")
    if len(values) == 1:
        return values[0], None
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def mean_over_pairs(sums: Floats, counts: Floats) -> tuple[float, float]:
    """The mean of all values, and its standard error when pairs, not values, are independent."""
    total, pairs = counts.sum(), int((counts > 0).sum())
    mean = sums.sum() / total
    spread = np.square(sums - mean * counts).sum() * pairs / max(1, pairs - 1)
    return float(mean), float(np.sqrt(spread) / total)


@dataclass(frozen=True)
class FoldTest:
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
        raise ValueError(f"a test over folds needs at least 2 of them; got {num_folds}")
    mean = float(np.mean(differences))
    error = math.sqrt(float(np.var(differences, ddof=1)) * (1 / num_folds + tested_by_fitted))
    if error == 0:
        return FoldTest(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    reach = error * float(student.ppf((1 + CONFIDENCE) / 2, num_folds - 1))
    p = 2 * float(student.sf(abs(mean) / error, num_folds - 1))
    return FoldTest(mean, mean - reach, mean + reach, p)


def exact_mcnemar(first_right: Flags, second_right: Flags) -> float:
    """Probability by chance of so unequal a share in the examples that only one of two models gets right."""
    with needs_extra("finetune"):
        from scipy.stats import binomtest
    only_first = int((first_right & ~second_right).sum())
    only_second = int((~first_right & second_right).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def permutation_p(
    difference: Callable[[Flags], Floats],
    *,
    num_units: int,
    draws: int,
    seed: int,
    values_per_draw: int | None = None,
) -> float:
    """Share of random swaps of two models' predictions, unit by unit, that make a difference as large.

    `difference` takes which units are swapped [draws, units] and gives that of each draw; `values_per_draw`
    tells how many values it handles for one, if more than units. Units are what is independent: pairs, or
    donors.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    generator = np.random.default_rng(seed)
    [seen] = np.abs(difference(np.zeros((1, num_units), bool)))
    # Sums in another order differ in their last digits.
    at_least = seen * (1 - 1e-9)
    larger = 0
    for size in batches(draws, values_per_draw or num_units):
        swapped = generator.random((size, num_units)) < 0.5
        larger += int((np.abs(difference(swapped)) >= at_least).sum())
    return (1 + larger) / (1 + draws)


def batches(draws: int, values_per_draw: int) -> Iterator[int]:
    """Numbers of draws that fit into memory at once; they add up to `draws`."""
    at_once = max(1, _VALUES_AT_ONCE // max(1, values_per_draw))
    for first in range(0, draws, at_once):
        yield min(at_once, draws - first)


class Spread(NamedTuple):
    """The standard error that a bootstrap shows, and the interval that holds 95 % of its draws."""

    standard_error: float
    low: float
    high: float


def spread_of(draws: Floats) -> Spread:
    """Standard deviation and interval of bootstrapped estimates."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return Spread(float(draws.std(ddof=1)), float(low), float(high))


def bootstrapped_medians(values: Floats, clusters: Labels, seed: int) -> Floats:
    """Medians of the values of as many clusters, drawn with replacement; `clusters` are numbered from 0."""
    order = np.argsort(values, kind="stable")
    ordered, owners = values[order], clusters[order]
    num_clusters = int(clusters.max()) + 1
    randomness = random_stream(seed, "bootstrap")
    medians = []
    for size in batches(DRAWS, len(values)):
        drawn = randomness.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size)
        reached = np.cumsum(drawn[:, owners], axis=1)
        medians.append(ordered[(2 * reached < reached[:, -1:]).sum(axis=1)])
    return np.concatenate(medians)


@dataclass(frozen=True)
class Correlation:
    """The estimate; `low` and `high` hold 95 % of the bootstrap."""

    value: float
    standard_error: float
    low: float
    high: float
    num_pairs: int


def correlate(score: Floats, fitness: Floats, seed: int, distance: Floats | None = None) -> Correlation:
    """Spearman's correlation; with a distance, of what it does not explain of either's ranks."""
    values = np.stack([score, fitness] if distance is None else [score, fitness, distance])
    size = values.shape[-1]
    randomness = random_stream(seed, "bootstrap")
    draws = [
        _rank_correlations(values[:, randomness.integers(0, size, (count, size))])
        for count in batches(DRAWS, values.size)
    ]
    return Correlation(float(_rank_correlations(values)), *spread_of(np.concatenate(draws)), size)


def _rank_correlations(values: Floats) -> Floats:
    """Correlation of the first two columns [2 or 3, ..., pairs], given the third.

    It is 0 where one of them is constant, or the third explains all of it: then it ranks nothing.
    """
    x, y, *others = ranks(values) - (values.shape[-1] + 1) / 2
    for z in others:
        x, y = _without(x, z), _without(y, z)
    return pearson(x, y)


def _without(x: Floats, z: Floats) -> Floats:
    """The rest of x after a regression on z; both have the mean 0."""
    square = np.square(z).sum(-1)
    slope = np.divide((x * z).sum(-1), square, out=np.zeros_like(square), where=square > 0)
    left = x - slope[..., None] * z
    # Where z explains all of x, only rounding is left, and that must not be correlated with anything.
    tiny = np.square(left).sum(-1) <= 1e-12 * np.square(x).sum(-1)
    return np.where(tiny[..., None], 0.0, left)
