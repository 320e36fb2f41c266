"""The paper's law: the best model size for each data size, and the data that a model size asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import chi2

from curr_ab.quantities import format_quantity
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.fit import Fit
from curr_ab.scaling.runs import Array, Runs, one_objective
from curr_ab.scaling.uncertainty import Estimate, NoOptimum, measure, noise_of

LAW = "iso-data"
PROJECTED_PARAMETERS = 6.5e8  # the paper's projection is for its largest size
# A parabola whose rise over the sizes is below rounding is a line: its minimum is noise of the arithmetic.
FLAT = 1e-10


@dataclass(frozen=True)
class IsoDataFit(Fit):
    """sequences = coefficient * parameters^exponent, through one optimum for each data size."""

    parabolas: Mapping[int, Parabola]
    project_to: float

    @property
    def sizes(self) -> Array:
        """Model sizes at which to draw the power law: over the optima, the trained sizes, the projection."""
        optima = [parabola.optimum for parabola in self.parabolas.values()]
        known = np.array([*optima, *self.runs.parameters, self.project_to])
        return np.geomspace(known.min() / 1.3, known.max() * 1.3, 60)

    def line(self, sizes: Array) -> Array:
        """The sequences for which models of these sizes are the best."""
        logs = np.log(self.estimates["coefficient"]) + self.estimates["exponent"] * np.log(sizes)
        return np.asarray(np.exp(np.clip(logs, -700, 700)))

    def band(self, sizes: Array) -> tuple[Array, Array] | None:
        """The line's 95 % of draws by the last of the spreads; None where no draw has an optimum."""
        samples = self.spreads[-1].samples
        if "coefficient" not in samples:
            return None
        drawn = np.log(samples["coefficient"])[:, None] + samples["exponent"][:, None] * np.log(sizes)
        low, high = np.exp(np.clip(np.percentile(drawn, [2.5, 97.5], axis=0), -700, 700))
        return low, high


def project(coefficient: float, exponent: float, parameters: float = PROJECTED_PARAMETERS) -> float:
    """The sequences for which a model of this size is the best."""
    return float(np.exp(np.log(coefficient) + exponent * np.log(parameters)))


def optimum_name(sequences: int) -> str:
    """The name of a data size's best model size among the estimates."""
    return f"optimal_parameters[{sequences}]"


def fit_parabolas(runs: Runs) -> dict[int, Parabola]:
    """One parabola for each data size, small to large."""
    return {
        int(sequences): fit_parabola(
            runs.parameters[runs.sequences == sequences],
            runs.loss[runs.sequences == sequences],
            f"data size {sequences:,.0f}",
        )
        for sequences in np.unique(runs.sequences)
    }


def estimate(project_to: float, runs: Runs) -> Estimate:
    """Optima, power law, projection; raises `NoOptimum` where a parabola has none."""
    parabolas = fit_parabolas(runs)
    optima = np.array([parabola.optimum for parabola in parabolas.values()])
    coefficient, exponent = power_law(optima, np.array(list(parabolas), dtype=float))
    return {
        **{optimum_name(sequences): parabola.optimum for sequences, parabola in parabolas.items()},
        "coefficient": coefficient,
        "exponent": exponent,
        "projected_sequences": project(coefficient, exponent, project_to),
    }


def fit_iso_data(runs: Runs, doubt: Doubt | None = None, project_to: float = PROJECTED_PARAMETERS) -> Fit:
    """Fit the paper's law; `project_to` is the model size whose data is projected."""
    doubt = doubt or Doubt()
    runs.require("sequences", law=LAW)
    one_objective(runs, LAW)
    data_sizes = np.unique(runs.sequences)
    if len(data_sizes) < 2:
        raise ValueError(f"the {LAW} law needs at least two data sizes, the table has one")
    for sequences in data_sizes:
        sizes = len(np.unique(runs.parameters[runs.sequences == sequences]))
        if sizes < 3:
            raise ValueError(f"data size {sequences:,.0f} has {sizes} model size(s); a parabola needs three")
    estimator = partial(estimate, project_to)
    estimates = estimator(runs)
    parabolas = fit_parabolas(runs)
    fitted = np.array(
        [
            float(parabolas[int(sequences)](parameters))
            for sequences, parameters in zip(runs.sequences, runs.parameters, strict=True)
        ]
    )
    spreads, influences, doubts = measure(estimator, runs, runs.sequences, doubt)
    residuals = runs.loss - fitted
    doubts += lack_of_fit(residuals, 3 * len(parabolas), noise_of(runs, doubt))
    return IsoDataFit(
        law=LAW,
        runs=runs,
        estimates=estimates,
        residuals=residuals,
        residual_unit="nats",
        spreads=spreads,
        influences=influences,
        profiles=(),
        warnings=(*_warnings(runs, parabolas, estimates, project_to), *doubts),
        parabolas=parabolas,
        project_to=project_to,
    )


