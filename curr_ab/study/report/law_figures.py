"""The two figures of the paper from a study's cells: loss by size, and data by best size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from curr_ab.scaling.parabolas import Parabola, fit_parabola
from curr_ab.scaling.quantities import format_quantity
from curr_ab.scaling.uncertainty import NoOptimum
from curr_ab.study.report.charts import STAR, Chart
from curr_ab.study.report.grid import Grid, digits_of, written
from curr_ab.study.report.markup import Markup
from curr_ab.study.report.scales import linear, logarithmic
from curr_ab.study.report.verdict import is_fitted, optimum_interval

_SIZE = (520.0, 400.0)
_CURVE_POINTS = 60


def loss_by_size(grid: Grid, law: Mapping[str, Any], baselines: Mapping[str, float]) -> Markup:
    """Losses with standard errors, the fitted parabolas, their minima with intervals."""
    rows = dict(grid.rows())
    found = [estimate for row in rows.values() for _, estimate in row]
    digits = digits_of(found)
    sizes = [grid.parameters(size) for size in grid.sizes]
    ends = [value + sign * error for value, error in found for sign in (-1, 1)]
    parabolas = _parabolas(grid, law)
    x = logarithmic(sizes, 0.08)
    floors = [parabola.floor for parabola in parabolas.values() if x.holds(parabola.optimum)]
    chart = Chart("loss-by-size", x, linear([*ends, *floors]), _SIZE)
    chart.x_axis(
        sizes,
        [grid.size_label(size) for size in grid.sizes],
        "model size (parameters, logarithmic)",
        grid=True,
    )
    chart.y_axis(lambda value: f"{value:.{_tick_digits(chart)}f}", "loss (nats per masked residue)")
    for name, loss in baselines.items():
        if chart.y.holds(loss):
            chart.rule(loss, f"{name} frequencies")
    labels = []
    for index, (data, row) in enumerate(rows.items()):
        points = [(float(spot.first.parameters), loss) for spot, (loss, _) in row]
        parabola = parabolas.get(data)
        if parabola is not None:
            curve = np.geomspace(parabola.smallest, parabola.largest, _CURVE_POINTS)
            chart.line(zip(curve.tolist(), parabola(curve).tolist(), strict=True), f"d{index}")
        else:
            chart.line(points, f"d{index}", "line dashed")
        for spot, (loss, error) in row:
            chart.error_bar(spot.first.parameters, loss, error, f"d{index}")
            tip = f"{spot.label}: {written((loss, error), digits)}"
            chart.point(spot.first.parameters, loss, f"d{index}", index, tip)
            if not is_fitted(law) and spot is grid.best(data):
                chart.point(spot.first.parameters, loss, f"d{index}", 0, tip, "ring", 9)
        if parabola is not None:
            _optimum(chart, law, parabola, grid, data, index)
        if row:
            labels.append((row[-1][1][0], data, f"d{index}"))
    chart.end_labels(labels)
    return chart.svg(
        "Held-out loss by model size, one curve for each data set",
        "; ".join(
            f"{grid.data_label(data)}: "
            + ", ".join(
                f"{grid.size_label(spot.first.size)} {written(estimate, digits)}" for spot, estimate in row
            )
            for data, row in rows.items()
        ),
    )


def _tick_digits(chart: Chart) -> int:
    ticks = chart.y.ticks()
    return max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9)) if len(ticks) > 1 else 2


def _parabolas(grid: Grid, law: Mapping[str, Any]) -> dict[str, Parabola]:
    """The fit's; without a fit those of the data sets that have a minimum."""
    if is_fitted(law):
        fitted = {int(pairs): Parabola(**parabola) for pairs, parabola in law["parabolas"].items()}
        return {data: fitted[grid.pairs(data)] for data in grid.data if grid.pairs(data) in fitted}
    found = {}
    for data in grid.data:
        cells = [cell for spot, _ in grid.row(data) for cell in spot.done]
        with suppress(NoOptimum):
            found[data] = fit_parabola(
                np.array([float(cell.parameters) for cell in cells]),
                np.array([cell.loss for cell in cells], dtype=float),
                data,
            )
    return found


def _optimum(
    chart: Chart, law: Mapping[str, Any], parabola: Parabola, grid: Grid, data: str, index: int
) -> None:
    best, at = parabola.optimum, f"d{index}"
    tip = f"{grid.data_label(data)}: minimum of the parabola at {format_quantity(best)} parameters"
    if not chart.x.holds(best):
        return
    between = optimum_interval(law, grid.pairs(data)) if is_fitted(law) else None
    if between is not None:
        tip += f", 95% of draws {format_quantity(between[0])} to {format_quantity(between[1])}"
        chart.interval(*between, parabola.floor, at, tip)
    chart.point(best, parabola.floor, at, STAR, tip, "star", 8)


