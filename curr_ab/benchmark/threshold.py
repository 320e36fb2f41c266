"""The score of a task as a curve of the loss, or of the model size, and whether it has a threshold.

A threshold is a place before which the score gains nothing and after which it rises. So a line is compared
with a line that breaks somewhere. As the place of the break is sought too, the scores' own scatter always has
one that helps; what the best of them is worth by chance is simulated (Davies 1987, Biometrika 74:33). Where
the noise of all cells is alike this is exact: it depends neither on the line nor on the size of the noise.

Intervals of the place, of the slopes and of the curve hold what explains the scores little worse than the
best broken line does; how much worse is simulated, too. They allow for a break whether or not one is shown,
so that they hold whatever the test says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from curr_ab.benchmark.ladder import Rung
from curr_ab.benchmark.statistics import Estimate, covariance
from curr_ab.extras import needs_extra
from curr_ab.measures.metrics import Floats
from curr_ab.measures.statistics import CONFIDENCE
from curr_ab.quantities import format_quantity
from curr_ab.randomness import random_stream

Against = Literal["loss", "parameters"]
_CLEAR = 0.05  # the level of the test
_FEWEST_CELLS = 10  # a broken line takes four numbers from them
_FEWEST_VALUES = 5  # of loss or size
_DRAWS = 1_999  # for the test
_DRAWS_OF_INTERVALS = 499
_BREAKS = 81  # places that are tried for the break
_PLACES = 41  # of the curve in a picture


class TooFewCells(ValueError):
    """Cells that are not enough for a curve."""


@dataclass(frozen=True)
class Between:
    """A number, and the interval that holds it in 95 of 100 cases."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ScoreCurve:
    """A curve through the cells: sizes with their data, each the mean of its runs."""

    against: Against
    lower_is_better: bool
    points: tuple[tuple[float, Between], ...]  # of the curve with its band, by loss or parameters
    threshold: Between  # loss or parameters
    p: float  # against a line without a break
    p_parabola: float  # against a curve that bends everywhere alike
    slope: Between  # gain for each 0.1 nats that the loss falls, or each doubling of the size: of the line
    slope_before: Between  # above that loss, or below that size
    slope_after: Between
    num_cells: int
    knows_examples: bool  # False: the scatter of the cells alone, which is blind to what moves all in concert

    @property
    def is_clear(self) -> bool:
        return self.p < _CLEAR

    @property
    def place(self) -> str:
        """The threshold with its interval, in words."""
        low, value, high = (
            f"{one:.3g}" if self.against == "loss" else format_quantity(one)
            for one in (self.threshold.low, self.threshold.value, self.threshold.high)
        )
        at = f"a loss of {value} nats" if self.against == "loss" else f"{value} parameters"
        return f"{at} (95% interval {low} to {high})"

    def sentence(self, score: str) -> str:
        """What was found of the `score`, such as `accuracy`, with the numbers."""
        by_loss = self.against == "loss"
        by, step = ("loss", "0.1 nats less") if by_loss else ("size", "doubling of the size")
        before, after = ("above", "below") if by_loss else ("below", "above")
        tested = f"p against no threshold = {self.p:.2g}, {self.num_cells} cells"
        if not self.knows_examples:
            tested += " by their scatter alone"
        if not self.is_clear:
            return (
                f"No threshold of the {score} by the {by} is shown ({tested}): with each {step} it changes "
                f"by {_signed(self.slope)}."
            )
        gain_before, gain_after = (
            (-one.high, -one.value) if self.lower_is_better else (one.low, one.value)
            for one in (self.slope_before, self.slope_after)
        )
        if gain_after[1] < gain_before[1]:
            found = f"improves less {after}"
        elif gain_before[0] > 0:
            found = f"improves more {after}"
        else:
            found = "has a threshold at"
        parabola = "does not explain that" if self.p_parabola < _CLEAR else "would explain that as well"
        return (
            f"The {score} {found} {self.place}, {tested}: with each {step} it changes by "
            f"{_signed(self.slope_before)} {before}, and by {_signed(self.slope_after)} {after}. "
            f"A parabola {parabola} (p = {self.p_parabola:.2g})."
        )


