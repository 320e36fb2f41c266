"""Laws fitted to runs of all sizes and data at once, and what each says of runs that it has not seen.

Runs on one draw of the pairs share its shift: the fits are by generalised least squares, with that noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t as student

from curr_ab.scaling import parametric, repeated_data
from curr_ab.scaling.draws import means_over_seeds, noise_of_draws
from curr_ab.scaling.iso_data import LAW as ISO_DATA
from curr_ab.scaling.iso_data import by_data_size, fit_parabola
from curr_ab.scaling.log_loss import LogLossModel, public_value
from curr_ab.scaling.runs import Array, Runs, trainings
from curr_ab.scaling.uncertainty import Interval, NoOptimum

BEST_SIZE = "best-size"
_STARTS = 3  # the best of the grid, from each of which a search begins


@dataclass(frozen=True)
class BestSizeModel:
    """loss = E + B / sequences^beta + curvature * (ln parameters - ln best)^2; theta is in `names`.

    ln best = log_best + growth * (ln sequences - `middle`): the iso-data law in one fit, with its own floor.
    """

    log_parameters: Array
    log_data: Array
    middle: float

    names = ("log_E", "log_B", "beta", "log_curvature", "log_best", "growth")
    bounds = ((-10.0, 10.0), (-25.0, 75.0), (0.0, 5.0), (-15.0, 10.0), (-25.0, 75.0), (-20.0, 20.0))

    def log_loss(self, theta: Array) -> tuple[Array, Array]:
        log_e, log_b, beta, log_curvature, log_best, growth = theta
        floor, curvature = np.exp(log_e), np.exp(log_curvature)
        data_term = np.exp(log_b - beta * self.log_data)
        away = self.log_parameters - log_best - growth * (self.log_data - self.middle)
        total = floor + data_term + curvature * away**2
        jacobian = np.empty((6, len(total)))
        jacobian[0] = floor / total
        jacobian[1] = data_term / total
        jacobian[2] = -self.log_data * jacobian[1]
        jacobian[3] = curvature * away**2 / total
        jacobian[4] = -2 * curvature * away / total
        jacobian[5] = jacobian[4] * (self.log_data - self.middle)
        return np.log(total), jacobian

    def vanished(self, theta: Array) -> tuple[str, ...]:
        return ()

    def derived(self, theta: Array) -> Mapping[str, float]:
        return {}


@dataclass(frozen=True)
class JointFit:
    """A law by all runs; errors are of means over draws, in nats, and None where the law says nothing."""

    law: str
    unknowns: int
    estimates: Mapping[str, float]
    intervals: Mapping[str, Interval]  # by linearisation, with Student's t
    residual: float  # root of the mean square of what the fit leaves
    size_left_out: float | None  # the same of sizes that the fit has not seen
    data_left_out: float | None


def joint_fits(runs: Runs) -> tuple[JointFit, ...]:
    """The laws that these runs can carry, the best on sizes left out first; empty without several draws."""
    noise = noise_of_draws(runs)
    if noise is None or noise.pooled.sd <= 0:
        return ()
    means, _ = means_over_seeds(runs)
    covariance, freedom = noise.covariance(), noise.pooled.freedom or 0
    middle = float(np.log(means.sequences).mean())
    grids: dict[str, tuple[Callable[[Runs], LogLossModel], Array]] = {
        BEST_SIZE: (partial(_best_size_model, middle), _best_size_starts(means)),
        parametric.LAW: (partial(parametric.model_of, "sequences"), parametric.starting_grid()[::9]),
    }
    if not np.isnan(means.unique_tokens).any() and not np.isnan(means.seen_tokens).any():
        grids[repeated_data.LAW] = (repeated_data.model_of, repeated_data.starting_grid()[::3])
    fits = [
        _joint_fit(law, model_of, means, covariance, starts, freedom)
        for law, (model_of, starts) in grids.items()
        if len(means) > starts.shape[1]
    ]
    return tuple(sorted([*fits, _parabolas(means)], key=lambda fit: fit.size_left_out or np.inf))


def _best_size_model(middle: float, runs: Runs) -> BestSizeModel:
    return BestSizeModel(np.log(runs.parameters), np.log(runs.sequences), middle)


def _best_size_starts(runs: Runs) -> Array:
    """Floors below the least loss, and best sizes among those that were trained."""
    least, sizes = runs.loss.min(), np.log(np.unique(runs.parameters))
    return np.array(
        [
            (np.log(max(share * least, 1e-3)), np.log(least) + beta * 3, beta, curvature, best, growth)
            for share in (0.3, 0.8)
            for beta in (0.3, 1.0)
            for curvature in (-3.0, -1.0)
            for best in np.quantile(sizes, [0.25, 0.5, 0.75])
            for growth in (0.5, 1.0, 2.0)
        ]
    )


def _joint_fit(
    law: str,
    model_of: Callable[[Runs], LogLossModel],
    runs: Runs,
    covariance: Array,
    starts: Array,
    freedom: int,
) -> JointFit:
    whole = np.arange(len(runs))
    model = model_of(runs)
    theta = _least(model, runs, covariance, _lowest(model, runs, starts))
    _, jacobian = _weighted(model, runs, covariance, theta)
    variances = np.diag(np.linalg.pinv(jacobian.T @ jacobian))
    errors = np.sqrt(np.where(variances > 0, variances, np.nan))  # none where the runs say nothing of it
    half = float(student.ppf(0.975, freedom)) * errors
    names = [name.removeprefix("log_") for name in model.names]

    def left_out(groups: Array) -> float | None:
        if len(np.unique(groups)) < 3:
            return None
        fitted = np.zeros(len(runs))
        for group in np.unique(groups):
            kept, out = whole[groups != group], whole[groups == group]
            part = _least(model_of(runs.take(kept)), runs.take(kept), covariance[np.ix_(kept, kept)], [theta])
            fitted[out] = np.exp(model_of(runs.take(out)).log_loss(part)[0])
        return _error_of_means(runs, fitted)

    low, middle, high = (
        {n: float(public_value(m, v)) for n, m, v in zip(names, model.names, values, strict=True)}
        for values in (theta - half, theta, np.minimum(theta + half, 700))  # within floating point
    )
    return JointFit(
        law=law,
        unknowns=len(theta),
        estimates=middle,
        intervals={name: Interval(low[name], middle[name], high[name]) for name in names},
        residual=_error_of_means(runs, np.exp(model.log_loss(theta)[0])),
        size_left_out=left_out(runs.parameters),
        data_left_out=left_out(runs.sequences),
    )


def _weighted(model: LogLossModel, runs: Runs, covariance: Array, theta: Array) -> tuple[Array, Array]:
    """Residuals and their derivatives, made independent and of variance 1."""
    root = np.linalg.cholesky(covariance)
    logs, jacobian = model.log_loss(theta)
    fitted = np.exp(np.minimum(logs, 50))
    both = np.linalg.solve(root, np.column_stack([fitted - runs.loss, (jacobian * fitted).T]))
    return both[:, 0], both[:, 1:]


def _lowest(model: LogLossModel, runs: Runs, starts: Array) -> list[Array]:
    away = [float(np.abs(model.log_loss(start)[0] - np.log(runs.loss)).sum()) for start in starts]
    return [starts[place] for place in np.argsort(away)[:_STARTS]]


def _least(model: LogLossModel, runs: Runs, covariance: Array, starts: Sequence[Array]) -> Array:
    low, high = np.array(model.bounds).T
    inside = 1e-9 * (high - low)

    def residuals(theta: Array) -> Array:
        return _weighted(model, runs, covariance, theta)[0]

    def derivatives(theta: Array) -> Array:
        return _weighted(model, runs, covariance, theta)[1]

    options: dict[str, Any] = {"bounds": (low, high), "x_scale": "jac", "max_nfev": 200}
    found = [
        least_squares(residuals, np.clip(start, low + inside, high - inside), jac=derivatives, **options)
        for start in starts
    ]
    return np.asarray(min(found, key=lambda one: one.cost).x)


def _error_of_means(runs: Runs, fitted: Array) -> float:
    """Root of the mean square of measured less fitted losses, each the mean over the draws of a cell."""
    cells = trainings(runs)
    means = np.bincount(cells, runs.loss - fitted) / np.bincount(cells)
    return float(np.sqrt((means**2).mean()))


def _parabolas(runs: Runs) -> JointFit:
    """The iso-data law, whose parabolas know of no other data size."""

    def error(without: float | None) -> Array:
        """Measured less fitted, of the size that is left out, or of all."""
        found = []
        for rows in by_data_size(runs).values():
            kept = rows.take(rows.parameters != without)
            shown = rows if without is None else rows.take(rows.parameters == without)
            if len(shown) and len(np.unique(kept.parameters)) >= 3:
                curve = fit_parabola(kept.parameters, kept.loss, "")
                for size in np.unique(shown.parameters):
                    found.append(shown.loss[shown.parameters == size].mean() - float(curve(size)))
        return np.array(found)

    def root(errors: Array) -> float:
        return float(np.sqrt((errors**2).mean()))

    try:
        left_out = root(np.concatenate([error(size) for size in np.unique(runs.parameters)]))
    except NoOptimum:
        left_out = None
    try:
        residual = root(error(None))
    except NoOptimum:
        residual = float("nan")
    unknowns = 3 * len(np.unique(runs.sequences))
    return JointFit(ISO_DATA, unknowns, {}, {}, residual, left_out, None)