def data_by_size(grid: Grid, law: Mapping[str, Any]) -> Markup:
    """Pairs against the size that is best for them, on logarithmic axes, with the power law and its band."""
    if not is_fitted(law):
        return _best_measured(grid)
    line = law["power_law"]
    optima = {int(pairs): float(parabola["optimum"]) for pairs, parabola in law["parabolas"].items()}
    trained = [grid.parameters(size) for size in grid.sizes]
    projected = float(law["estimates"]["projected_sequences"])
    shown = [float(value) for value in (*optima, projected) if 1 <= float(value) <= 1e15]
    y = logarithmic(shown, 0.18)
    chart = Chart("data-by-size", logarithmic([*optima.values(), *trained, law["project_to"]]), y, _SIZE)
    ticks = chart.x.ticks()
    chart.x_axis(
        ticks, [format_quantity(tick) for tick in ticks], "best model size (parameters, logarithmic)"
    )
    chart.y_axis(format_quantity, "training pairs (logarithmic)")
    sizes, sequences = line["parameters"], line["sequences"]
    low, high = ([_positive(value, y.low) for value in line.get(name, ())] for name in ("low", "high"))
    if low:
        bottom, top = y.low / 1e3, y.high * 1e3  # far outside, so that the cut edge is not drawn
        chart.band(
            [(size, min(max(value, bottom), top)) for size, value in zip(sizes, low, strict=True)],
            [(size, min(max(value, bottom), top)) for size, value in zip(sizes, high, strict=True)],
            "law",
        )
    chart.line(zip(sizes, (_positive(value, y.low) for value in sequences), strict=True), "law")
    for index, data in enumerate(grid.data):
        pairs = grid.pairs(data)
        if pairs not in optima:
            continue
        best, tip = optima[pairs], f"{grid.data_label(data)}: optimum {format_quantity(optima[pairs])}"
        if (between := optimum_interval(law, pairs)) is not None:
            tip += f", 95% of draws {format_quantity(between[0])} to {format_quantity(between[1])}"
            chart.interval(*between, pairs, f"d{index}", tip)
        if chart.x.holds(best):
            chart.point(best, pairs, f"d{index}", STAR, tip, "star", 8)
            chart.note(data, chart.x(best) - 12, chart.y(pairs) - 9, "end", f"end d{index}")
    if y.holds(projected):
        tip = f"{format_quantity(law['project_to'])} parameters: {format_quantity(projected)} pairs"
        chart.point(law["project_to"], projected, "law", 3, tip, "hollow", 6)
    return chart.svg(
        "Training pairs against the best model size, with the fitted power law",
        "; ".join(f"{pairs:,} pairs: {format_quantity(best)} parameters" for pairs, best in optima.items()),
    )


def _positive(value: float | str | None, least: float) -> float:
    """The report of a fit writes what is not finite as null or a word."""
    return max(float(value), 1e-300) if value is not None else least


def _best_measured(grid: Grid) -> Markup:
    """Without a law: the lowest loss among the sizes that were trained."""
    trained = [grid.parameters(size) for size in grid.sizes]
    y = logarithmic([grid.pairs(data) for data in grid.data], 0.18)
    chart = Chart("data-by-size", logarithmic(trained, 0.13), y, _SIZE)
    chart.x_axis(
        trained,
        [grid.size_label(size) for size in grid.sizes],
        "size with the lowest loss (of those trained)",
        grid=True,
    )
    chart.y_axis(format_quantity, "training pairs (logarithmic)")
    told = []
    for index, data in enumerate(grid.data):
        if (best := grid.best(data)) is None:
            continue
        told.append(f"{grid.data_label(data)}: {grid.size_label(best.first.size)}")
        tip = f"{grid.data_label(data)}: lowest measured loss at {best.label}"
        chart.point(best.first.parameters, grid.pairs(data), f"d{index}", index, tip)
        chart.point(best.first.parameters, grid.pairs(data), f"d{index}", 0, tip, "ring", 9)
        place = chart.x(best.first.parameters) - 14, chart.y(grid.pairs(data)) - 9
        chart.note(data, *place, "end", f"end d{index}")
    return chart.svg("Training pairs against the size with the lowest measured loss", "; ".join(told))
