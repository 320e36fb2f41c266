"""The summed Huber loss of ln(loss), and its minimum from one start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy.optimize import Bounds, minimize

from curr_ab.scaling.runs import Array
from curr_ab.scaling.uncertainty import Estimate

HUBER_DELTA = 1e-3  # arXiv 2203.15556


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
        """Terms of the law that contribute nothing to any run: what they say has no meaning."""
        ...

    def derived(self, theta: Array) -> Estimate:
        """Further estimates; only asked for where no term has vanished."""
        ...


def public_value(name: str, value: float) -> float:
    """A `log_` parameter's own value."""
    return float(np.exp(value)) if name.startswith("log_") else value


def summed_huber(model: LogLossModel, log_losses: Array, theta: Array) -> tuple[float, Array]:
    """The objective with its gradient. The sum: an average is so small that optimisers stop too early."""
    fitted, jacobian = model.log_loss(theta)
    residuals = fitted - log_losses
    clipped = np.minimum(np.maximum(residuals, -HUBER_DELTA), HUBER_DELTA)  # np.clip takes thrice the time
    return float(clipped @ (residuals - clipped / 2)), jacobian @ clipped


def minimise(
    model: LogLossModel,
    log_losses: Array,
    start: Array,
    bounds: Sequence[tuple[float, float]] | None = None,
    tolerance: float = 1e-11,
    max_steps: int = 2000,
) -> tuple[Array, float, bool]:
    """L-BFGS-B from one start: where it ended, the objective there, whether it converged."""

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
