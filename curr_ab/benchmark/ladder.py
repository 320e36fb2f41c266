"""The ladder of sizes: one task over members of several sizes and data sets, and what a gain takes.

The paper holds that size and data help together: larger models gain from more data, and more data from larger
models. That is an interaction, so it is tested as one. Scores are regressed on the size and on the data set,
each as a factor, and on the product of log2 parameters and log2 pairs. Whatever shape the gain by size alone
has, and the gain by data alone, the factors take it; the product is left with what neither does by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curr_ab.benchmark.statistics import Estimate
from curr_ab.extras import needs_extra
from curr_ab.measures.metrics import Floats
from curr_ab.measures.statistics import CONFIDENCE

_CLEAR = 0.05  # the level of the test


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One trained model and its score on the task; several of one size and data set differ in their seeds."""

    name: str
    parameters: int
    pairs: int  # that it was trained on
    score: float  # higher is better
    error: float | None = None  # of another sample of examples
    loss: float | None = None  # on held-out pairs


@dataclass(frozen=True)
class Effect:
    """A difference in the score, the interval that holds it in 95 of 100 cases, and its p-value."""

    value: float
    low: float
    high: float
    p: float

    @property
    def is_clear(self) -> bool:
        return self.p < _CLEAR


@dataclass(frozen=True)
class Together:
    """What a doubling of the size brings, and how much more with each doubling of the data."""

    interaction: Effect  # more gain by a doubling of the size for each doubling of the data
    size_with_least_data: Effect  # gain by a doubling of the size
    size_with_most_data: Effect
    data_with_smallest_size: Effect  # gain by a doubling of the data
    data_with_largest_size: Effect
    num_models: int
    freedom: int  # degrees of freedom that are left for the noise
    by_examples: bool  # the error of the examples is the larger one, and counts
    knows_examples: (
        bool  # False: the scatter of the models alone, which is blind to what moves all in concert
    )

    @property
    def sentence(self) -> str:
        """What was found, with the numbers."""
        found = self.interaction
        numbers = (
            f"each doubling of the data changes the gain by a doubling of the size by {found.value:+.2g} "
            f"(95% interval {found.low:+.2g} to {found.high:+.2g}, p = {found.p:.2g}, "
            f"{self.num_models} models)"
        )
        if not found.is_clear:
            return f"Whether size and data help more together than each alone is not shown: {numbers}."
        if not self.knows_examples:
            words = "help" if found.value > 0 else "replace"
            return (
                f"Size and data {words} each other, by the scatter of the models alone; other held-out pairs "
                f"may say otherwise: {numbers}."
            )
        if found.value < 0:
            return f"Size and data replace each other: {numbers}."
        alone = [
            words
            for words, effect in (
                ("the size with the least data", self.size_with_least_data),
                ("the data with the smallest size", self.data_with_smallest_size),
            )
            if effect.is_clear and effect.value > 0
        ]
        if alone:
            return f"Size and data help more together, but {' and '.join(alone)} helps, too: {numbers}."
        return f"Gains appear with size and data together: {numbers}; neither alone is shown to help."


def judge(rungs: Sequence[Rung], found: Sequence[Estimate] = ()) -> Together:
    """Test whether size and data help more together than each by itself.

    `found` are the scores of the rungs, of whatever sign, with those without each unit of the task, such as a
    donor or a pair. All models are measured on the same examples, and what is peculiar to these moves all
    scores in concert, which the scatter of the models does not show. So the standard error is the larger of
    two: that of the scatter, and the jackknife's over the units.
    """
    with needs_extra("finetune"):
        from scipy.stats import t as student
    _check(rungs)
    sizes = np.log2([rung.parameters for rung in rungs])
    data = np.log2([rung.pairs for rung in rungs])
    scores = np.array([rung.score for rung in rungs])
    means = (sizes.mean(), data.mean())
    design = np.column_stack(
        [_factor(sizes), _factor(data)[:, 1:], (sizes - means[0]) * (data - means[1])],
    )
    rank = int(np.linalg.matrix_rank(design))
    freedom = len(rungs) - rank
    if rank < design.shape[1] or freedom < 1:
        raise ValueError(
            "the ladder must hold models that tell size and data apart, and some to judge noise by, such as "
            f"3 sizes with 3 data sets each, or 2 with 2 and two seeds; got {len(rungs)} models"
        )
    solve = np.linalg.pinv(design)
    residuals = scores - design @ (solve @ scores)
    scatter = math.sqrt(float(residuals @ residuals) / freedom)
    reach = float(student.ppf((1 + CONFIDENCE) / 2, freedom))

    def effect(weights: Floats) -> tuple[Effect, bool]:
        value = float(weights @ scores)
        by_scatter = scatter * float(np.linalg.norm(weights))
        by_units = _combined(weights, found).standard_error if found else 0.0
        error = max(by_scatter, by_units)
        if error == 0:
            return Effect(value, value, value, 1.0 if value == 0 else 0.0), False
        p = 2 * float(student.sf(abs(value) / error, freedom))
        return Effect(value, value - reach * error, value + reach * error, p), by_units > by_scatter

    interaction, by_examples = effect(solve[-1])
    return Together(
        interaction=interaction,
        size_with_least_data=effect(_slope(sizes, data == data.min()))[0],
        size_with_most_data=effect(_slope(sizes, data == data.max()))[0],
        data_with_smallest_size=effect(_slope(data, sizes == sizes.min()))[0],
        data_with_largest_size=effect(_slope(data, sizes == sizes.max()))[0],
        num_models=len(rungs),
        freedom=freedom,
        by_examples=by_examples,
        knows_examples=bool(found),
    )


def _check(rungs: Sequence[Rung]) -> None:
    for what in ("parameters", "pairs"):
        values = {getattr(rung, what) for rung in rungs}
        if len(values) < 2 or min(values) < 1:
            raise ValueError(
                f"the ladder must have two numbers of {what} at least; got {sorted(values)}; add models"
            )
    if broken := [rung.name for rung in rungs if not math.isfinite(rung.score)]:
        raise ValueError(f"the score of {broken[0]} must be a number; leave the model out")


def _factor(values: Floats) -> Floats:
    """One column for each distinct value."""
    return np.asarray(values[:, None] == np.unique(values), np.float64)


def _slope(values: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    """The weights of all models in the slope by `values` among the chosen ones."""
    centred = np.where(chosen, values - values[chosen].mean(), 0.0)
    square = float(centred @ centred)
    return centred / square if square else centred


def _combined(weights: Floats, found: Sequence[Estimate]) -> Estimate:
    """The weighted sum of scores of the same units."""
    values, without = (
        weights @ np.stack([getattr(one, name) for one in found]) for name in ("values", "without")
    )
    return Estimate(float(values.mean()), without, found[0].strata, values, max(one.spread for one in found))
