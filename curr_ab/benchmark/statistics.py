"""Intervals of scores and paired tests of models: the score is taken again without each unit.

A unit is what is independent: a donor or clone where a task has such groups, else a pair. The predictions are
given, so that an interval tells how far the score would move with other units, not with other training data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from curr_ab.extras import needs_extra
from curr_ab.measures.metrics import Floats, Labels
from curr_ab.measures.statistics import CONFIDENCE
from curr_ab.randomness import random_stream

Rows = npt.NDArray[np.int64]
Score = Callable[[Rows], float]  # of the items at these rows
MOST_UNITS = 400  # more are joined to blocks, which changes an error by a few per cent and saves hours
_EXACT_UNITS = 13  # up to which all flips of signs are tried
FLIPS = 10_000
# The scale on which the error of a metric is even: shares and areas, correlations, and errors.
_SHARES = ("accuracy", "auroc", "aupr", "precision", "recall", "f1")
_CORRELATIONS = ("spearman", "pearson", "mcc")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Items [items] of a task: the unit of each, and the fold in which it was predicted."""

    units: Rows
    folds: Rows

    @property
    def num_units(self) -> int:
        return int(self.units.max()) + 1


def make_layout(units: Sequence[Hashable] | Labels, folds: Rows) -> Layout:
    """The layout of items by the names of their units; of very many units blocks, fold by fold."""
    numbers: dict[Hashable, int] = {}
    names = np.array([numbers.setdefault(unit, len(numbers)) for unit in units], np.int64)
    num_units = len(numbers)
    if num_units > MOST_UNITS:
        first = np.zeros(num_units, np.int64)
        first[names[::-1]] = folds[::-1]  # the fold of a unit's first item
        places = np.empty(num_units, np.int64)
        places[np.argsort(first, kind="stable")] = np.arange(num_units)
        names = places[names] * MOST_UNITS // num_units
    return Layout(units=names, folds=folds)


@dataclass(frozen=True)
class Estimate:
    """A score, and the score without each unit: all that intervals and tests need.

    Strata are parts whose scores are averaged: the folds, or all units together.
    """

    value: float
    without: Floats  # [units]
    strata: Rows  # [units], from 0
    values: Floats  # [strata]
    spread: float = 1.0  # by how much the error is larger than that of given predictions

    @property
    def freedom(self) -> int:
        return len(self.without) - len(self.values)

    @property
    def standard_error(self) -> float:
        """The stratified jackknife's."""
        sizes = np.bincount(self.strata)[self.strata]
        return self.spread * float(np.sqrt((np.square(self._apart()) * (sizes - 1) / sizes).sum()))

    @property
    def contributions(self) -> Floats:
        """Values of the units, whose mean is the score; of a mean these are the values that it is of."""
        num_units, sizes = len(self.without), np.bincount(self.strata)[self.strata]
        of_stratum = self.values[self.strata] / len(self.values)
        return num_units / sizes * (of_stratum + (sizes - 1) * self._apart())

    def _apart(self) -> Floats:
        """How far each unit pulls the score from where the units of its stratum hold it on average."""
        means = np.bincount(self.strata, self.without) / np.bincount(self.strata)
        return np.asarray(means[self.strata] - self.without)

    def minus(self, other: Estimate) -> Estimate:
        """The difference of two scores of the same units."""
        assert np.array_equal(self.strata, other.strata)
        without, values = self.without - other.without, self.values - other.values
        spread = max(self.spread, other.spread)
        return Estimate(self.value - other.value, without, self.strata, values, spread)


def covariance(found: Sequence[Estimate]) -> Floats:
    """The covariance of scores of the same units, by the stratified jackknife."""
    sizes = np.bincount(found[0].strata)[found[0].strata]
    apart = np.stack([one.spread * one._apart() for one in found]) * np.sqrt((sizes - 1) / sizes)
    return apart @ apart.T


def estimate(score: Score, layout: Layout, *, by_fold: bool) -> Estimate:
    """The score of all items, or the mean of the scores of the folds."""
    if layout.num_units < 2:
        raise ValueError("a score must have 2 or more units (groups, or pairs without groups); got 1")
    folds = layout.folds if by_fold else np.zeros_like(layout.folds)
    rows = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    values = np.array([score(of_fold) for of_fold in rows])
    without = np.empty(layout.num_units)
    strata = np.zeros(layout.num_units, np.int64)
    for unit in range(layout.num_units):
        left = []
        for place, (of_fold, value) in enumerate(zip(rows, values.tolist(), strict=True)):
            held = layout.units[of_fold] == unit
            if held.any():
                strata[unit] = place
            if not held.all():  # else the fold is this unit, and goes with it
                left.append(score(of_fold[~held]) if held.any() else value)
        without[unit] = sum(left) / len(left)
    value = float(values.mean())
    if np.bincount(strata, minlength=len(rows)).min() < 2:  # folds of one unit: they are what varies
        strata, values = np.zeros_like(strata), np.array([value])
    return Estimate(value, without, strata, values)


# Without a signal a cross-validated score is a sum over pairs of units, each of which trains the model that
# tests the other: every product stands in it twice, and its variance is twice that of given predictions.
BOTH_WAYS = math.sqrt(2)


