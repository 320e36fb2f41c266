"""Iso-data law, the paper's own: the best model size for each data size, and a power law through these.

At each data size a parabola of the loss in the logarithm of the model size has its minimum at the best size.
The IsoFLOP law shares the parabolas and the power law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import chi2
from scipy.stats import f as f_distribution

from curr_ab.quantities import format_quantity
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.draws import DrawNoise, noise_of_draws, scatter_of
from curr_ab.scaling.runs import Array, Runs, one_objective, trainings
from curr_ab.scaling.uncertainty import (
    Estimate,
    Fit,
    Influence,
    Interval,
    NoOptimum,
    Profile,
    measure,
    noise_of,
)

LAW = "iso-data"
PROJECTED_PARAMETERS = 6.5e8  # the paper's projection is for its largest size
# A parabola that rises by less than rounding over the sizes is a line: its minimum is rounding noise.
FLAT = 1e-10


@dataclass(frozen=True)
class Parabola:
    """loss = floor + curvature * (log10(parameters) - log10(optimum))^2"""

    optimum: float
    floor: float
    curvature: float
    smallest: float
    largest: float

    @property
    def inside(self) -> bool:
        """True where the optimum lies between the sizes that were trained."""
        return self.smallest <= self.optimum <= self.largest

    def outside_warning(self) -> str:
        """Warning that the optimum does not lie between the sizes that were trained."""
        return (
            f"the optimum ({format_quantity(self.optimum)}) lies outside the sizes that were trained "
            f"({format_quantity(self.smallest)} to {format_quantity(self.largest)})"
        )

    def __call__(self, parameters: Array) -> Array:
        return np.asarray(self.floor + self.curvature * np.log10(parameters / self.optimum) ** 2)


def fit_parabola(parameters: Array, loss: Array, where: str) -> Parabola:
    """Fit by least squares; raises `NoOptimum` where the parabola is not determined or has no minimum."""
    if len(np.unique(parameters)) < 3:
        raise NoOptimum(f"{where}: a parabola needs three model sizes; got {len(np.unique(parameters))}")
    sizes = np.log10(parameters)
    center, width = sizes.mean(), np.ptp(sizes)
    scaled = (sizes - center) / width
    curvature, slope, constant = np.linalg.lstsq(np.vander(scaled, 3), loss, rcond=None)[0]
    if curvature <= FLAT * np.abs(loss).max():
        raise NoOptimum(f"{where}: the loss has no minimum in the model size (its parabola opens downward)")
    vertex = -slope / (2 * curvature)
    exponent = center + vertex * width
    if not -300 < exponent < 300:
        raise NoOptimum(f"{where}: the parabola is too flat to have a minimum at any real size")
    return Parabola(
        optimum=float(10**exponent),
        floor=float(constant - curvature * vertex**2),
        curvature=float(curvature / width**2),
        smallest=float(parameters.min()),
        largest=float(parameters.max()),
    )


def parabola_residuals(parabolas: Mapping[Any, Parabola], groups: Array, runs: Runs) -> Array:
    """Measured minus fitted losses, each by the parabola of its data size or budget."""
    pairs = zip(groups.tolist(), runs.parameters, strict=True)
    fitted: Array = np.array([float(parabolas[group](parameters)) for group, parameters in pairs])
    return np.asarray(runs.loss - fitted)


def lack_of_fit(residuals: Array, num_coefficients: int, noise_sd: float | None) -> list[str]:
    """Warn where the residuals are larger than the noise explains (chi-squared test, 1 %)."""
    freedom = len(residuals) - num_coefficients
    if not noise_sd or freedom <= 0:
        return []
    excess = float(residuals @ residuals) / noise_sd**2
    if chi2.sf(excess, freedom) > 0.01:
        return []
    return [
        f"the residuals are {np.sqrt(excess / freedom):.1f} times what noise of sd {noise_sd:.2g} explains: "
        "the noise is larger, or the loss is not a parabola; intervals by that noise are too narrow"
    ]


def lack_of_fit_to_draws(residuals: Array, num_coefficients: int, runs: Runs, noise: DrawNoise) -> list[str]:
    """Warn where the means over draws lie farther from the curves than their noise explains (F test, 1 %).

    What moves all sizes of a draw is in the curves' constants.
    """
    if not noise.own_sd.all():
        return []
    scaled = residuals / noise.own_sd
    numbers = trainings(runs)
    cells = [numbers == number for number in np.unique(numbers)]
    squares = sum(float(scaled[cell].mean() ** 2) * len(np.unique(noise.draws[cell])) for cell in cells)
    freedom, of_noise = len(cells) - num_coefficients, sum(part.freedom or 0 for part in set(noise.own))
    if freedom <= 0 or f_distribution.sf(squares / freedom, freedom, of_noise) > 0.01:
        return []
    return [
        f"the means over draws lie {np.sqrt(squares / freedom):.1f} times as far from the parabolas as their "
        "noise explains: the loss is not a parabola, and the intervals are too narrow"
    ]


def power_law(x: Array, y: Array) -> tuple[float, float]:
    """Coefficient and exponent of y = coefficient * x^exponent, by regression of ln y on ln x."""
    log_x, log_y = np.log(x), np.log(y)
    if np.ptp(log_x) < 1e-12:
        raise NoOptimum("all optima coincide, so that no power law goes through them")
    exponent, intercept = np.polyfit(log_x, log_y, 1)
    if not abs(intercept) < 700:
        raise NoOptimum("the optima are too close together for a power law")
    return float(np.exp(intercept)), float(exponent)


@dataclass(frozen=True, kw_only=True)
class IsoDataFit(Fit):
    """sequences = coefficient * parameters^exponent, through one optimum for each data size."""

    parabolas: Mapping[int, Parabola]
    project_to: float

    def record(self) -> IsoDataRecord:
        """The fit as plain values."""
        sizes = self.sizes
        columns = (sizes, self.line(sizes), *(self.band(sizes) or ()))
        return IsoDataRecord(
            law=self.law,
            estimates=dict(self.estimates),
            residuals=tuple(self.residuals.tolist()),
            residual_unit=self.residual_unit,
            spreads=tuple(
                SpreadRecord(spread.method, spread.draws, spread.share_without_optimum, spread.intervals)
                for spread in self.spreads
            ),
            influences=self.influences,
            profiles=self.profiles,
            warnings=self.warnings,
            parabolas=dict(self.parabolas),
            project_to=self.project_to,
            power_law=PowerLaw(*(tuple(column.tolist()) for column in columns)),
        )

    @property
    def sizes(self) -> Array:
        """Model sizes at which to draw the power law, over optima, trained sizes and projection."""
        optima = [parabola.optimum for parabola in self.parabolas.values()]
        sizes = np.array([*optima, *self.runs.parameters, self.project_to])
        return np.geomspace(sizes.min() / 1.3, sizes.max() * 1.3, 60)

    def line(self, sizes: Array) -> Array:
        """Number of sequences for which models of these sizes are the best."""
        logs = np.log(self.estimates["coefficient"]) + self.estimates["exponent"] * np.log(sizes)
        return np.asarray(np.exp(np.clip(logs, -700, 700)))

    def band(self, sizes: Array) -> tuple[Array, Array] | None:
        """95 % interval of the line by the last of the spreads; None where no draw has an optimum."""
        spread = self.spreads[-1]
        if "coefficient" not in spread.samples:
            return None
        drawn = np.log(spread.samples["coefficient"]) + np.outer(np.log(sizes), spread.samples["exponent"])
        bands = [spread.interval_of(*both) for both in zip(drawn, np.log(self.line(sizes)), strict=True)]
        low, high = np.exp(np.clip([(band.low, band.high) for band in bands], -700, 700)).T
        return low, high


@dataclass(frozen=True)
class SpreadRecord:
    """The intervals of all estimates by one way in which their doubt was measured."""

    method: str
    draws: int
    share_without_optimum: float
    intervals: Mapping[str, Interval]

    def interval(self, name: str) -> Interval | None:
        """The 95 % interval of an estimate; None where no draw gave it."""
        interval = self.intervals.get(name)
        return None if interval is None or np.isnan([interval.low, interval.high]).any() else interval


@dataclass(frozen=True)
class PowerLaw:
    """The fitted line at some model sizes, and its 95 % of draws where there are any."""

    parameters: tuple[float, ...]
    sequences: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class IsoDataRecord:
    """A fit of the law without its runs and draws: what its report, its figures and its JSON hold."""

    law: str
    estimates: Mapping[str, float]
    residuals: tuple[float, ...]
    residual_unit: str
    spreads: tuple[SpreadRecord, ...]
    influences: tuple[Influence, ...]
    profiles: tuple[Profile, ...]
    warnings: tuple[str, ...]
    parabolas: Mapping[int, Parabola]
    project_to: float
    power_law: PowerLaw

    @property
    def shown_spread(self) -> SpreadRecord:
        """The spread whose intervals figures show; the band of the line is of the same."""
        return self.spreads[-1]

    @property
    def projected(self) -> float:
        """The sequences for which a model of the size `project_to` is the best."""
        return self.estimates["projected_sequences"]

    def optimum_interval(self, sequences: int) -> Interval | None:
        """The 95 % interval of a data size's best model size."""
        return self.shown_spread.interval(optimum_name(sequences))


