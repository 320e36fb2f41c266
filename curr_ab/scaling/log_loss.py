"""Fits of the logarithm of the loss, for the parametric and the repeated-data law.

A search from many starts minimises the summed Huber loss of the residuals and keeps every local optimum.
Profile likelihoods and resampled fits then measure the uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, brentq, minimize
from scipy.special import erf, erfc
from scipy.stats import chi2

from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.runs import Array, Runs
from curr_ab.scaling.uncertainty import Estimate, Fit, NoOptimum, Profile, measure
from curr_ab.workers import map_chunks, one_thread

HUBER_DELTA = 1e-3  # arXiv 2203.15556
_SEARCH_STEPS = 600  # a start in a long valley stops here, unconverged; its optimum is polished
_MAX_RESTARTS = 50
NEGLIGIBLE = 1e-6  # a term below this share of every run's loss has vanished
_ROUGH = 1e-7  # tolerance that is enough to see which of several starts leads lowest
_CHI2_95 = float(chi2.ppf(0.95, 1))
ModelOf = Callable[[Runs], "LogLossModel"]


class LogLossModel(Protocol):
    """A law for ln(loss); a parameter called `log_X` is reported as X."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def bounds(self) -> tuple[tuple[float, float], ...]: ...
    def log_loss(self, theta: Array) -> tuple[Array, Array]:
        """ln(loss) of every run, and its derivatives [parameter, run]."""
        ...

    def vanished(self, theta: Array) -> tuple[str, ...]:
        """Terms of the law that contribute nothing to any run: their values have no meaning."""
        ...

    def derived(self, theta: Array) -> Estimate:
        """Further estimates, for parameters with which no term has vanished."""
        ...


def public_value(name: str, value: float) -> float:
    """Value of a parameter itself, where theta holds its logarithm (`log_`)."""
    return float(np.exp(value)) if name.startswith("log_") else value


def estimates_of(model: LogLossModel, theta: Array) -> dict[str, float]:
    """Parameters under their public names, and the estimates derived from them."""
    estimates = {
        name.removeprefix("log_"): float(public_value(name, value))
        for name, value in zip(model.names, theta, strict=True)
    }
    return estimates if model.vanished(theta) else {**estimates, **model.derived(theta)}


@dataclass(frozen=True)
class Optimum:
    """Local optimum; two are distinct when their fitted losses differ."""

    theta: Array
    objective: float
    num_starts: int
    estimates: Estimate
    vanished: tuple[str, ...]


@dataclass(frozen=True)
class Starts:
    """Outcome of every start: its beginning and end, and the index of the optimum that it belongs to."""

    begin: Array
    end: Array
    objective: Array
    converged: npt.NDArray[np.bool_]
    optimum: npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class LogLossFit(Fit):
    """Fit by the best of the local optima, with the others and the outcome of every start."""

    parameter_names: tuple[str, ...]  # of theta
    theta: Array
    optima: tuple[Optimum, ...]
    starts: Starts


def fit_log_loss(law: str, model_of: ModelOf, runs: Runs, begin: Array, doubt: Doubt) -> LogLossFit:
    """Search from `begin`, then measure the uncertainty with fits that start from each distinct optimum."""
    model = model_of(runs)
    num_parameters = len(model.names)
    if len(runs) < num_parameters:
        raise ValueError(
            f"the {law} law has {num_parameters} parameters, the table only {len(runs)} runs; add runs"
        )
    if np.ptp(runs.loss) == 0:
        raise ValueError("all losses are equal: they say nothing about size or data")
    log_losses = np.log(runs.loss)
    with one_thread():
        optima, starts = search(model, log_losses, begin, doubt)
        best = optima[0]
        estimator = partial(estimate_from, model_of, [optimum.theta for optimum in optima])
        spreads, influences, doubts = measure(estimator, runs, np.zeros(len(runs)), doubt)
        profiles = profiles_of(model, log_losses, best.theta)
    return LogLossFit(
        law=law,
        runs=runs,
        estimates=best.estimates,
        residuals=log_losses - model.log_loss(best.theta)[0],
        residual_unit="ln(nats)",
        spreads=spreads,
        influences=influences,
        profiles=profiles,
        warnings=(*_warnings(model, best, len(runs), profiles), *doubts),
        parameter_names=model.names,
        theta=best.theta,
        optima=optima,
        starts=starts,
    )


