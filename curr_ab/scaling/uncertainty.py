"""Fit of a law, and its uncertainty: bootstraps of runs or of their noise, influence of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.draws import DrawNoise, Scatter, draw_units, noise_of_draws
from curr_ab.scaling.runs import Array, Runs, is_curves, seed_noise
from curr_ab.workers import map_chunks


class NoOptimum(ValueError):
    """Runs that do not determine the estimate, such as a parabola that opens downward."""


Estimate = Mapping[str, float]
Estimator = Callable[[Runs], Estimate]
Seeds = Sequence[np.random.SeedSequence]


@dataclass(frozen=True)
class Interval:
    """95 % interval with the median of the draws."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Estimates over many draws; draws without an optimum are counted and left out.

    `estimates` are those of the runs themselves, about which intervals are corrected; empty where the draws
    only show what a given noise does.
    """

    method: str
    draws: int
    share_without_optimum: float
    samples: Mapping[str, Array]
    estimates: Estimate = field(default_factory=dict)

    def interval(self, name: str) -> Interval:
        """Interval of an estimate; NaN where no draw gave it."""
        return self._interval(self.samples.get(name, np.array([])), self.estimates.get(name))

    def interval_of(self, samples: Array, value: float) -> Interval:
        """Interval of what follows from the estimates, by what follows from each draw."""
        return self._interval(samples, value if self.estimates else None)

    def _interval(self, samples: Array, value: float | None) -> Interval:
        return interval(samples) if value is None else corrected(samples, value, self.share_without_optimum)

    @property
    def intervals(self) -> dict[str, Interval]:
        return {name: self.interval(name) for name in self.samples}


@dataclass(frozen=True)
class Influence:
    """Estimates without one run; None where they are not determined without it."""

    run: str
    estimates: Estimate | None


@dataclass(frozen=True)
class Profile:
    """Profile likelihood of one parameter: its deviance when all others are fitted again.

    The 95 % interval is where the deviance stays under 3.84; an end at infinity means that the runs do not
    bound the parameter on that side.
    """

    parameter: str
    values: Array
    deviance: Array
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Law fitted to a table of runs."""

    law: str
    runs: Runs
    estimates: Mapping[str, float]
    residuals: Array  # measured minus fitted; in the unit that `residual_unit` names
    residual_unit: str = "nats"
    spreads: tuple[Spread, ...]
    influences: tuple[Influence, ...]
    profiles: tuple[Profile, ...] = ()
    warnings: tuple[str, ...]


def interval(samples: Array) -> Interval:
    """Interval of the samples; NaN where there are none."""
    if len(samples) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    low, median, high = np.percentile(samples, [2.5, 50, 97.5])
    return Interval(float(low), float(median), float(high))


def corrected(samples: Array, value: float, share_lost: float = 0.0) -> Interval:
    """Interval of the samples, moved back by their bias about `value`; NaN where there are none.

    Draws add their noise to that of the runs. Where noise moves an estimate to one side, as it makes the
    exponent of a law through noisy optima smaller, draws lie twice as far on it (Efron's bias-corrected
    percentiles undo that). Draws that gave nothing may lie anywhere: half of them count as below all others,
    half as above, so that an interval without an end says how little is known.
    """
    if len(samples) == 0:
        return interval(samples)
    below = ((samples < value).mean() + (samples <= value).mean()) / 2
    least = 1 / (len(samples) + 1)
    bias = norm.ppf(np.clip(below, least, 1 - least))
    shares = norm.cdf(2 * bias + norm.ppf([0.025, 0.5, 0.975]))
    low, median, high = (shares - share_lost / 2) / (1 - share_lost)
    lowest = 0.0 if samples.min() > 0 else -np.inf
    return Interval(
        float(np.quantile(samples, low)) if low >= 0 else lowest,
        float(np.quantile(samples, np.clip(median, 0, 1))),
        float(np.quantile(samples, high)) if high <= 1 else np.inf,
    )


def bootstrap(estimator: Estimator, runs: Runs, strata: npt.NDArray[np.generic], doubt: Doubt) -> Spread:
    """Draw runs with replacement within their stratum (data size, budget); a curve stays whole."""
    units = list(_units(runs).values())
    strata_of_units = np.zeros(len(units)) if is_curves(runs) else strata
    groups = [np.flatnonzero(strata_of_units == stratum) for stratum in np.unique(strata_of_units)]
    draw = partial(_bootstrap_draws, estimator, runs, units, groups)
    return _spread("bootstrap over runs", draw, doubt)


def propagate_noise(estimator: Estimator, runs: Runs, noise_sd: float, doubt: Doubt) -> Spread:
    """Add Gaussian noise of `noise_sd` to the measured losses."""
    noise = partial(_gaussian, noise_sd, len(runs))
    return _spread(f"noise of sd {noise_sd:.2g}", partial(_noise_draws, estimator, runs, noise), doubt)


