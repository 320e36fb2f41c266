"""The ladder's pictures: the score against loss, model size and training pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from curr_ab.benchmark.ladder import Rung
from curr_ab.benchmark.threshold import Against, ScoreCurve
from curr_ab.charts import Chart, Drawing, Key, linear, logarithmic
from curr_ab.quantities import format_quantity

_PANEL = (360.0, 270.0)
_MARGINS = (56.0, 44.0, 12.0, 42.0)


def ladder_figures(
    rungs: Sequence[Rung],
    metric: str,
    name: str = "ladder",
    loss: str = "held-out loss",
    curves: Mapping[Against, ScoreCurve] | None = None,
) -> list[Drawing]:
    """A chart for each of loss, parameters and pairs; the first only where losses are known.

    Lines join the models of one data set, or in the last chart those of one size; seeds are averaged.
    `name` tells the charts of one page apart, and `loss` says in words what the losses are of. `curves` are
    drawn with their bands, and what was found of their thresholds stands below.
    """
    curves = curves or {}
    measured = [rung for rung in rungs if rung.loss is not None]
    charts = []
    if len(measured) > 1:
        by_loss = curves.get("loss")
        charts.append(_against(name, "loss", measured, metric, lambda rung: rung.loss or 0.0, loss, by_loss))
    by_size = curves.get("parameters")
    charts.append(
        _against(name, "parameters", rungs, metric, lambda rung: rung.parameters, "parameters", by_size)
    )
    charts.append(_against(name, "pairs", rungs, metric, lambda rung: rung.pairs, "training pairs"))
    return charts


def _against(
    ladder: str,
    name: str,
    rungs: Sequence[Rung],
    metric: str,
    x_of: Callable[[Rung], float],
    title: str,
    curve: ScoreCurve | None = None,
) -> Drawing:
    by_size = name == "pairs"
    group_of: Callable[[Rung], int] = (lambda r: r.parameters) if by_size else (lambda r: r.pairs)
    groups = sorted({group_of(rung) for rung in rungs})
    ends = [rung.score + sign * (rung.error or 0.0) for rung in rungs for sign in (-1, 1)]
    xs = sorted({x_of(rung) for rung in rungs})
    x = linear(xs, 0.1) if name == "loss" else logarithmic(xs, 0.1)
    chart = Chart(f"{ladder}-{name}", x, linear(ends, 0.1), _PANEL, _MARGINS)
    ticks = chart.x.ticks(4) if name == "loss" else xs
    shown = [f"{tick:g}" if name == "loss" else format_quantity(tick) for tick in ticks]
    chart.x_axis(ticks, shown, title)
    chart.y_axis(lambda value: f"{value:g}", metric, ticks=chart.y.ticks(5))
    words, keys = [], []
    if curve:
        draw_curve(chart, curve)
        keys.append(Key("ink", 6, "fitted curve with its 95% band", "band"))
        if curve.is_clear:
            keys.append(Key("ink", 6, "95% interval of its break", "span"))
        words.append(curve.sentence(metric))
    for index, group in enumerate(groups):
        own = [rung for rung in rungs if group_of(rung) == group]
        series = f"{'s' if by_size else 'd'}{index}"
        means = {at: fmean(one.score for one in own if x_of(one) == at) for at in map(x_of, own)}
        if name != "loss" or not curve:
            chart.line(sorted(means.items()), series, "line thin")
        for rung in own:
            if rung.error:
                chart.error_bar(x_of(rung), rung.score, rung.error, series)
            tip = f"{rung.name}: {metric} {rung.score:.3f}, {title} {format_quantity(x_of(rung))}"
            chart.point(x_of(rung), rung.score, series, index, tip, radius=4.5)
        label = f"{format_quantity(group)} {'parameters' if by_size else 'pairs'}"
        keys.append(Key(series, index, label))
        listed = ", ".join(f"{format_quantity(at)} {score:.3f}" for at, score in sorted(means.items()))
        words.append(f"{label}: {listed}")
    return chart.drawn(f"{metric} against {title}", "; ".join(words), keys=keys)


def draw_curve(chart: Chart, curve: ScoreCurve) -> None:
    """The curve with its band; on the ground the interval of a break that is shown."""
    low, high = ([(at, getattr(height, end)) for at, height in curve.points] for end in ("low", "high"))
    chart.band(low, high, "ink")
    chart.line([(at, height.value) for at, height in curve.points], "ink")
    if curve.is_clear:
        ground = chart.y.low + 0.02 * (chart.y.high - chart.y.low)
        chart.interval(curve.threshold.low, curve.threshold.high, ground, "ink", f"break at {curve.place}")
