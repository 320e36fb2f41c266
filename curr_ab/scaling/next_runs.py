"""Plan of further runs: the grid that narrows the projection's interval most for a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from curr_ab.family import SIZES
from curr_ab.scaling.compute import paper_tokens, training_flops
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.iso_data import (
    PROJECTED_PARAMETERS,
    Parabola,
    estimate,
    fit_parabolas,
    power_law,
    project,
)
from curr_ab.scaling.runs import Array, Runs, make_runs
from curr_ab.scaling.uncertainty import Interval, NoOptimum, propagate_noise

Cell = tuple[float, int]  # parameters, different sequences


@dataclass(frozen=True)
class PlannedRuns:
    """Runs of one cell, each with a seed of its own."""

    parameters: float
    sequences: int
    num_seeds: int
    flops: float


@dataclass(frozen=True)
class Plan:
    """Grid of runs, its cost, and the interval of the projected sequences without and with it."""

    runs: tuple[PlannedRuns, ...]
    flops: float
    projected_parameters: float
    before: Interval
    after: Interval
    lost_before: float  # share of draws without an optimum
    lost_after: float


def plan_iso_data(
    runs: Runs,
    *,
    budget_flops: float,
    noise_sd: float,
    max_sequences: float | None = None,
    tokens_per_run: float | None = None,
    max_seeds: int = 5,
    project_to: float = PROJECTED_PARAMETERS,
    doubt: Doubt | None = None,
) -> Plan:
    """Choose runs greedily by the variance they remove per FLOP, to first order; check by simulation.

    Existing data sizes get more sizes and seeds; new ones, halved or doubled and at most `max_sequences`
    (the largest so far when None), come with the sizes around their expected optimum. More than `max_seeds`
    of one cell would measure its noise ever better and the law's curve no better.
    """
    if not (np.isfinite(budget_flops) and budget_flops > 0):
        raise ValueError(f"budget_flops must be positive and finite; got {budget_flops}")
    runs.require("sequences", law="iso-data")
    estimates = estimate(project_to, runs)
    if estimates["exponent"] <= 0:
        raise ValueError(
            "the best size does not grow with the data in these runs, so that no plan follows; add runs first"
        )
    tokens = tokens_per_run or paper_tokens()
    expected = _Expected(fit_parabolas(runs), estimates["coefficient"], estimates["exponent"])
    have: Counter[Cell] = Counter(
        zip(runs.parameters.tolist(), runs.sequences.astype(int).tolist(), strict=True)
    )
    sizes = sorted({*runs.parameters.tolist(), *(float(size.nominal_parameters) for size in SIZES)})
    options = _options(expected, sizes, max_sequences=max_sequences, max_seeds=max_seeds)
    planned: Counter[Cell] = Counter()
    remaining = budget_flops
    while True:
        variance = _log_variance(have + planned, expected, project_to)
        best, best_gain = None, 0.0
        for cells in options:
            cost = sum(training_flops(size, tokens) for size, _ in cells)
            if cost > remaining or max((planned + Counter(cells)).values()) > max_seeds:
                continue
            gain = (variance - _log_variance(have + planned + Counter(cells), expected, project_to)) / cost
            if gain > best_gain:
                best, best_gain = cells, gain
        if best is None:
            break
        planned += Counter(best)
        remaining -= sum(training_flops(size, tokens) for size, _ in best)
    if not planned:
        cheapest = min(sum(training_flops(size, tokens) for size, _ in cells) for cells in options)
        raise ValueError(
            f"the budget buys no useful run; the cheapest costs {cheapest:.3g} FLOPs, give as much"
        )
    doubt = doubt or Doubt()
    estimator = partial(estimate, project_to)
    before = propagate_noise(estimator, expected.runs(have), noise_sd, doubt)
    after = propagate_noise(estimator, expected.runs(have + planned), noise_sd, doubt)
    return Plan(
        runs=tuple(
            PlannedRuns(size, data, count, count * training_flops(size, tokens))
            for (size, data), count in sorted(planned.items(), key=lambda item: (item[0][1], item[0][0]))
        ),
        flops=budget_flops - remaining,
        projected_parameters=project_to,
        before=before.interval("projected_sequences"),
        after=after.interval("projected_sequences"),
        lost_before=before.share_without_optimum,
        lost_after=after.share_without_optimum,
    )


@dataclass(frozen=True)
class _Expected:
    """Losses that the fitted law expects, also at data sizes that nobody has trained on."""

    parabolas: Mapping[int, Parabola]
    coefficient: float
    exponent: float

    def parabola(self, sequences: int) -> Parabola:
        if sequences in self.parabolas:
            return self.parabolas[sequences]
        optimum = float((sequences / self.coefficient) ** (1 / self.exponent))
        curvature = float(np.median([parabola.curvature for parabola in self.parabolas.values()]))
        # The floor moves no optimum: that of the nearest data size will do.
        nearest = min(self.parabolas, key=lambda data: abs(np.log(data / sequences)))
        return replace(self.parabolas[nearest], optimum=optimum, curvature=curvature)

    def runs(self, cells: Mapping[Cell, int]) -> Runs:
        return make_runs(
            {
                "parameters": size,
                "sequences": data,
                "seed": str(seed),
                "loss": float(self.parabola(data)(np.array(size))),
            }
            for (size, data), count in cells.items()
            for seed in range(count)
        )


def _options(
    expected: _Expected, sizes: Sequence[float], *, max_sequences: float | None, max_seeds: int
) -> list[list[Cell]]:
    """Sets of cells to choose from, each bought as a whole."""
    data_sizes = sorted(expected.parabolas)
    options = [[(size, data)] for data in data_sizes for size in sizes]
    largest = max_sequences or max(data_sizes)
    new = [data_sizes[0] // 4, data_sizes[0] // 2, data_sizes[-1] * 2, data_sizes[-1] * 4]
    for data in (data for data in new if 0 < data <= largest):
        optimum = expected.parabola(data).optimum
        smaller = [size for size in sizes if size <= optimum]
        larger = [size for size in sizes if size > optimum]
        around = sorted({*smaller[-3:], *larger[:3]})
        # An optimum outside the sizes could not be seen. One that is measured badly harms the power law, in
        # which all optima weigh the same: so sets with several seeds are on offer too.
        if smaller and larger and len(around) >= 3:
            options += [[(size, data) for size in around] * seeds for seeds in range(1, max_seeds + 1)]
            options += [[(size, data)] for size in sizes]
    return options


def _log_variance(cells: Mapping[Cell, int], expected: _Expected, project_to: float) -> float:
    """Variance of ln(projected sequences) for noise of sd 1, to first order."""
    optima, variances, data_sizes = [], [], []
    for data in sorted({data for _, data in cells}):
        sizes = [size for (size, other), count in cells.items() if other == data for _ in range(count)]
        if len(set(sizes)) < 3:
            continue
        parabola = expected.parabola(data)
        # About its own optimum the parabola has no slope, so the optimum moves by -d(slope)/(2 curvature).
        design = np.vander(np.log10(np.array(sizes) / parabola.optimum), 3)
        slope_variance = np.linalg.inv(design.T @ design)[1, 1]
        variances.append(slope_variance * (np.log(10) / (2 * parabola.curvature)) ** 2)
        optima.append(np.log(parabola.optimum))
        data_sizes.append(np.log(data))
    if len(optima) < 2:
        raise NoOptimum("fewer than two data sizes have three model sizes")
    x, y = np.array(optima), np.array(data_sizes)
    step = 1e-4
    gradient = [
        (_log_projection(x + step * unit, y, project_to) - _log_projection(x - step * unit, y, project_to))
        / (2 * step)
        for unit in np.eye(len(x))
    ]
    return float(np.square(gradient) @ np.array(variances))


def _log_projection(log_optima: Array, log_data: Array, project_to: float) -> float:
    coefficient, exponent = power_law(np.exp(log_optima), np.exp(log_data))
    return float(np.log(project(coefficient, exponent, project_to)))