def _signed(found: Between) -> str:
    return f"{found.value:+.2g} ({found.low:+.2g} to {found.high:+.2g})"


def fit_curves(
    rungs: Sequence[Rung], found: Sequence[Estimate] = (), *, lower_is_better: bool = False
) -> dict[Against, ScoreCurve]:
    """The curves by loss and by size that cells are enough for; by loss of those whose loss is known."""
    curves: dict[Against, ScoreCurve] = {}
    known = [place for place, one in enumerate(rungs) if one.loss is not None and math.isfinite(one.loss)]
    chosen: tuple[tuple[Against, Sequence[int]], ...] = (("loss", known), ("parameters", range(len(rungs))))
    for against, places in chosen:
        own, of_own = [rungs[at] for at in places], [found[at] for at in places if found]
        with suppress(TooFewCells):
            curves[against] = fit_curve(own, of_own, against=against, lower_is_better=lower_is_better)
    return curves


def fit_curve(
    rungs: Sequence[Rung],
    found: Sequence[Estimate] = (),
    *,
    against: Against = "loss",
    lower_is_better: bool = False,
) -> ScoreCurve:
    """The curve of the scores by loss or by size, and the test for a threshold.

    Runs of one size and data set are averaged: they share what is peculiar to it, and would count as more
    than they are. By size each data set has its own level, and the curve is the mean over them.

    All models see the same examples, and what is peculiar to these moves all scores in concert. `found`, the
    scores without each unit, tell how; what they leave of the scatter is each cell's own noise. Without them
    the errors of the rungs tell which scores are noisier, and nothing tells what moves all.
    """
    if against == "loss" and (unknown := [one.name for one in rungs if one.loss is None]):
        raise ValueError(f"the loss of {unknown[0]} must be known; leave the model out")
    if broken := [one.name for one in rungs if not math.isfinite(one.score)]:
        raise ValueError(f"the score of {broken[0]} must be a number; leave the model out")
    names = [(one.parameters, one.pairs) for one in rungs]
    cells = list(dict.fromkeys(names))
    # A better model lies at a lower place.
    of_runs = [one.loss if against == "loss" else -math.log2(one.parameters) for one in rungs]
    data = np.array([0 if against == "loss" else pairs for _, pairs in cells])
    levels = np.asarray(data[:, None] == np.unique(data), np.float64)
    fewest, num_values = max(_FEWEST_CELLS, levels.shape[1] + 5), len(set(of_runs))
    if len(cells) < fewest or num_values < _FEWEST_VALUES:
        raise TooFewCells(
            f"a curve must have {fewest} cells with {_FEWEST_VALUES} values of the {against} at least; got "
            f"{len(cells)} with {num_values}; measure more models"
        )
    runs = np.array([[name == cell for name in names] for cell in cells], np.float64)
    mean = runs / runs.sum(axis=1, keepdims=True)  # [cells, rungs]
    places = mean @ of_runs
    covariances = covariance(found) if found else np.diag([(one.error or 0.0) ** 2 for one in rungs])
    measured = (places, mean @ [one.score for one in rungs], mean @ covariances @ mean.T)
    line = np.column_stack([levels, places])
    fit = _BrokenLines(line, *measured)
    parabola = _BrokenLines(np.column_stack([line, (places - places.mean()) ** 2]), *measured)
    p, threshold, unit = fit.p_break(), fit.place(), 0.1 if against == "loss" else 1.0
    shown = sorted([*np.linspace(places.min(), places.max(), _PLACES).tolist(), threshold.value])
    return ScoreCurve(
        against=against,
        lower_is_better=lower_is_better,
        points=tuple((_value(at, against), fit.height(at, is_broken=p < _CLEAR)) for at in shown),
        threshold=_turned(threshold, against),
        p=p,
        p_parabola=parabola.p_break(),
        slope=fit.slope(-unit),
        slope_before=fit.slope_beside(-unit, after=False),
        slope_after=fit.slope_beside(-unit, after=True),
        num_cells=len(cells),
        knows_examples=bool(found),
    )


