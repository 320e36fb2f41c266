"""The charts of the report: methods beside baselines, and the learning curve with its law."""

from __future__ import annotations

from curr_ab.charts import Chart, Drawing, Key, linear, logarithmic
from curr_ab.finetuning.beside import Comparison
from curr_ab.finetuning.learning_curve import LearningCurve
from curr_ab.quantities import format_quantity

_WIDTH = 620.0
_ROW = 26.0
_STYLES = {"run": "d0", "probe": "d2", "baseline": "d4"}
_SIZE = (480.0, 300.0)
_BEYOND = 4.0  # times the labels that there are: so far the law is drawn


def methods_chart(comparison: Comparison, name: str = "methods") -> Drawing:
    """A row for each method and baseline, best on top, with its standard error."""
    rows = comparison.rows
    ends = [row.value + sign * (row.error or 0.0) for row in rows for sign in (-1, 1)]
    height = 60.0 + _ROW * len(rows)
    chart = Chart(
        name,
        linear(ends, 0.08),
        linear([-0.5, len(rows) - 0.5], 0.0),
        (_WIDTH, height),
        (150.0, 40.0, 12.0, 42.0),
    )
    ticks = chart.x.ticks(6)
    chart.x_axis(ticks, [f"{tick:g}" for tick in ticks], comparison.metric, grid=True)
    for place, row in enumerate(rows):
        at = len(rows) - 1 - place
        series = _STYLES[row.kind]
        tip = f"{row.name}: {row.value:.3f}" + (f" ± {row.error:.3f}" if row.error else "")
        if row.error:
            chart.interval(row.value - row.error, row.value + row.error, at, series, tip)
        chart.point(row.value, at, series, 0, tip)
        chart.note(row.name, chart.x.start - 8, chart.y(at) + 4, "end", "name")
    words = "; ".join(f"{row.name} {row.value:.3f}" for row in rows)
    of_column = "" if comparison.column is None else f" of {comparison.column}"
    return chart.drawn(f"{comparison.metric}{of_column} over {comparison.num_folds} folds", words)


def method_keys() -> list[Key]:
    """The legend of `methods_chart`."""
    return [
        Key("d0", 0, "this run"),
        Key("d2", 0, "a probe of the member"),
        Key("d4", 0, "baselines, without a model"),
    ]


def curve_chart(curve: LearningCurve) -> Drawing:
    """Means with their errors, and the law as far as a few times the labels that there are."""
    means = curve.means
    labels = [count for count, _, _ in means]
    last = labels[-1] * (_BEYOND if curve.law else 1.0)
    drawn = [] if curve.law is None else [labels[0] * (last / labels[0]) ** (step / 40) for step in range(41)]
    line = [(count, curve.law.score(count)) for count in drawn] if curve.law else []
    ends = [value + sign * (error or 0.0) for _, value, error in means for sign in (-1, 1)]
    y = linear([*ends, *(value for _, value in line)], 0.1)
    chart = Chart("learning-curve", logarithmic([labels[0], last], 0.08), y, _SIZE)
    chart.x_axis(labels, [format_quantity(round(count)) for count in labels], "labels", grid=True)
    chart.y_axis(lambda value: f"{value:.2g}", curve.metric)
    if curve.law is not None:
        chart.line(line, "d2", "line thin")
    for count, value, error in means:
        if error:
            chart.error_bar(count, value, error, "d0")
        chart.point(count, value, "d0", 0, f"{count:,.0f} labels: {curve.metric} {value:.3f}")
    words = "; ".join(f"{count:,.0f} labels {value:.3f}" for count, value, _ in means)
    return chart.drawn(f"{curve.metric} by the number of labels, {curve.learner}", words)
