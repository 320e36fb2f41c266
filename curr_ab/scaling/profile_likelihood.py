"""Profile likelihood: how far a parameter can be moved while the others make up for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.special import erf, erfc
from scipy.stats import chi2

from curr_ab.scaling.fit import Profile
from curr_ab.scaling.huber import HUBER_DELTA, LogLossModel, minimise, public_value, summed_huber
from curr_ab.scaling.runs import Array

CHI2_95 = float(chi2.ppf(0.95, 1))


def profiles_of(model: LogLossModel, log_losses: Array, best: Array) -> tuple[Profile, ...]:
    """One profile for each parameter; none where the fit is exact."""
    spread = _robust_sd(log_losses - model.log_loss(best)[0], len(best))
    if spread < 1e-9:  # an exact fit: there is no noise to compare a deviance with
        return ()
    return tuple(_profile(model, log_losses, best, k, _deviance_scale(spread)) for k in range(len(best)))


def _robust_sd(residuals: Array, num_parameters: int) -> float:
    freedom = len(residuals) - num_parameters
    if freedom <= 0:
        return 0.0
    return float(1.4826 * np.median(np.abs(residuals)) * np.sqrt(len(residuals) / freedom))


def _deviance_scale(sd: float) -> float:
    """What turns a rise of the summed Huber loss into a chi-squared deviance, for normal residuals.

    E[psi^2] / E[psi'] of the Huber function (Huber and Ronchetti, Robust Statistics, 2009, ch. 6): sd^2 when
    delta is far above the noise, as in least squares.
    """
    ratio = HUBER_DELTA / sd
    inner = sd**2 * (erf(ratio / np.sqrt(2)) - np.sqrt(2 / np.pi) * ratio * np.exp(-(ratio**2) / 2))
    return float((inner + HUBER_DELTA**2 * erfc(ratio / np.sqrt(2))) / erf(ratio / np.sqrt(2)))


def _profile(model: LogLossModel, log_losses: Array, best: Array, index: int, scale: float) -> Profile:
    floor = summed_huber(model, log_losses, best)[0]
    visited: dict[float, float] = {float(best[index]): 0.0}
    nearest = {float(best[index]): best}

    def excess(value: float) -> float:
        """The deviance at `value` less the 95 % limit, fitted on from the nearest value visited."""
        if value in visited:  # a second fit could end a little lower, and the sign must not change
            return visited[value] - CHI2_95
        bounds = [(value, value) if k == index else limits for k, limits in enumerate(model.bounds)]
        start = nearest[min(nearest, key=lambda known: abs(known - value))]
        theta, objective, _ = minimise(
            model, log_losses, np.where(np.arange(len(best)) == index, value, start), bounds
        )
        nearest[value] = theta
        visited[value] = max(0.0, 2 * (objective - floor) / scale)
        return visited[value] - CHI2_95

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
    """Where `excess` changes its sign between `best` and `bound`; infinite where it does not."""
    inside, step = best, 0.02 * np.sign(bound - best)
    while abs(step) < abs(bound - best):
        outside = best + step
        if excess(outside) > 0:
            return float(brentq(excess, inside, outside, xtol=1e-4, rtol=1e-4))
        inside, step = outside, 2 * step
    return float(np.copysign(np.inf, bound - best))
