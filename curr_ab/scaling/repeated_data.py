"""Repeated-data law: the parametric law in which repetitions and excess parameters are worth less."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.log_loss import NEGLIGIBLE, LogLossFit, fit_log_loss
from curr_ab.scaling.runs import Array, Runs, one_objective
from curr_ab.scaling.uncertainty import Estimate

LAW = "repeated-data"


@dataclass(frozen=True)
class RepeatedDataModel:
    """theta = (ln A, ln B, ln E, exponent, ln R_D_star, ln R_N_star), after arXiv 2305.16264.

    One exponent for size and data, as published. U_N is the size that is compute-optimal for the unique
    tokens; parameters beyond it count as repetitions of it.
    """

    log_parameters: Array
    log_unique: Array
    repetitions: Array  # of the data: seen / unique - 1

    names = ("log_A", "log_B", "log_E", "exponent", "log_R_D_star", "log_R_N_star")
    bounds = ((-25.0, 75.0), (-25.0, 75.0), (-10.0, 10.0), (1e-3, 5.0), (-5.0, 10.0), (-5.0, 10.0))

    def log_loss(self, theta: Array) -> tuple[Array, Array]:
        log_a, log_b, log_e, exponent, log_data_constant, log_size_constant = theta
        data, data_by_constant, _ = _effective(self.repetitions, np.exp(log_data_constant))
        log_best = (log_a - log_b) / exponent + self.log_unique  # ln of U_N where it binds
        excess = np.expm1(np.clip(self.log_parameters - log_best, 0, 600))
        size, size_by_constant, size_by_excess = _effective(excess, np.exp(log_size_constant))
        log_size = np.minimum(self.log_parameters, log_best) + size
        # d ln N_eff / d ln U_N: more room for parameters, less excess of them; 0 where U_N is N itself
        by_best = np.where(excess > 0, 1 - size_by_excess * (excess + 1), 0)
        log_terms = np.empty((3, len(self.log_parameters)))
        log_terms[0] = log_a - exponent * log_size
        log_terms[1] = log_b - exponent * (self.log_unique + data)
        log_terms[2] = log_e
        largest = log_terms.max(axis=0)
        shares = np.exp(log_terms - largest)
        total = shares.sum(axis=0)
        shares /= total
        jacobian = np.empty((6, len(self.log_parameters)))
        jacobian[0] = shares[0] * (1 - by_best)
        jacobian[1] = shares[1] + shares[0] * by_best
        jacobian[2] = shares[2]
        jacobian[3] = shares[0] * ((log_a - log_b) / exponent * by_best - log_size)
        jacobian[3] -= shares[1] * (self.log_unique + data)
        jacobian[4] = -exponent * shares[1] * data_by_constant
        jacobian[5] = -exponent * shares[0] * size_by_constant
        return largest + np.log(total), jacobian

    def vanished(self, theta: Array) -> tuple[str, ...]:
        log_total = self.log_loss(theta)[0]
        log_terms = (theta[0] - theta[3] * self.log_parameters, theta[1] - theta[3] * self.log_unique)
        names = ("A/N^exponent", "B/D^exponent")
        return tuple(
            name
            for name, term in zip(names, log_terms, strict=True)
            if (term - log_total).max() < np.log(NEGLIGIBLE)
        )

    def derived(self, theta: Array) -> Estimate:
        return {}


def _effective(repetitions: Array, constant: float) -> tuple[Array, Array, Array]:
    """ln(1 + constant * (1 - exp(-repetitions / constant))), by ln(constant) and by repetitions."""
    fade = np.exp(-repetitions / constant)
    worth = 1 + constant * -np.expm1(-repetitions / constant)
    return np.log(worth), (worth - 1 - repetitions * fade) / worth, fade / worth


def starting_grid() -> Array:
    """Starts that cover the plausible exponents and constants."""
    coefficients, floors, exponents = (0, 5, 10, 15), (-1, 0, 1), (0.2, 0.5, 1)
    constants = np.log([1.5, 15, 150]), np.log([1.5, 15])
    return np.array(list(product(coefficients, coefficients, floors, exponents, *constants)))


def model_of(runs: Runs) -> RepeatedDataModel:
    """Model of the law for these runs."""
    return RepeatedDataModel(
        np.log(runs.parameters), np.log(runs.unique_tokens), runs.seen_tokens / runs.unique_tokens - 1
    )


def fit_repeated_data(runs: Runs, doubt: Doubt | None = None, starts: Array | None = None) -> LogLossFit:
    """Fit from `starts` (a grid of its own when None); the table needs unique and seen tokens."""
    runs.require("unique_tokens", "seen_tokens", law=LAW)
    one_objective(runs, LAW)
    short = np.flatnonzero(runs.seen_tokens < runs.unique_tokens)
    if short.size:
        raise ValueError(
            f"row {short[0] + 1} has seen fewer tokens than its unique_tokens: count only those it has seen"
        )
    if len(np.unique(runs.seen_tokens / runs.unique_tokens)) < 2:
        raise ValueError(
            "all runs repeat their data equally often; the cost of repetition shows only where they differ"
        )
    runs.require_variation("parameters", "unique_tokens")
    begin = starting_grid() if starts is None else starts
    return fit_log_loss(LAW, model_of, runs, begin, doubt or Doubt())