def project(coefficient: float, exponent: float, parameters: float = PROJECTED_PARAMETERS) -> float:
    """Number of sequences for which a model of this size is the best."""
    return float(np.exp(np.log(coefficient) + exponent * np.log(parameters)))


def optimum_name(sequences: int) -> str:
    """Name of the estimate that is the best model size for a data size."""
    return f"optimal_parameters[{sequences}]"


def fit_parabolas(runs: Runs) -> dict[int, Parabola]:
    """One parabola for each data size, small to large; raises `NoOptimum` where one has no minimum."""
    parabolas: dict[int, Parabola] = {}
    for sequences, curve in try_parabolas(runs).items():
        if isinstance(curve, NoOptimum):
            raise curve
        parabolas[sequences] = curve
    return parabolas


def by_data_size(runs: Runs) -> dict[int, Runs]:
    """The runs of each data size, small to large."""
    return {int(size): runs.take(runs.sequences == size) for size in np.unique(runs.sequences)}


def try_parabolas(runs: Runs) -> dict[int, Parabola | NoOptimum]:
    """The parabola of each data size, small to large, or why it has none."""
    curves: dict[int, Parabola | NoOptimum] = {}
    for size, rows in by_data_size(runs).items():
        try:
            curves[size] = fit_parabola(rows.parameters, rows.loss, f"data size {size:,}")
        except NoOptimum as error:
            curves[size] = error
    return curves


