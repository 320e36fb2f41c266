"""Parabolas of the loss in log10(parameters), with their minimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from curr_ab.scaling.runs import Array
from curr_ab.scaling.uncertainty import NoOptimum

# A parabola whose rise over the sizes is below rounding is a line: its minimum is noise of the arithmetic.
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
