"""The charts of a study: the law, regions, training curves, pairing, throughput, baselines, lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from curr_ab.benchmark.ladder_figures import draw_curve, ladder_figures
from curr_ab.benchmark.threshold import ScoreCurve
from curr_ab.charts import Chart, Drawing, Scale, linear, logarithmic
from curr_ab.quantities import format_quantity
from curr_ab.scaling.law_figures import Point, Series, draw_law
from curr_ab.study.report.grid import (
    Grid,
    Measure,
    digits_of,
    pairing_curves,
    pairing_of,
    region_of,
    rungs,
    written,
)
from curr_ab.study.summary import Curve, Estimate, StudySummary

_SMALL = (170.0, 138.0)
_SMALL_MARGINS = (32.0, 8.0, 8.0, 24.0)
_PANEL = (360.0, 270.0)
_MOST_POINTS = 120  # of a curve; more cannot be words apart and would make the page heavy


def regions(grid: Grid, places: Sequence[str]) -> list[tuple[str, Drawing]]:
    """A small chart of loss by size for each place; all share one logarithmic scale."""
    found = [
        loss for place in places for _, row in grid.rows(region_of(place)) for _, (loss, _) in row if loss > 0
    ]
    return [(place, _region(grid, place, logarithmic(found))) for place in places] if found else []


def _region(grid: Grid, place: str, y: Scale) -> Drawing:
    sizes = [grid.parameters(size) for size in grid.sizes]
    chart = Chart(f"region-{place.replace(' ', '-')}", logarithmic(sizes, 0.1), y, _SMALL, _SMALL_MARGINS)
    chart.x_axis([sizes[0], sizes[-1]], [grid.size_label(grid.sizes[place]) for place in (0, -1)])
    chart.y_axis(lambda value: f"{value:g}", ticks=y.ticks(4))
    words = _series(chart, grid, region_of(place), lambda found, digits: written(found, digits), radius=3)
    return chart.drawn(f"Loss by model size at {place}", words)


def _series(
    chart: Chart, grid: Grid, measure: Measure, show: Callable[[Estimate, int], str], radius: float = 4.5
) -> str:
    """One line for each data set; what it shows, in words."""
    rows = dict(grid.rows(measure))
    # Error bars of different data sets side by side, not one over the other.
    apart = 0.01 if any(error for row in rows.values() for _, (_, error) in row) else 0.0
    words = []
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
        words.append(f"{grid.data_label(data)}: {shown}")
    return "; ".join(words)


def by_size(
    grid: Grid,
    name: str,
    measure: Measure,
    title: str,
    show: Callable[[float], str],
    rule: tuple[float, str] | None = None,
    curve: ScoreCurve | None = None,
) -> Drawing | None:
    """A measure against the model size; `rule` is a value to compare with, `curve` goes through all cells."""
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
    if curve:
        draw_curve(chart, curve)

    def both(found: Estimate, _: int) -> str:
        return show(found[0]) + (f" ± {show(found[1])}" if found[1] else "")

    words = _series(chart, grid, measure, both)
    chart.end_labels([(row[-1][1][0], data, f"d{i}") for i, (data, row) in enumerate(rows.items()) if row])
    return chart.drawn(title, words)


def pairing_ladder(grid: Grid) -> list[Drawing]:
    """The accuracy of the pairing probe against loss and training pairs; `by_size` has it by size."""
    measured = rungs(grid, pairing_of)
    if not measured:
        return []
    drawings = ladder_figures(
        measured, "accuracy of the pairing probe", "pairing", curves=pairing_curves(grid)
    )
    return [one for one in drawings if one.name != "pairing-parameters"]


def training(grid: Grid) -> list[tuple[str, Drawing]]:
    """A chart for each data set: training loss (thin) and held-out loss (bold) of each size by step."""
    cells = [cell for spot in grid.spots.values() for cell in spot.cells]
    losses = [loss for cell in cells for _, loss in (*_thinned(cell.training_curve), *cell.held_out_curve)]
    if not losses:
        return []
    y, steps = linear(losses), linear([0.0, *(float(cell.steps) for cell in cells)], 0.02, from_zero=True)
    return [(data, _training(grid, data, steps, y)) for data in grid.data]


def _training(grid: Grid, data: str, steps: Scale, y: Scale) -> Drawing:
    chart = Chart(f"training-{data}", steps, y, (360.0, 300.0), (40.0, 44.0, 12.0, 42.0))
    ticks = chart.x.ticks(5)
    chart.x_axis(ticks, [format_quantity(tick) for tick in ticks], "training step")
    chart.y_axis(lambda value: f"{value:g}")
    labels, words = [], []
    for index, size in enumerate(grid.sizes):
        if (size, data) not in grid.spots:
            continue
        for cell in grid.spots[size, data].cells:
            chart.line(_thinned(cell.training_curve), f"s{index}", "line faint")
            held_out = [(step, loss) for step, loss in cell.held_out_curve if math.isfinite(loss)]
            chart.line(held_out, f"s{index}", "line thin" if grid.repeats else "line")
            for step, loss in held_out[-1:] if grid.repeats else held_out:
                tip = f"{cell.trained_as}, step {step:,}: held-out loss {loss:.3f}"
                chart.point(step, loss, f"s{index}", index, tip, radius=3)
            if held_out:
                labels.append((held_out[-1][1], grid.size_label(size), f"s{index}"))
                words.append(f"{grid.size_label(size)} ends at {held_out[-1][1]:.3f}")
    chart.end_labels(list({text: (value, text, series) for value, text, series in labels}.values()))
    return chart.drawn(f"Training and held-out loss by step, data {data}", "; ".join(words) or "nothing yet")


def _thinned(curve: Curve) -> list[tuple[int, float]]:
    """Evenly chosen points with the last one; what is not finite cannot be drawn."""
    finite = [(step, loss) for step, loss in curve if math.isfinite(loss)]
    every = max(1, math.ceil(len(finite) / _MOST_POINTS))
    return [point for place, point in enumerate(finite) if place % every == 0 or place == len(finite) - 1]


def against_baselines(grid: Grid, baselines: Mapping[str, float]) -> Drawing | None:
    """All losses on one line for each data set, beside what needs no model."""
    rows = dict(grid.rows())
    found = [loss for row in rows.values() for _, (loss, _) in row]
    if not found or not baselines:
        return None
    names = [*rows, *baselines]
    height = 34.0 * len(names) + 50
    x, y = linear([*found, *baselines.values()], 0.05), Scale(len(names) - 0.5, -0.5)
    chart = Chart("baselines", x, y, (520.0, height), (104.0, 18.0, 6.0, 42.0))
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
    words = ", ".join(f"{name} {loss:.3f}" for name, loss in baselines.items())
    return chart.drawn("Loss of all cells and of the baselines", f"Baselines: {words}.")


def histogram(name: str, counts: Mapping[str, int], series: str) -> Drawing:
    """Counts of chains by their length."""
    values = {int(value): count for value, count in counts.items()}
    width = max(1, math.ceil((max(values) - min(values) + 1) / 40))
    first = min(values)
    bins: dict[int, int] = {}
    for value, count in values.items():
        start = first + (value - first) // width * width
        bins[start] = bins.get(start, 0) + count
    x, y = Scale(first - 0.5, max(bins) + width + 0.5), linear(bins.values(), 0.05, from_zero=True)
    chart = Chart(f"histogram-{name.replace(' ', '-')}", x, y, (270.0, 180.0), (42.0, 10.0, 10.0, 40.0))
    ticks = [tick for tick in chart.x.ticks(5) if tick == int(tick)]
    chart.x_axis(ticks, [f"{tick:.0f}" for tick in ticks], "residues")
    chart.y_axis(format_quantity, ticks=chart.y.ticks(3))
    for start, count in sorted(bins.items()):
        span = f"{start} residues" if width == 1 else f"{start} to {start + width - 1} residues"
        chart.bar(start, start + width, count, series, f"{span}: {count:,} chains")
    return chart.drawn(f"Histogram of {name}", f"{sum(values.values()):,} chains")


def law_figures(summary: StudySummary, grid: Grid) -> dict[str, Drawing]:
    """The paper's two figures by name, of the cells that are done; none before there is one."""
    if not any(row for _, row in grid.rows()):
        return {}
    digits = digits_of([found for _, row in grid.rows() for _, found in row])
    return draw_law(
        [_law_series(grid, data, digits) for data in grid.data],
        summary.law.parabolas,
        summary.law.fit,
        baselines=summary.baselines,
        ticks={float(grid.parameters(size)): grid.size_label(size) for size in grid.sizes},
        about=points(grid),
    )


def points(grid: Grid) -> str:
    """The sentence that says what a point of the law's first figure is."""
    if grid.repeats:
        return f"Each point is the mean over the {grid.repeated_over} of a cell, its bar one standard error."
    return "Each point is a trained model, its bar one standard error."


def _law_series(grid: Grid, data: str, digits: int) -> Series:
    row = [
        Point(spot.first.parameters, *found, spot.label, f"{spot.label}: {written(found, digits)}")
        for spot, found in grid.row(data)
    ]
    return Series(data, grid.data_label(data), grid.pairs(data), tuple(row))