def _warnings(
    runs: Runs, parabolas: Mapping[int, Parabola], estimates: Estimate, project_to: float
) -> list[str]:
    warnings = []
    if len(parabolas) < 4:
        left = len(parabolas) - 2
        warnings.append(
            f"the power law goes through {len(parabolas)} optima and has two parameters: "
            f"{left or 'no'} point{'' if left == 1 else 's'} left to test it"
        )
    for sequences, parabola in parabolas.items():
        sizes = len(np.unique(runs.parameters[runs.sequences == sequences]))
        if sizes == 3:
            warnings.append(
                f"data size {sequences:,}: three sizes for three coefficients; the parabola goes through "
                "every point and its residuals say nothing"
            )
        if not parabola.inside:
            warnings.append(
                f"data size {sequences:,}: the optimum ({format_quantity(parabola.optimum)}) lies outside "
                f"the sizes that were trained ({format_quantity(parabola.smallest)} to "
                f"{format_quantity(parabola.largest)})"
            )
    if estimates["exponent"] <= 0:
        warnings.append("the best size does not grow with the data: the projection has no meaning")
    optima: Array = np.array([parabola.optimum for parabola in parabolas.values()])
    if not optima.min() <= project_to <= optima.max():
        warnings.append(
            f"the projection to {format_quantity(project_to)} parameters leaves the range of the optima "
            f"({format_quantity(optima.min())} to {format_quantity(optima.max())})"
        )
    return warnings


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
        """Whether the optimum lies between the sizes that were trained."""
        return self.smallest <= self.optimum <= self.largest

    def __call__(self, parameters: Array) -> Array:
        return np.asarray(self.floor + self.curvature * np.log10(parameters / self.optimum) ** 2)


def fit_parabola(parameters: Array, loss: Array, where: str) -> Parabola:
    """Least squares; raises `NoOptimum` where the parabola is not determined or has no minimum."""
    if len(np.unique(parameters)) < 3:
        raise NoOptimum(f"{where}: a parabola needs three model sizes, here are {len(np.unique(parameters))}")
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


def lack_of_fit(residuals: Array, num_coefficients: int, noise_sd: float | None) -> list[str]:
    """A warning where the residuals are larger than the noise explains (chi-squared test, 1 %)."""
    freedom = len(residuals) - num_coefficients
    if not noise_sd or freedom <= 0:
        return []
    excess = float(residuals @ residuals) / noise_sd**2
    if chi2.sf(excess, freedom) > 0.01:
        return []
    return [
        f"the residuals are {np.sqrt(excess / freedom):.1f} times what noise of sd {noise_sd:.2g} explains: "
        "the noise is larger, or the loss is no parabola; the intervals by that noise are too narrow"
    ]


def power_law(x: Array, y: Array) -> tuple[float, float]:
    """Coefficient and exponent of y = coefficient * x^exponent, by regression of ln y on ln x."""
    log_x, log_y = np.log(x), np.log(y)
    if np.ptp(log_x) < 1e-12:
        raise NoOptimum("all optima coincide: no power law goes through them")
    exponent, intercept = np.polyfit(log_x, log_y, 1)
    if not abs(intercept) < 700:
        raise NoOptimum("the optima are too close together for a power law")
    return float(np.exp(intercept)), float(exponent)
