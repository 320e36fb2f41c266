"""IsoFLOP law: the best model size for each compute budget, and power laws of size, tokens and loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.draws import scatter_of
from curr_ab.scaling.iso_data import Parabola, fit_parabola, lack_of_fit, parabola_residuals, power_law
from curr_ab.scaling.runs import Array, Runs, is_curves, one_objective
from curr_ab.scaling.uncertainty import Estimate, Fit, NoOptimum, measure, noise_of

LAW = "isoflop"
_SAME_BUDGET = 0.05  # runs whose FLOPs agree to 5 % belong to one budget
_NUM_BUDGETS = 8  # at which training curves are read


@dataclass(frozen=True)
class Budget:
    """Runs of one compute budget: the best of them, and the minimum of their parabola."""

    flops: float
    best_parameters: float
    best_tokens: float
    best_loss: float
    parabola: Parabola
    tokens: float


@dataclass(frozen=True, kw_only=True)
class IsoFlopFit(Fit):
    """optimum = coefficient * flops^exponent for size, tokens and loss; with `raw_` by the best runs."""

    budgets: tuple[Budget, ...]
    points: Runs  # the runs of each budget; interpolated where the table holds training curves


def curves_to_points(runs: Runs) -> Runs:
    """Interpolate each curve, linearly in the logarithms, at budgets that three or more curves cross."""
    curves = [runs.take(runs.run == name) for name in np.unique(runs.run)]
    curves = [curve.take(np.argsort(curve.flops)) for curve in curves if len(curve) > 1]
    if not curves:
        raise NoOptimum("no training curve has more than one checkpoint")
    low, high = (np.sort([float(end(curve.flops)) for curve in curves]) for end in (np.min, np.max))
    # Between the third curve to have begun and the third but last to end, three curves can be crossed.
    if len(curves) < 3 or low[2] >= high[-3]:
        raise NoOptimum("no compute budget is crossed by three training curves")
    points = []
    for budget in np.geomspace(low[2], high[-3], _NUM_BUDGETS):
        for curve in curves:
            if curve.flops[0] <= budget * (1 + 1e-9) and budget <= curve.flops[-1] * (1 + 1e-9):
                at, flops = np.log(budget), np.log(curve.flops)
                points.append(
                    replace(
                        curve.take(np.array([0])),
                        flops=np.array([budget]),
                        loss=np.exp([np.interp(at, flops, np.log(curve.loss))]),
                        seen_tokens=np.exp([np.interp(at, flops, np.log(curve.seen_tokens))]),
                    )
                )
    names = Runs.__dataclass_fields__
    return Runs(**{name: np.concatenate([getattr(point, name) for point in points]) for name in names})


def budget_labels(flops: Array) -> Array:
    """Mean FLOPs of each run's budget: neighbours that agree to 5 % are one budget."""
    order = np.argsort(flops)
    steps = np.diff(np.log(flops[order])) > _SAME_BUDGET
    groups = np.empty(len(flops), dtype=np.intp)
    groups[order] = np.concatenate([[0], np.cumsum(steps)])
    means = np.array([np.exp(np.log(flops[groups == group]).mean()) for group in range(groups.max() + 1)])
    return np.asarray(means[groups])


def _points(runs: Runs) -> Runs:
    return curves_to_points(runs) if is_curves(runs) else runs


def fit_budgets(points: Runs) -> tuple[Budget, ...]:
    """Fit a parabola for each compute budget, small to large."""
    labels = budget_labels(points.flops)
    budgets = []
    for flops in np.unique(labels):
        runs = points.take(labels == flops)
        parabola = fit_parabola(runs.parameters, runs.loss, f"budget of {flops:.3g} FLOPs")
        best = int(np.argmin(runs.loss))
        # At fixed FLOPs the tokens are a power of the size: a line in the logarithms, read at the optimum.
        line = np.polynomial.Polynomial.fit(np.log(runs.parameters), np.log(runs.seen_tokens), 1)
        budgets.append(
            Budget(
                flops=float(flops),
                best_parameters=float(runs.parameters[best]),
                best_tokens=float(runs.seen_tokens[best]),
                best_loss=float(runs.loss[best]),
                parabola=parabola,
                tokens=float(np.exp(line(np.log(parabola.optimum)))),
            )
        )
    return tuple(budgets)


def _estimate(runs: Runs) -> Estimate:
    budgets = fit_budgets(_points(runs))
    if len(budgets) < 2:
        raise NoOptimum("a power law needs two compute budgets")
    flops = np.array([budget.flops for budget in budgets])
    columns: Mapping[str, list[float]] = {
        "parameters": [budget.parabola.optimum for budget in budgets],
        "tokens": [budget.tokens for budget in budgets],
        "loss": [budget.parabola.floor for budget in budgets],
        "raw_parameters": [budget.best_parameters for budget in budgets],
        "raw_tokens": [budget.best_tokens for budget in budgets],
        "raw_loss": [budget.best_loss for budget in budgets],
    }
    estimates = {}
    for name, values in columns.items():
        if min(values) <= 0:
            raise NoOptimum(f"the {name} at an optimum is not positive")
        coefficient, exponent = power_law(flops, np.array(values))
        estimates[f"{name}_coefficient"] = coefficient
        estimates[f"{name}_exponent"] = exponent
    return estimates


def fit_isoflop(runs: Runs, doubt: Doubt | None = None) -> Fit:
    """Fit final points, or training curves where every row names its `run`."""
    doubt = doubt or Doubt()
    runs.require("flops", "seen_tokens", law=LAW)
    one_objective(runs, LAW)
    points = _points(runs)
    labels = budget_labels(points.flops)
    if len(np.unique(labels)) < 2:
        raise ValueError(f"the {LAW} law needs at least two compute budgets; the table has one")
    for flops in np.unique(labels):
        sizes = len(np.unique(points.parameters[labels == flops]))
        if sizes < 3:
            raise ValueError(
                f"the budget of {flops:.3g} FLOPs has {sizes} model size(s); its parabola needs three"
            )
    estimates = _estimate(runs)
    budgets = fit_budgets(points)
    residuals = parabola_residuals({budget.flops: budget.parabola for budget in budgets}, labels, points)
    scatter = None if is_curves(runs) else scatter_of(residuals, 3 * len(budgets), runs)
    spreads, influences, doubts = measure(_estimate, runs, budget_labels(runs.flops), doubt, scatter)
    doubts += lack_of_fit(residuals, 3 * len(budgets), noise_of(runs, doubt))
    return IsoFlopFit(
        law=LAW,
        runs=runs,
        estimates=estimates,
        residuals=residuals,
        spreads=spreads,
        influences=influences,
        warnings=(*_warnings(runs, budgets), *doubts),
        budgets=budgets,
        points=points,
    )


def _warnings(runs: Runs, budgets: tuple[Budget, ...]) -> list[str]:
    warnings = []
    if is_curves(runs):
        warnings.append(
            "losses inside a training curve were measured before its learning rate had decayed: "
            "they are higher than those of a run that ends there"
        )
    if len(budgets) == 2:
        warnings.append("two compute budgets for two parameters: no points left to test the power laws")
    for budget in budgets:
        parabola, name = budget.parabola, f"budget of {budget.flops:.3g} FLOPs"
        if not parabola.inside:
            warnings.append(f"{name}: {parabola.outside_warning()}")
        if budget.best_parameters in (parabola.smallest, parabola.largest):
            warnings.append(
                f"{name}: the best run has the smallest or largest size; the raw minimum is only a bound"
            )
    return warnings
