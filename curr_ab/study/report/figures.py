"""The other pictures of a study: regions, training curves, pairing, throughput, baselines, lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from curr_ab.quantities import format_quantity
from curr_ab.scaling.iso_data import Parabola, fit_parabola
from curr_ab.scaling.uncertainty import NoOptimum
from curr_ab.study.report.charts import STAR, Chart, Markup, Scale, linear, logarithmic
from curr_ab.study.report.findings import is_fitted, optimum_interval
from curr_ab.study.report.grid import Grid, Measure, digits_of, region_of, written
from curr_ab.study.summary import Curve, Estimate

_SMALL = (170.0, 138.0)
_SMALL_MARGINS = (32.0, 8.0, 8.0, 24.0)
_PANEL = (360.0, 270.0)
_MOST_POINTS = 120  # of a curve; more cannot be told apart and would make the page heavy
_SIZE = (520.0, 400.0)
_CURVE_POINTS = 60


def regions(grid: Grid, places: Sequence[str]) -> list[tuple[str, Markup]]:
    """A small chart of loss by size for each place; all share one logarithmic scale."""
    found = [
        loss for place in places for _, row in grid.rows(region_of(place)) for _, (loss, _) in row if loss > 0
    ]
    return [(place, _region(grid, place, logarithmic(found))) for place in places] if found else []


def _region(grid: Grid, place: str, y: Scale) -> Markup:
    sizes = [grid.parameters(size) for size in grid.sizes]
    chart = Chart(f"region-{place.replace(' ', '-')}", logarithmic(sizes, 0.1), y, _SMALL, _SMALL_MARGINS)
    chart.x_axis([sizes[0], sizes[-1]], [grid.size_label(grid.sizes[place]) for place in (0, -1)])
    chart.y_axis(lambda value: f"{value:g}", ticks=y.ticks(4))
    told = _series(chart, grid, region_of(place), lambda found, digits: written(found, digits), radius=3)
    return chart.svg(f"Loss by model size at {place}", told)


def _series(
    chart: Chart, grid: Grid, measure: Measure, show: Callable[[Estimate, int], str], radius: float = 4.5
) -> str:
    """One line for each data set; what it shows, in words."""
    rows = dict(grid.rows(measure))
    # Error bars of different data sets side by side, not one over the other.
    apart = 0.01 if any(error for row in rows.values() for _, (_, error) in row) else 0.0
    told = []
    for index, (data, row) in enumerate(rows.items()):
        digits = digits_of([estimate for _, estimate in row])
        aside = (chart.x.high / chart.x.low) ** (apart * (index - (len(grid.data) - 1) / 2))
        chart.line(
            [(spot.first.parameters * aside, value) for spot, (value, _) in row], f"d{index}", "line thin"
        )
        for spot, (value, error) in row:
            x = spot.first.parameters * aside
            if error:
                chart.error_bar(x, value, error, f"d{index}")
            tip = f"{spot.label}: {show((value, error), digits)}"
            chart.point(x, value, f"d{index}", index, tip, radius=radius)
        shown = ", ".join(f"{grid.size_label(spot.first.size)} {show(value, digits)}" for spot, value in row)
        told.append(f"{grid.data_label(data)}: {shown}")
    return "; ".join(told)


def by_size(
    grid: Grid,
    name: str,
    measure: Measure,
    title: str,
    show: Callable[[float], str],
    rule: tuple[float, str] | None = None,
) -> Markup | None:
    """A measure against the model size; `rule` is a value to compare it with."""
    rows = dict(grid.rows(measure))
    found = [estimate for row in rows.values() for _, estimate in row]
    if not found:
        return None
    ends = [value + sign * error for value, error in found for sign in (-1, 1)]
    y = linear([*ends, rule[0]], 0.1) if rule else linear(ends, 0.1, from_zero=True)
    sizes = [grid.parameters(size) for size in grid.sizes]
    chart = Chart(name, logarithmic(sizes, 0.1), y, _PANEL, (56.0, 26.0, 12.0, 42.0))
    chart.x_axis(sizes, [grid.size_label(size) for size in grid.sizes], "model size")
    chart.y_axis(show, ticks=chart.y.ticks(5))
    if rule:
        chart.rule(*rule)

    def both(found: Estimate, _: int) -> str:
        return show(found[0]) + (f" ± {show(found[1])}" if found[1] else "")

    told = _series(chart, grid, measure, both)
    chart.end_labels([(row[-1][1][0], data, f"d{i}") for i, (data, row) in enumerate(rows.items()) if row])
    return chart.svg(title, told)


def training(grid: Grid) -> list[tuple[str, Markup]]:
    """A chart for each data set: training loss (thin) and held-out loss (bold) of each size by step."""
    cells = [cell for spot in grid.spots.values() for cell in spot.cells]
    losses = [loss for cell in cells for _, loss in (*_thinned(cell.training_curve), *cell.held_out_curve)]
    if not losses:
        return []
    y, steps = linear(losses), linear([0.0, *(float(cell.steps) for cell in cells)], 0.02, from_zero=True)
    return [(data, _training(grid, data, steps, y)) for data in grid.data]


def _training(grid: Grid, data: str, steps: Scale, y: Scale) -> Markup:
    chart = Chart(f"training-{data}", steps, y, (360.0, 300.0), (40.0, 44.0, 12.0, 42.0))
    ticks = chart.x.ticks(5)
    chart.x_axis(ticks, [format_quantity(tick) for tick in ticks], "training step")
    chart.y_axis(lambda value: f"{value:g}")
    labels, told = [], []
    for index, size in enumerate(grid.sizes):
        if (size, data) not in grid.spots:
            continue
        for cell in grid.spots[size, data].cells:
            chart.line(_thinned(cell.training_curve), f"s{index}", "line faint")
            held_out = [(step, loss) for step, loss in cell.held_out_curve if math.isfinite(loss)]
            chart.line(held_out, f"s{index}", "line" if grid.seeds == 1 else "line thin")
            for step, loss in held_out if grid.seeds == 1 else held_out[-1:]:
                tip = f"{cell.member}, seed {cell.seed}, step {step:,}: held-out loss {loss:.3f}"
                chart.point(step, loss, f"s{index}", index, tip, radius=3)
            if held_out:
                labels.append((held_out[-1][1], grid.size_label(size), f"s{index}"))
                told.append(f"{grid.size_label(size)} ends at {held_out[-1][1]:.3f}")
    chart.end_labels(list({text: (value, text, series) for value, text, series in labels}.values()))
    return chart.svg(f"Training and held-out loss by step, data {data}", "; ".join(told) or "nothing yet")


def _thinned(curve: Curve) -> list[tuple[int, float]]:
    """Evenly chosen points with the last one; what is not finite cannot be drawn."""
    finite = [(step, loss) for step, loss in curve if math.isfinite(loss)]
    every = max(1, math.ceil(len(finite) / _MOST_POINTS))
    return [point for place, point in enumerate(finite) if place % every == 0 or place == len(finite) - 1]


def against_baselines(grid: Grid, baselines: Mapping[str, float]) -> Markup | None:
    """All losses on one line for each data set, beside what needs no model."""
    rows = dict(grid.rows())
    found = [loss for row in rows.values() for _, (loss, _) in row]
    if not found or not baselines:
        return None
    names = [*rows, *baselines]
    height = 34.0 * len(names) + 50
    chart = Chart(
        "baselines",
        linear([*found, *baselines.values()], 0.05),
        Scale(len(names) - 0.5, -0.5),
        (520.0, height),
        (104.0, 18.0, 6.0, 42.0),
    )
    ticks = chart.x.ticks()
    chart.x_axis(ticks, [f"{tick:g}" for tick in ticks], "loss (lower is better)", grid=True)
    chart.y_axis(lambda row: names[int(row)], ticks=list(range(len(names))))
    for index, (_, row) in enumerate(rows.items()):
        digits = digits_of([estimate for _, estimate in row])
        for spot, estimate in row:
            tip = f"{spot.label}: {written(estimate, digits)}"
            chart.point(estimate[0], index, f"d{index}", index, tip)
    for place, (name, loss) in enumerate(baselines.items(), start=len(rows)):
        chart.point(loss, place, "ink", 3, f"{name}: {loss:.3f}", "hollow", 6)
    told = ", ".join(f"{name} {loss:.3f}" for name, loss in baselines.items())
    return chart.svg("Loss of all cells and of the baselines", f"Baselines: {told}.")


def histogram(name: str, counts: Mapping[str, int], series: str) -> Markup:
    """How many pairs have which length."""
    values = {int(value): count for value, count in counts.items()}
    width = max(1, math.ceil((max(values) - min(values) + 1) / 40))
    first = min(values)
    bins: dict[int, int] = {}
    for value, count in values.items():
        start = first + (value - first) // width * width
        bins[start] = bins.get(start, 0) + count
    chart = Chart(
        f"histogram-{name.replace(' ', '-')}",
        Scale(first - 0.5, max(bins) + width + 0.5),
        linear(bins.values(), 0.05, from_zero=True),
        (270.0, 180.0),
        (42.0, 10.0, 10.0, 40.0),
    )
    ticks = [tick for tick in chart.x.ticks(5) if tick == int(tick)]
    chart.x_axis(ticks, [f"{tick:.0f}" for tick in ticks], "residues")
    chart.y_axis(format_quantity, ticks=chart.y.ticks(3))
    for start, count in sorted(bins.items()):
        span = f"{start} residues" if width == 1 else f"{start} to {start + width - 1} residues"
        chart.bar(start, start + width, count, series, f"{span}: {count:,} chains")
    return chart.svg(f"Histogram of {name}", f"{sum(values.values()):,} chains")


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