def _warnings(model: LogLossModel, best: Optimum, num_runs: int, profiles: tuple[Profile, ...]) -> list[str]:
    warnings = []
    if num_runs < 3 * len(model.names):
        warnings.append(f"{num_runs} runs for {len(model.names)} parameters: too few to test the law")
    if best.vanished:
        warnings.append(
            f"{', '.join(best.vanished)} contributes nothing at the best fit: its values are arbitrary"
        )
    for name, value, (low, high) in zip(model.names, best.theta, model.bounds, strict=True):
        if min(value - low, high - value) < 1e-6 * (high - low):
            warnings.append(f"{name.removeprefix('log_')} is at its bound: the runs do not determine it")
    for profile in profiles:
        open_ends = {"above": profile.high == np.inf, "below": profile.low in (0.0, -np.inf)}
        if any(open_ends.values()):
            sides = " or ".join(side for side, is_open in open_ends.items() if is_open)
            warnings.append(f"{profile.parameter} is not bounded {sides} by these runs")
    if not profiles:
        warnings.append("the law fits exactly: there are no residuals from which to judge it")
    return warnings


def search(
    model: LogLossModel, log_losses: Array, begin: Array, doubt: Doubt
) -> tuple[tuple[Optimum, ...], Starts]:
    """Minimise from every start; return the distinct optima, best first, and the starts."""
    outcomes = map_chunks(
        partial(_minimise_chunk, model, log_losses),
        list(begin),
        workers=doubt.workers,
        progress=doubt.progress,
        label="starts",
    )
    end = np.array([theta for theta, _, _ in outcomes])
    objective = np.array([value for _, value, _ in outcomes])
    fitted = np.array([model.log_loss(theta)[0] for theta in end])
    optimum_of_start = np.full(len(begin), -1, dtype=np.intp)
    distinct: list[tuple[Array, float, Array]] = []  # theta, objective and fitted losses of each optimum
    for start in np.argsort(objective, kind="stable"):
        if optimum_of_start[start] >= 0:
            continue
        # An end that no optimum explains may have stopped short of one, in a long valley: go on from there.
        theta, value = _polish(model, log_losses, end[start])
        losses = model.log_loss(theta)[0]
        same = [index for index, (*_, others) in enumerate(distinct) if _same(losses, others)]
        if not same:
            distinct.append((theta, value, losses))
        optimum = same[0] if same else len(distinct) - 1
        optimum_of_start[start] = optimum
        optimum_of_start[(optimum_of_start < 0) & _same(fitted, losses)] = optimum
    ranks = np.argsort([value for _, value, _ in distinct], kind="stable")
    optima = tuple(
        Optimum(
            theta=distinct[index][0],
            objective=distinct[index][1],
            num_starts=int((optimum_of_start == index).sum()),
            estimates=estimates_of(model, distinct[index][0]),
            vanished=model.vanished(distinct[index][0]),
        )
        for index in ranks
    )
    converged = np.array([success for _, _, success in outcomes])
    return optima, Starts(begin, end, objective, converged, np.argsort(ranks)[optimum_of_start])


def _minimise_chunk(
    model: LogLossModel, log_losses: Array, starts: Sequence[Array]
) -> list[tuple[Array, float, bool]]:
    return [minimise(model, log_losses, start, max_steps=_SEARCH_STEPS) for start in starts]


def _polish(model: LogLossModel, log_losses: Array, theta: Array) -> tuple[Array, float]:
    """Restart, each time with a fresh memory of curvature, until that gains nothing."""
    value = np.inf
    for _ in range(_MAX_RESTARTS):
        previous = value
        theta, value, _ = minimise(model, log_losses, theta)
        if value > previous * (1 - 1e-6):
            break
    return theta, value


def _same(fitted: Array, other: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(fitted - other).max(axis=-1) < HUBER_DELTA)


def minimise(
    model: LogLossModel,
    log_losses: Array,
    start: Array,
    bounds: Sequence[tuple[float, float]] | None = None,
    tolerance: float = 1e-11,
    max_steps: int = 2000,
) -> tuple[Array, float, bool]:
    """Run L-BFGS-B from one start; return theta, the objective there, and true if it converged."""

    # In units of delta^2 the objective is of order one for each run, which scipy's tolerances expect.
    def scaled(theta: Array) -> tuple[float, Array]:
        value, gradient = summed_huber(model, log_losses, theta)
        return value / HUBER_DELTA**2, gradient / HUBER_DELTA**2

    low, high = np.array(bounds or model.bounds, dtype=float).T
    result = minimize(
        scaled,
        np.clip(start, low, high),
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(low, high),
        options={
            "maxiter": max_steps,
            "maxfun": 2 * max_steps,
            "maxcor": 20,
            "ftol": tolerance,
            "gtol": 1e-4,
        },
    )
    return np.asarray(result.x), float(result.fun) * HUBER_DELTA**2, bool(result.success)


