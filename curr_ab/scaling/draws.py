"""Noise of runs: of the draw of their sequences, of its sizes, of the seed; or all that lies off curves.

A draw that is easy or hard moves all sizes that are trained on it together, so that runs of one draw are not
independent, and their scatter over seeds is not all of their noise. Where each number of sequences was drawn
once, only their distance from smooth curves shows what another draw would change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curr_ab.scaling.runs import Array, Runs, trainings

Labels = npt.NDArray[np.intp]
DRAW, OWN, SEED = "draw of the pairs", "draw, otherwise for each size", "seed"
OWN_AND_SEED = "seed, and draw otherwise for each size"
OFF_CURVES = "all that lies off the curves"


@dataclass(frozen=True)
class Component:
    """One source of noise, with the degrees of freedom that it was estimated from; None of known errors."""

    source: str
    sd: float
    freedom: int | None


def draw_units(runs: Runs) -> dict[str, Labels]:
    """The rows of each draw."""
    draws = _draws(runs)
    names = [f"draw {runs.draw[row]} of {runs.sequences[row]:,.0f} sequences" for row in range(len(runs))]
    return {names[rows[0]]: rows for draw in np.unique(draws) if len(rows := np.flatnonzero(draws == draw))}


def _labels(*columns: npt.NDArray[np.generic]) -> Labels:
    """The same number for rows that are equal in all columns."""
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    numbers = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    return np.array([numbers[row] for row in rows], dtype=np.intp)


def _draws(runs: Runs) -> Labels:
    return _labels(runs.sequences, runs.draw)


def noise_components(runs: Runs) -> tuple[Component, ...]:
    """What of the noise is the draw, and what the seed, as far as the runs tell them apart."""
    cells, draws = trainings(runs), _draws(runs)
    trained = _labels(cells, draws)
    if len(np.unique(draws)) == len(np.unique(runs.sequences)):
        return components(runs.loss, cells, {}, SEED)
    if len(np.unique(trained)) == len(runs):
        return components(runs.loss, cells, {DRAW: draws}, OWN_AND_SEED)
    return components(runs.loss, cells, {DRAW: draws, OWN: trained}, SEED)


def components(
    losses: Array, cells: Labels, factors: Mapping[str, Labels], rest: str
) -> tuple[Component, ...]:
    """Standard deviations of random effects of these factors and of the rest, beside fixed means of cells.

    By moments (Henderson's method 3): each factor's sum of squares beyond the factors before it equals its
    expectation. What comes out below 0 is 0. A factor that the rows do not tell from the others is left out.
    """
    effects = {name: _indicators(labels) for name, labels in factors.items()}
    effects[rest] = np.eye(len(losses))
    explained = _basis(_indicators(cells))
    parts: dict[str, Array] = {}  # orthonormal, of what each factor explains beyond those before it
    for name, effect in effects.items():
        parts[name] = _basis(effect - explained @ (explained.T @ effect))
        explained = np.hstack([explained, parts[name]])
    variances: dict[str, float] = {}
    for name in reversed([name for name in effects if parts[name].shape[1]]):
        squares = {
            other: float(((parts[name].T @ effects[other]) ** 2).sum()) for other in [name, *variances]
        }
        noise = sum(variances[other] * squares[other] for other in variances)
        variances[name] = (float(((parts[name].T @ losses) ** 2).sum()) - noise) / squares[name]
    return tuple(
        Component(name, float(np.sqrt(max(0.0, variances[name]))), parts[name].shape[1])
        for name in effects
        if name in variances
    )


def _indicators(labels: Labels) -> Array:
    return np.asarray(labels[:, None] == np.unique(labels), dtype=np.float64)


def _basis(columns: Array) -> Array:
    """Orthonormal columns that span these."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-8])


@dataclass(frozen=True)
class DrawNoise:
    """Noise of runs of several draws: a shift of each draw, and noise of each size trained on it."""

    draws: Labels
    trained: Labels  # rows of one size on one draw, which differ in their seeds
    shift: Component
    own: Sequence[Component]  # of the mean over the seeds, for each of `trained`
    pooled: Component  # the same over all numbers of sequences

    @property
    def own_sd(self) -> Array:
        """For every row, the noise of the mean over its seeds, without the shift of its draw."""
        return np.array([part.sd for part in self.own])[self.trained]

    def covariance(self) -> Array:
        """The covariance of the means over seeds, in the order of `trained`, all of one noise of their own.

        Weights by the few degrees of freedom of each number of sequences would make fits look too sure.
        """
        draws = np.zeros(len(self.own), dtype=np.intp)
        draws[self.trained] = self.draws
        shared = self.shift.sd**2 * (draws[:, None] == draws)
        return np.asarray(shared + self.pooled.sd**2 * np.eye(len(self.own)))

    def sample(self, generator: np.random.Generator) -> Array:
        """New noise for every row; each standard deviation is as unsure as its degrees of freedom say."""
        shifts = _drawn(self.shift, generator) * generator.normal(size=self.draws.max() + 1)
        scales = {part: _drawn(part, generator) for part in dict.fromkeys(self.own)}
        own = generator.normal(size=len(self.own)) * [scales[part] for part in self.own]
        return np.asarray(shifts[self.draws] + own[self.trained])


@dataclass(frozen=True)
class Scatter:
    """Noise of runs of one draw each: how far the means over their seeds lie from curves through them."""

    cells: Labels
    off_curves: Component

    def sample(self, generator: np.random.Generator) -> Array:
        """New noise for every row, the same for seeds of one cell."""
        noise = _drawn(self.off_curves, generator) * generator.normal(size=self.cells.max() + 1)
        return np.asarray(noise[self.cells])


def scatter_of(residuals: Array, num_coefficients: int, runs: Runs) -> Scatter | None:
    """The scatter of these residuals; None where the curves have as many coefficients as there are cells."""
    cells = trainings(runs)
    means = np.bincount(cells, residuals) / np.bincount(cells)
    freedom = len(means) - num_coefficients
    if freedom < 1:
        return None
    return Scatter(cells, Component(OFF_CURVES, float(np.sqrt(means @ means / freedom)), freedom))


def _drawn(part: Component, generator: np.random.Generator) -> float:
    return part.sd * float(np.sqrt(part.freedom / generator.chisquare(part.freedom))) if part.freedom else 0.0


def means_over_seeds(runs: Runs) -> tuple[Runs, Labels]:
    """One run for each training on each draw, with the mean loss of its seeds, and where each row went."""
    trained = _labels(trainings(runs), _draws(runs))
    first = np.unique(trained, return_index=True)[1]
    return runs.take(first).with_losses(np.bincount(trained, runs.loss) / np.bincount(trained)), trained


def noise_of_draws(runs: Runs) -> DrawNoise | None:
    """The noise of these runs; None where no two draws of one number trained the same sizes.

    Shifts are few for each number of sequences, and do not move the best size: theirs is over all numbers.
    """
    if (runs.draw == "").any() or np.isnan(runs.sequences).any():
        return None
    means, trained = means_over_seeds(runs)
    pooled = _two(means)
    if not {DRAW, OWN_AND_SEED} <= set(pooled):
        return None
    own = {}
    for sequences in np.unique(means.sequences):
        here = _two(means.take(means.sequences == sequences))
        own[sequences] = here.get(OWN_AND_SEED, pooled[OWN_AND_SEED])
    of_means = [own[sequences] for sequences in means.sequences.tolist()]
    return DrawNoise(_draws(runs), trained, pooled[DRAW], of_means, pooled[OWN_AND_SEED])


def _two(means: Runs) -> dict[str, Component]:
    found = components(means.loss, trainings(means), {DRAW: _draws(means)}, OWN_AND_SEED)
    return {part.source: part for part in found}
