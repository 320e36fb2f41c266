"""The paper's two figures as charts: loss by model size, and data by the size that is best for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curr_ab.charts import STAR, Chart, Drawing, Key, linear, logarithmic
from curr_ab.quantities import format_quantity
from curr_ab.scaling.iso_data import IsoDataFit, IsoDataRecord, Parabola, by_data_size
from curr_ab.scaling.runs import Runs

_SIZE = (520.0, 400.0)
_CURVE_POINTS = 60


@dataclass(frozen=True)
class Point:
    """One loss of a figure; `label` says which model, `tip` also how large its loss is."""

    parameters: float
    loss: float
    error: float
    label: str
    tip: str


@dataclass(frozen=True)
class Series:
    """The losses of one data size, small models first; `name` is a word or two."""

    name: str
    label: str
    sequences: int
    points: tuple[Point, ...]

    @property
    def best(self) -> Point:
        """The point with the lowest loss."""
        return min(self.points, key=lambda point: point.loss)


def draw_fit(fit: IsoDataFit) -> dict[str, Drawing]:
    """Both figures of a fit, by name."""
    return draw_law(series_of(fit.runs), fit.parabolas, fit.record())


def draw_law(
    series: Sequence[Series],
    parabolas: Mapping[int, Parabola],
    law: IsoDataRecord | None,
    *,
    baselines: Mapping[str, float] | None = None,
    ticks: Mapping[float, str] | None = None,
    about: str = "",
) -> dict[str, Drawing]:
    """Both figures by name; without a law they show which of the trained sizes are best.

    `ticks` are the model sizes with their names, `about` says what a point is.
    """
    shown = ticks or {p.parameters: format_quantity(p.parameters) for one in series for p in one.points}
    shown = dict(sorted(shown.items()))
    second = _best_measured(series, shown) if law is None else _data_by_size(series, law, shown)
    return {
        "loss_by_size": _loss_by_size(series, parabolas, law, baselines or {}, shown, about),
        "data_by_size": second,
    }


def series_of(runs: Runs) -> tuple[Series, ...]:
    """Each run as a point."""
    series = []
    for sequences, here in by_data_size(runs).items():
        losses = sorted(zip(here.parameters.tolist(), here.loss.tolist(), strict=True))
        points = tuple(_point(*pair) for pair in losses)
        series.append(Series(format_quantity(sequences), f"{sequences:,} sequences", sequences, points))
    return tuple(series)


def _point(parameters: float, loss: float) -> Point:
    label = f"{format_quantity(parameters)} parameters"
    return Point(parameters, loss, 0.0, label, f"{label}: {loss:.5g}")


def _loss_by_size(
    series: Sequence[Series],
    parabolas: Mapping[int, Parabola],
    law: IsoDataRecord | None,
    baselines: Mapping[str, float],
    ticks: Mapping[float, str],
    about: str,
) -> Drawing:
    """Losses with standard errors, the fitted parabolas, their minima with intervals."""
    points = [point for one in series for point in one.points]
    ends = [point.loss + sign * point.error for point in points for sign in (-1, 1)]
    x = logarithmic(ticks, 0.08)
    floors = [parabola.floor for parabola in parabolas.values() if x.holds(parabola.optimum)]
    longest = max((len(one.name) for one in series), default=1)
    chart = Chart("loss-by-size", x, linear([*ends, *floors]), _SIZE, (56, max(30, 8 * longest + 6), 12, 42))
    chart.x_axis(list(ticks), list(ticks.values()), "model size (parameters, logarithmic)", grid=True)
    chart.y_axis(lambda value: f"{value:.{_tick_digits(chart)}f}", "loss (nats per masked residue)")
    for name, loss in baselines.items():
        if chart.y.holds(loss):
            chart.rule(loss, f"{name} frequencies")
    for index, one in enumerate(series):
        parabola, style = parabolas.get(one.sequences), f"d{index}"
        if parabola is not None:
            curve = np.geomspace(parabola.smallest, parabola.largest, _CURVE_POINTS)
            chart.line(zip(curve.tolist(), parabola(curve).tolist(), strict=True), style)
        else:
            chart.line(((point.parameters, point.loss) for point in one.points), style, "line dashed")
        for point in one.points:
            chart.error_bar(point.parameters, point.loss, point.error, style)
            chart.point(point.parameters, point.loss, style, index, point.tip)
            if law is None and point is one.best:
                chart.point(point.parameters, point.loss, style, 0, point.tip, "ring", 9)
        if parabola is not None and x.holds(best := parabola.optimum):
            tip = f"{one.label}: minimum of the parabola at {format_quantity(best)} parameters"
            _optimum(chart, law, one, best, parabola.floor, style, tip)
    chart.end_labels([(one.points[-1].loss, one.name, f"d{i}") for i, one in enumerate(series) if one.points])
    ring = Key("ink", 0, "lowest measured loss", "ring")
    star = Key("ink", STAR, "optimum of a fitted parabola", "star")
    notes = [about] if about else []
    if law is not None:
        notes.append(f"Bars through the optima: 95% of draws ({law.shown_spread.method}).")
    return chart.drawn(
        "Held-out loss by model size, one curve for each data set",
        "; ".join(f"{one.label}: " + ", ".join(point.tip for point in one.points) for one in series),
        keys=[*_keys(series), *[ring] * (law is None), *[star] * bool(parabolas)],
        notes=notes,
    )


def _tick_digits(chart: Chart) -> int:
    ticks = chart.y.ticks()
    return max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9)) if len(ticks) > 1 else 2


def _keys(series: Sequence[Series]) -> list[Key]:
    return [Key(f"d{index}", index, one.label) for index, one in enumerate(series)]


def _optimum(
    chart: Chart, law: IsoDataRecord | None, one: Series, best: float, y: float, style: str, tip: str
) -> None:
    """A star at the best size, where the chart holds it, and a bar over its interval, where there is one."""
    if law is not None and (between := law.optimum_interval(one.sequences)) is not None:
        tip += f", 95% of draws {format_quantity(between.low)} to {format_quantity(between.high)}"
        chart.interval(between.low, between.high, y, style, tip)
    if chart.x.holds(best):
        chart.point(best, y, style, STAR, tip, "star", 8)


def _data_by_size(series: Sequence[Series], law: IsoDataRecord, ticks: Mapping[float, str]) -> Drawing:
    """Pairs against the size that is best for them, on logarithmic axes, with the power law and its band."""
    optima = {sequences: parabola.optimum for sequences, parabola in law.parabolas.items()}
    shown = [float(value) for value in (*optima, law.projected) if 1 <= value <= 1e15]
    y = logarithmic(shown, 0.18)
    chart = Chart("data-by-size", logarithmic([*optima.values(), *ticks, law.project_to]), y, _SIZE)
    sizes = chart.x.ticks()
    chart.x_axis(sizes, list(map(format_quantity, sizes)), "best model size (parameters, logarithmic)")
    chart.y_axis(format_quantity, "training pairs (logarithmic)")
    line = law.power_law
    if line.low:
        # Cut far outside, so that the cut edge is not drawn.
        low, high = (
            [
                (size, min(max(_drawn(value, y.low), y.low / 1e3), y.high * 1e3))
                for size, value in zip(line.parameters, edge, strict=True)
            ]
            for edge in (line.low, line.high)
        )
        chart.band(low, high, "law")
    drawn = zip(line.parameters, (_drawn(value, y.low) for value in line.sequences), strict=True)
    chart.line(drawn, "law")
    for index, one in enumerate(series):
        if one.sequences not in optima:
            continue
        best, style = optima[one.sequences], f"d{index}"
        tip = f"{one.label}: optimum {format_quantity(best)}"
        _optimum(chart, law, one, best, one.sequences, style, tip)
        if chart.x.holds(best):
            chart.note(one.name, chart.x(best) - 12, chart.y(one.sequences) - 9, "end", f"end {style}")
    projection = f"{format_quantity(law.project_to)} parameters: {format_quantity(law.projected)} pairs"
    if y.holds(law.projected):
        chart.point(law.project_to, law.projected, "law", 3, projection, "hollow", 6)
    spread, estimates = law.shown_spread, law.estimates
    return chart.drawn(
        "Pairs against the best model size, with the fitted power law",
        "; ".join(f"{pairs:,} pairs: {format_quantity(best)} parameters" for pairs, best in optima.items()),
        keys=[
            *(Key(f"d{index}", STAR, f"best for {one.label}", "star") for index, one in enumerate(series)),
            Key("law", 3, projection, "hollow"),
        ],
        notes=[
            f"Line: pairs = {estimates['coefficient']:.3g} * parameters ^ {estimates['exponent']:.3f}. Band "
            f"and bars: 95% by {spread.method};",
            f"{spread.share_without_optimum:.1%} of its draws have no optimum.",
        ],
    )


def _drawn(value: float, least: float) -> float:
    """A value that a logarithmic axis can place."""
    return least if math.isnan(value) else max(value, 1e-300)


def _best_measured(series: Sequence[Series], ticks: Mapping[float, str]) -> Drawing:
    """Without a law: the lowest loss among the sizes that were trained."""
    y = logarithmic([one.sequences for one in series], 0.18)
    chart = Chart("data-by-size", logarithmic(ticks, 0.13), y, _SIZE)
    chart.x_axis(list(ticks), list(ticks.values()), "size with the lowest loss (of those trained)", grid=True)
    chart.y_axis(format_quantity, "training pairs (logarithmic)")
    words = []
    for index, one in enumerate(series):
        if not one.points:
            continue
        best, style = one.best, f"d{index}"
        words.append(f"{one.label}: {ticks.get(best.parameters, best.label)}")
        tip = f"{one.label}: lowest measured loss at {best.label}"
        chart.point(best.parameters, one.sequences, style, index, tip)
        chart.point(best.parameters, one.sequences, style, 0, tip, "ring", 9)
        at = chart.x(best.parameters) - 14, chart.y(one.sequences) - 9
        chart.note(one.name, *at, "end", f"end {style}")
    title = "Pairs against the size with the lowest measured loss"
    return chart.drawn(title, "; ".join(words), keys=_keys(series))