def _value(place: float, against: Against) -> float:
    return place if against == "loss" else 2.0**-place


def _turned(place: Between, against: Against) -> Between:
    """Loss or parameters; more parameters lie at a lower place."""
    if against == "loss":
        return place
    return Between(*(_value(at, against) for at in (place.value, place.high, place.low)))


class _BrokenLines:
    """Lines broken at each of many places, fitted to the scores, and to others as the best of them makes.

    A broken line is the line of `base` [cells, columns] and, at right angles to it, what the break adds. So
    one number for each break says what it is worth. But for the test, the places are the last of `base`.
    """

    def __init__(self, base: Floats, places: Floats, scores: Floats, noise: Floats) -> None:
        self._base, self._places, self._scores, self._noise = base, places, scores, noise
        self._solve = np.linalg.pinv(base)
        breaks = _breaks(places)
        hinges = np.maximum(breaks[:, None] - places, 0)  # [breaks, cells]
        inside = hinges @ self._solve.T  # [breaks, columns], what the line takes of them
        apart = hinges - inside @ base.T
        lengths = np.linalg.norm(apart, axis=1)
        # A break beyond which lies one cell with data of its own is a level of these data, and no break.
        told = lengths > 1e-9 * hinges.max()
        if not told.any():
            raise TooFewCells("a curve must have data sets that share sizes; got cells that do not; add some")
        self._breaks, self._inside, self._lengths = breaks[told], inside[told], lengths[told]
        self._contrasts = apart[told] / self._lengths[:, None]  # [breaks, cells] of length 1
        self._worth = self._contrasts @ scores  # [breaks]
        residuals = scores - base @ (self._solve @ scores)
        least = 1e-24 * float(scores @ scores) + 1e-300  # so that scores on a line divide by no 0
        self._of_line = float(residuals @ residuals) + least  # sum of squares
        self._squares = np.maximum(self._of_line - self._worth**2, least)  # [breaks]
        self._best = int(self._squares.argmin())
        self._freedom = len(scores) - base.shape[1]
        own = self._own(self._squares[self._best], self._contrasts[[self._best]], 2)
        values, vectors = np.linalg.eigh(own * np.eye(len(scores)) + noise)
        root = vectors * np.sqrt(np.maximum(values, 0))
        draws = random_stream(0, "threshold").normal(size=(len(scores), _DRAWS))
        self._drawn = root @ draws  # [cells, draws] of noise
        self._drawn_worth = self._contrasts @ self._drawn  # [breaks, draws]
        self._drawn_of_line = np.square(self._drawn - base @ (self._solve @ self._drawn)).sum(axis=0) + least

    def _own(self, squares: float, taken: Floats, num_taken: int) -> float:
        """The variance of a cell that is not noise of the examples."""
        left = np.eye(len(self._scores)) - self._base @ self._solve - taken.T @ taken
        of_cells = squares - float((left * self._noise).sum())
        return max(0.0, float(of_cells / (self._freedom - num_taken)))

    def p_break(self) -> float:
        """The share of lines with noise of whose scatter some break takes as much."""
        seen = np.abs(self._worth).max() / math.sqrt(self._of_line)
        drawn = np.abs(self._drawn_worth).max(axis=0) / np.sqrt(self._drawn_of_line)
        return float((1 + (drawn >= seen * (1 - 1e-9)).sum()) / (1 + _DRAWS))

    def _remade(self, at: int) -> tuple[Floats, Floats]:
        """Scores as the line broken at `at` makes: worth and sum of squares of each break [breaks, draws]."""
        drawn, of_line = self._drawn_worth[:, :_DRAWS_OF_INTERVALS], self._drawn_of_line[:_DRAWS_OF_INTERVALS]
        worth = self._worth[at] * (self._contrasts @ self._contrasts[at])[:, None] + drawn
        of_line = of_line + self._worth[at] * (self._worth[at] + 2 * drawn[at])
        return worth, np.maximum(of_line - worth**2, 1e-12 * of_line)

    @cached_property
    def _remade_best(self) -> tuple[Floats, Floats]:
        return self._remade(self._best)

    def place(self) -> Between:
        """The best break, and those that are not worse than they would be if they were true.

        The interval ends at the next place that was tried, and behind the last of these at the last cell.
        """
        kept = []
        for at, squares in enumerate(self._squares / self._squares[self._best]):
            _, remade = self._remade(at)
            if (remade[at] / remade.min(axis=0) >= squares * (1 - 1e-9)).mean() > 1 - CONFIDENCE:
                kept.append(at)
        ends = np.concatenate([[self._places.min()], self._breaks, [self._places.max()]])
        low, high = ends[kept[0]], ends[kept[-1] + 2]
        return Between(float(self._breaks[self._best]), float(low), float(high))

    def height(self, at: float, *, is_broken: bool) -> Between:
        """The curve at a place, on the mean level."""
        num_levels = self._base.shape[1] - 1
        row = np.array([1 / num_levels] * num_levels + [at])
        turned = (np.maximum(self._breaks - at, 0) - self._inside @ row) / self._lengths
        return self._between(row @ self._solve, turned, is_broken=is_broken)

    def slope_beside(self, unit: float, *, after: bool) -> Between:
        """The slope of the broken line before or after its break."""
        turned = -(self._inside[:, -1] + (1 if after else 0)) / self._lengths
        return self._between(unit * self._solve[-1], unit * turned, is_broken=True)

    def _between(self, weights: Floats, turned: Floats, *, is_broken: bool) -> Between:
        """A number that is `weights` of the scores, and `turned` [breaks] of what the break is worth."""
        values = weights @ self._scores + self._worth * turned
        variances = weights @ weights + turned**2
        worth, squares = self._remade_best
        apart = worth * turned[:, None] - self._worth[self._best] * turned[self._best]
        apart += weights @ self._drawn[:, :_DRAWS_OF_INTERVALS]
        worse = (squares + apart**2 / variances[:, None]).min(axis=0) / squares.min(axis=0)
        limit = self._squares[self._best] * float(np.quantile(worse, CONFIDENCE))
        reach = np.sqrt(variances * np.maximum(limit - self._squares, 0))
        kept = self._squares <= limit
        value = values[self._best] if is_broken else weights @ self._scores
        return Between(float(value), float((values - reach)[kept].min()), float((values + reach)[kept].max()))

    def slope(self, unit: float) -> Between:
        """The slope of the line without a break."""
        with needs_extra("finetune"):
            from scipy.stats import t as student
        weights = unit * self._solve[-1]
        own = self._own(self._of_line, np.zeros((1, len(self._scores))), 0)
        error = math.sqrt(own * float(weights @ weights) + float(weights @ self._noise @ weights))
        reach = error * float(student.ppf((1 + CONFIDENCE) / 2, self._freedom))
        value = float(weights @ self._scores)
        return Between(value, value - reach, value + reach)


def _breaks(places: Floats) -> Floats:
    """Places where a line may break: a twentieth of the cells, and one at least, lies on either side."""
    least = math.ceil(len(places) / 20)
    ordered = np.sort(places)
    low = next(at for at in ordered if (places < at).sum() >= least)
    high = next(at for at in ordered[::-1] if (places > at).sum() >= least)
    return np.linspace(low, high, _BREAKS)