def bootstrap_noise(estimator: Estimator, runs: Runs, noise: DrawNoise | Scatter, doubt: Doubt) -> Spread:
    """Add the noise that was measured, each time as large as its degrees of freedom let it be.

    To resample few runs, or two or three draws of a number of sequences, gives intervals that are far too
    narrow.
    """
    method = "bootstrap over draws" if isinstance(noise, DrawNoise) else "scatter about the curves"
    draw = partial(_noise_draws, estimator, runs, noise.sample)
    return _spread(method, draw, doubt, estimator(runs))


def influences(estimator: Estimator, runs: Runs) -> tuple[Influence, ...]:
    """Leave out each run in turn."""
    everything = np.arange(len(runs))
    return tuple(
        Influence(name, _try(estimator, runs.take(np.setdiff1d(everything, rows))))
        for name, rows in _units(runs).items()
    )


def _units(runs: Runs) -> dict[str, npt.NDArray[np.intp]]:
    """Rows that were measured together: a training curve, the runs of a draw, or a single row."""
    if is_curves(runs):
        return {str(name): np.flatnonzero(runs.run == name) for name in np.unique(runs.run)}
    if noise_of_draws(runs) is not None:
        return draw_units(runs)
    return {f"row {row + 1}": np.array([row]) for row in range(len(runs))}


def noise_of(runs: Runs, doubt: Doubt) -> float | None:
    """Noise as given, else as the seeds scatter, else None."""
    return doubt.noise_sd if doubt.noise_sd is not None else seed_noise(runs)


def measure(
    estimator: Estimator,
    runs: Runs,
    strata: npt.NDArray[np.generic],
    doubt: Doubt,
    scatter: Scatter | None = None,
) -> tuple[tuple[Spread, ...], tuple[Influence, ...], list[str]]:
    """Measure the uncertainty of `estimator(runs)`: spreads, influences and warnings.

    The noise is that between draws where there are several, else the `scatter` about fitted curves, if any.
    """
    warnings = []
    noise = None if is_curves(runs) else noise_of_draws(runs) or scatter
    if noise is None:
        spreads, noise_sd = [bootstrap(estimator, runs, strata, doubt)], noise_of(runs, doubt)
    else:
        spreads, noise_sd = [bootstrap_noise(estimator, runs, noise, doubt)], doubt.noise_sd
    if noise_sd:
        spreads.append(propagate_noise(estimator, runs, noise_sd, doubt))
    elif noise_sd == 0:
        warnings.append("repeated runs have equal losses: their scatter says nothing about the noise")
    elif noise is None:
        warnings.append("the noise is unknown: repeat runs with other seeds, or give its standard deviation")
    for spread in spreads:
        if spread.share_without_optimum > 0.05:
            lost = f"{spread.share_without_optimum:.0%} of the draws ({spread.method}) have no optimum"
            open_ended = "its intervals have no end" if spread.estimates else None
            warnings.append(f"{lost}: {open_ended or 'its intervals, of the others alone, are too narrow'}")
    return tuple(spreads), influences(estimator, runs), warnings


def _try(estimator: Estimator, runs: Runs) -> Estimate | None:
    try:
        return estimator(runs)
    except NoOptimum:
        return None


def _bootstrap_draws(
    estimator: Estimator,
    runs: Runs,
    units: Sequence[npt.NDArray[np.intp]],
    groups: Sequence[npt.NDArray[np.intp]],
    seeds: Seeds,
) -> list[Estimate | None]:
    estimates = []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        drawn = [units[unit] for group in groups for unit in generator.choice(group, len(group))]
        sample = runs.take(np.concatenate(drawn))
        if is_curves(runs):  # a curve that was drawn twice is two curves
            copies = np.repeat(np.arange(len(drawn)), [len(rows) for rows in drawn])
            sample = replace(sample, run=copies.astype(np.str_))
        estimates.append(_try(estimator, sample))
    return estimates


def _gaussian(noise_sd: float, number: int, generator: np.random.Generator) -> Array:
    return generator.normal(0, noise_sd, number)


def _noise_draws(
    estimator: Estimator, runs: Runs, noise: Callable[[np.random.Generator], Array], seeds: Seeds
) -> list[Estimate | None]:
    noises = [noise(np.random.default_rng(seed)) for seed in seeds]
    return [_try(estimator, runs.with_losses(runs.loss + noise)) for noise in noises]


def _spread(
    method: str, draw: Callable[[Seeds], list[Estimate | None]], doubt: Doubt, center: Estimate | None = None
) -> Spread:
    seeds = np.random.SeedSequence(doubt.seed).spawn(doubt.draws)
    estimates = map_chunks(draw, seeds, workers=doubt.workers, progress=doubt.progress, label=method)
    determined = [estimate for estimate in estimates if estimate is not None]
    names = list(determined[0]) if determined else []
    samples = {name: np.array([estimate[name] for estimate in determined]) for name in names}
    return Spread(method, doubt.draws, 1 - len(determined) / doubt.draws, samples, center or {})
