"""Parametric law, Chinchilla's approach 3: loss = E + A / parameters^alpha + B / data^beta."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from curr_ab.scaling.doubt import DataColumn, Doubt
from curr_ab.scaling.log_loss import NEGLIGIBLE, LogLossFit, fit_log_loss
from curr_ab.scaling.runs import Array, Runs, one_objective
from curr_ab.scaling.uncertainty import Estimate

LAW = "parametric"


@dataclass(frozen=True)
class ParametricModel:
    """theta = (ln A, ln B, ln E, alpha, beta)"""

    log_parameters: Array
    log_data: Array

    names = ("log_A", "log_B", "log_E", "alpha", "beta")
    bounds = ((-25.0, 75.0), (-25.0, 75.0), (-10.0, 10.0), (0.0, 5.0), (0.0, 5.0))

    def log_loss(self, theta: Array) -> tuple[Array, Array]:
        log_a, log_b, log_e, alpha, beta = theta
        # Within the bounds neither can the sum vanish nor a term overflow: no need to take out the largest.
        size_term = np.exp(log_a - alpha * self.log_parameters)
        data_term = np.exp(log_b - beta * self.log_data)
        floor = np.exp(log_e)
        total = size_term + data_term + floor
        jacobian = np.empty((5, len(total)))
        np.divide(size_term, total, out=jacobian[0])
        np.divide(data_term, total, out=jacobian[1])
        np.divide(floor, total, out=jacobian[2])
        np.multiply(jacobian[0], -self.log_parameters, out=jacobian[3])
        np.multiply(jacobian[1], -self.log_data, out=jacobian[4])
        return np.log(total), jacobian

    def vanished(self, theta: Array) -> tuple[str, ...]:
        shares = self.log_loss(theta)[1][:2].max(axis=1)
        terms = (("A/N^alpha", shares[0], theta[3]), ("B/D^beta", shares[1], theta[4]))
        return tuple(name for name, share, exponent in terms if min(share, exponent) < NEGLIGIBLE)

    def derived(self, theta: Array) -> Estimate:
        """Compute-optimal size and data for C = 6 N D, as power laws of C."""
        log_a, log_b, _, alpha, beta = theta
        log_ratio = (np.log(alpha) + log_a - np.log(beta) - log_b) / (alpha + beta)
        size_exponent, data_exponent = beta / (alpha + beta), alpha / (alpha + beta)
        # "tokens" are those of the column that stands for D; the law is optimal for 6 N D.
        return {
            "parameters_coefficient": float(np.exp(log_ratio - size_exponent * np.log(6))),
            "parameters_exponent": float(size_exponent),
            "tokens_coefficient": float(np.exp(-log_ratio - data_exponent * np.log(6))),
            "tokens_exponent": float(data_exponent),
        }


def starting_grid() -> Array:
    """Grid of the 4,500 starts of arXiv 2203.15556, in the order of theta."""
    coefficients, exponents = (0, 5, 10, 15, 20, 25), (0, 0.5, 1, 1.5, 2)
    floors = (-1, -0.5, 0, 0.5, 1)
    return np.array(list(product(coefficients, coefficients, floors, exponents, exponents)), dtype=float)


def model_of(data: DataColumn, runs: Runs) -> ParametricModel:
    """Model of the law for these runs."""
    return ParametricModel(np.log(runs.parameters), np.log(getattr(runs, data)))


def fit_parametric(
    runs: Runs,
    doubt: Doubt | None = None,
    data: DataColumn = "seen_tokens",
    starts: Array | None = None,
) -> LogLossFit:
    """Fit from `starts` (the published grid when None); `data` is the column that stands for D."""
    runs.require(data, law=LAW)
    one_objective(runs, LAW)
    runs.require_variation("parameters", data)
    begin = starting_grid() if starts is None else starts
    return fit_log_loss(LAW, partial(model_of, data), runs, begin, doubt or Doubt())