def summed_huber(model: LogLossModel, log_losses: Array, theta: Array) -> tuple[float, Array]:
    """The objective and its gradient. A sum, as an average is so small that optimisers stop too early."""
    fitted, jacobian = model.log_loss(theta)
    residuals = fitted - log_losses
    clipped = np.minimum(np.maximum(residuals, -HUBER_DELTA), HUBER_DELTA)  # np.clip takes thrice the time
    return float(clipped @ (residuals - clipped / 2)), jacobian @ clipped


def estimate_from(model_of: ModelOf, starts: Sequence[Array], runs: Runs) -> Estimate:
    """Fit resampled runs, starting from the optima of all runs."""
    model = model_of(runs)
    distinct = set(zip(runs.parameters, runs.loss, strict=True))
    if len(distinct) < len(model.names) or (runs.loss <= 0).any():
        raise NoOptimum("too few runs differ, or a loss is not positive")
    log_losses = np.log(runs.loss)
    ends = [minimise(model, log_losses, start, tolerance=_ROUGH) for start in starts]
    theta, *_ = minimise(model, log_losses, min(ends, key=lambda end: end[1])[0])
    if model.vanished(theta):
        raise NoOptimum("a term of the law vanishes")
    return estimates_of(model, theta)


def profiles_of(model: LogLossModel, log_losses: Array, best: Array) -> tuple[Profile, ...]:
    """Profile of each parameter; empty where the fit is exact."""
    spread = _robust_sd(log_losses - model.log_loss(best)[0], len(best))
    if spread < 1e-9:  # an exact fit: there is no noise to compare a deviance with
        return ()
    return tuple(
        _profile(model, log_losses, best, index, _deviance_scale(spread)) for index in range(len(best))
    )


def _robust_sd(residuals: Array, num_parameters: int) -> float:
    freedom = len(residuals) - num_parameters
    if freedom <= 0:
        return 0.0
    return float(1.4826 * np.median(np.abs(residuals)) * np.sqrt(len(residuals) / freedom))


def _deviance_scale(sd: float) -> float:
    """Divisor that turns a rise of the summed Huber loss into a chi-squared deviance, for normal residuals.

    E[psi^2] / E[psi'] of the Huber function (Huber and Ronchetti, Robust Statistics, 2009, ch. 6): sd^2 when
    delta is far above the noise, as in least squares.
    """
    ratio = HUBER_DELTA / sd
    inner = sd**2 * (erf(ratio / np.sqrt(2)) - np.sqrt(2 / np.pi) * ratio * np.exp(-(ratio**2) / 2))
    return float((inner + HUBER_DELTA**2 * erfc(ratio / np.sqrt(2))) / erf(ratio / np.sqrt(2)))


def _profile(model: LogLossModel, log_losses: Array, best: Array, index: int, scale: float) -> Profile:
    floor = summed_huber(model, log_losses, best)[0]
    visited: dict[float, float] = {float(best[index]): 0.0}
    thetas = {float(best[index]): best}

    def excess(value: float) -> float:
        """The deviance at `value` less the 95 % limit, fitted on from the nearest value visited."""
        if value in visited:  # a second fit could end a little lower, and the sign must not change
            return visited[value] - _CHI2_95
        bounds = [(value, value) if k == index else limits for k, limits in enumerate(model.bounds)]
        start = thetas[min(thetas, key=lambda other: abs(other - value))]
        theta, objective, _ = minimise(
            model, log_losses, np.where(np.arange(len(best)) == index, value, start), bounds
        )
        thetas[value] = theta
        visited[value] = max(0.0, 2 * (objective - floor) / scale)
        return visited[value] - _CHI2_95

    low = _crossing(excess, float(best[index]), model.bounds[index][0])
    high = _crossing(excess, float(best[index]), model.bounds[index][1])
    name = model.names[index]
    values = np.array(sorted(visited))
    return Profile(
        parameter=name.removeprefix("log_"),
        values=np.array([public_value(name, value) for value in values]),
        deviance=np.array([visited[value] for value in values]),
        low=public_value(name, low) if np.isfinite(low) else (0.0 if name.startswith("log_") else low),
        high=public_value(name, high),
    )


def _crossing(excess: Callable[[float], float], best: float, bound: float) -> float:
    """Value between `best` and `bound` at which `excess` changes its sign; infinite if it does not."""
    inside, step = best, 0.02 * np.sign(bound - best)
    while abs(step) < abs(bound - best):
        outside = best + step
        if excess(outside) > 0:
            return float(brentq(excess, inside, outside, xtol=1e-4, rtol=1e-4))
        inside, step = outside, 2 * step
    return float(np.copysign(np.inf, bound - best))