def estimate(project_to: float, runs: Runs) -> Estimate:
    """Estimate optima, power law and projection; raises `NoOptimum` where a parabola has no minimum."""
    parabolas = fit_parabolas(runs)
    optima = np.array([parabola.optimum for parabola in parabolas.values()])
    coefficient, exponent = power_law(optima, np.array(list(parabolas), dtype=float))
    return {
        **{optimum_name(sequences): parabola.optimum for sequences, parabola in parabolas.items()},
        "coefficient": coefficient,
        "exponent": exponent,
        "projected_sequences": project(coefficient, exponent, project_to),
    }


def fit_iso_data(
    runs: Runs, doubt: Doubt | None = None, project_to: float = PROJECTED_PARAMETERS
) -> IsoDataFit:
    """Fit the paper's law; `project_to` is the model size whose data is projected."""
    doubt = doubt or Doubt()
    runs.require("sequences", law=LAW)
    one_objective(runs, LAW)
    data_sizes = by_data_size(runs)
    if len(data_sizes) < 2:
        raise ValueError(f"the {LAW} law needs at least two data sizes; the table has one")
    for sequences, rows in data_sizes.items():
        sizes = len(np.unique(rows.parameters))
        if sizes < 3:
            raise ValueError(f"data size {sequences:,} has {sizes} model size(s); its parabola needs three")
    estimator = partial(estimate, project_to)
    estimates = estimator(runs)
    parabolas = fit_parabolas(runs)
    residuals = parabola_residuals(parabolas, runs.sequences, runs)
    scatter = scatter_of(residuals, 3 * len(parabolas), runs)
    spreads, influences, doubts = measure(estimator, runs, runs.sequences, doubt, scatter)
    if (noise := noise_of_draws(runs)) is None:
        doubts += lack_of_fit(residuals, 3 * len(parabolas), noise_of(runs, doubt))
    else:
        doubts += lack_of_fit_to_draws(residuals, 3 * len(parabolas), runs, noise)
    return IsoDataFit(
        law=LAW,
        runs=runs,
        estimates=estimates,
        residuals=residuals,
        spreads=spreads,
        influences=influences,
        warnings=(*_warnings(runs, parabolas, estimates, project_to), *doubts),
        parabolas=parabolas,
        project_to=project_to,
    )


def _warnings(
    runs: Runs, parabolas: Mapping[int, Parabola], estimates: Estimate, project_to: float
) -> list[str]:
    warnings = []
    if len(parabolas) < 4:
        spare = len(parabolas) - 2
        warnings.append(
            f"the power law goes through {len(parabolas)} optima and has two parameters: "
            f"{spare or 'no'} point{'' if spare == 1 else 's'} left to test it"
        )
    for sequences, parabola in parabolas.items():
        sizes = len(np.unique(runs.parameters[runs.sequences == sequences]))
        if sizes == 3:
            warnings.append(
                f"data size {sequences:,}: three sizes for three coefficients; the parabola goes through "
                "every point and its residuals say nothing"
            )
        if not parabola.inside:
            warnings.append(f"data size {sequences:,}: {parabola.outside_warning()}")
    if estimates["exponent"] <= 0:
        warnings.append("the best size does not grow with the data: the projection has no meaning")
    optima: Array = np.array([parabola.optimum for parabola in parabolas.values()])
    if not optima.min() <= project_to <= optima.max():
        warnings.append(
            f"the projection to {format_quantity(project_to)} parameters leaves the range of the optima "
            f"({format_quantity(optima.min())} to {format_quantity(optima.max())})"
        )
    return warnings