def cross_validated(found: Estimate, guess: Estimate, *, lower_is_better: bool = False) -> Estimate:
    """The score, with the larger error where it is not clearly better than the guess that sees no pair."""
    ahead = replace(found.minus(guess), spread=BOTH_WAYS)
    gain = -ahead.value if lower_is_better else ahead.value
    is_clear = gain > _student(ahead.freedom) * ahead.standard_error
    return found if is_clear else replace(found, spread=BOTH_WAYS)


@dataclass(frozen=True)
class Interval:
    """The score, its standard error, and the ends of the interval that holds 95 %."""

    value: float
    standard_error: float
    low: float
    high: float
    num_units: int


def interval_of(found: Estimate, metric: str) -> Interval:
    """The interval by Student's t, on the scale on which the metric's error is even."""
    size, error = len(found.without), found.standard_error
    reach = _student(found.freedom) * error
    name = metric.replace("macro-", "").replace("micro-", "")
    if name in _SHARES:
        low, high = _bent(found.value, reach, 0.0, size)
    elif name in _CORRELATIONS:
        low, high = _bent(found.value, reach, -1.0, size)
    elif name == "rmse" and found.value > 0:
        factor = math.exp(reach / found.value)
        low, high = found.value / factor, found.value * factor
    else:
        low, high = found.value - reach, found.value + reach
    return Interval(found.value, error, low, high, size)


def _student(freedom: int) -> float:
    with needs_extra("finetune"):
        from scipy.stats import t as student
    return float(student.ppf((1 + CONFIDENCE) / 2, freedom))


def _bent(value: float, reach: float, least: float, num_units: int) -> tuple[float, float]:
    """Ends on the scale of log odds between `least` and 1: neither leaves it."""
    width = 1 - least
    share = (value - least) / width
    if share <= 0 or share >= 1:
        # All units alike show no spread: the ends are those of so many successes in a row.
        edge = ((1 - CONFIDENCE) / 2) ** (1 / num_units)
        low, high = (edge, 1.0) if share >= 1 else (0.0, 1 - edge)
    else:
        odds = math.log(share / (1 - share))
        aside = reach / width / (share * (1 - share))
        low, high = (_share(odds + sign * aside) for sign in (-1, 1))
    return least + width * low, least + width * high


def _share(odds: float) -> float:
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0


@dataclass(frozen=True)
class PairedTest:
    """The first's score less the second's with its interval; `p_holm` is corrected for all pairs tested."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def paired_tests(
    found: Mapping[str, Estimate], pairs: Sequence[tuple[str, str]], seed: int
) -> list[PairedTest]:
    """Tests of every pair by name, corrected by Holm for their number.

    Random signs are exact where few units differ, and Student's t where large ones outweigh the rest; the
    larger p counts, so that no test finds a difference whose interval holds 0.
    """
    estimates = [found[first].minus(found[second]) for first, second in pairs]
    flipped = sign_flip_p([one.contributions for one in estimates], seed, [one.spread for one in estimates])
    chances = [max(p, _student_p(one)) for p, one in zip(flipped, estimates, strict=True)]
    tests = []
    for (first, second), one, p, corrected in zip(pairs, estimates, chances, holm(chances), strict=True):
        reach = _student(one.freedom) * one.standard_error
        low, high = one.value - reach, one.value + reach
        tests.append(PairedTest(first, second, one.value, low, high, p, corrected))
    return tests


def _student_p(found: Estimate) -> float:
    with needs_extra("finetune"):
        from scipy.stats import t as student
    if found.standard_error == 0:
        return 1.0 if found.value == 0 else 0.0
    return 2 * float(student.sf(abs(found.value) / found.standard_error, found.freedom))


def sign_flip_p(contributions: Sequence[Floats], seed: int, spreads: Sequence[float] = ()) -> list[float]:
    """Share of random signs of the units under which the mean is as far from 0, for each of several rows.

    Where two models are equally good, swapping their predictions of a unit changes the sign of what the unit
    contributes to the difference, and both signs are as probable.
    """
    if not contributions:
        return []
    values = np.stack(contributions)  # [tests, units]
    num_units = values.shape[1]
    seen = np.abs(values.sum(axis=1)) / np.array(spreads or 1.0)
    seen *= 1 - 1e-9  # sums in another order differ in their last digits
    if num_units <= _EXACT_UNITS:
        signs = np.array(list(product((-1.0, 1.0), repeat=num_units)))
        return [float(share) for share in (np.abs(signs @ values.T) >= seen).mean(axis=0)]
    randomness = random_stream(seed, "sign flips")
    larger = np.zeros(len(values), np.int64)
    for _ in range(FLIPS // 1000):
        signs = randomness.integers(0, 2, (1000, num_units)) * 2.0 - 1.0
        larger += (np.abs(signs @ values.T) >= seen).sum(axis=0)
    return [float((1 + count) / (1 + FLIPS)) for count in larger]


def holm(chances: Sequence[float]) -> list[float]:
    """Holm's correction: the chance of any false finding among all tests stays below each level."""
    corrected, largest = [0.0] * len(chances), 0.0
    for place, index in enumerate(np.argsort(np.asarray(chances), kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(chances) - place) * chances[index]))
        corrected[index] = largest
    return corrected
