"""The picture of a task: every model's score with its interval, best first, baselines hollow."""

from __future__ import annotations

from pathlib import Path

from curr_ab.benchmark.comparison import Standing
from curr_ab.benchmark.folder import Entry, file_name, task_folder
from curr_ab.benchmark.scores import LOWER_IS_BETTER
from curr_ab.charts import Chart, Drawing, Key, Scale, linear
from curr_ab.pictures import save_pictures

_WIDTH, _ROW, _LETTER = 520.0, 26.0, 8.0  # the letter that a narrow window shows
MODEL, BASELINE = "d2", "d4"  # classes of the style sheet
KEYS = (Key(MODEL, 0, "model"), Key(BASELINE, 0, "baseline, which no model computed", "hollow"))


def forest(standing: Standing) -> Drawing | None:
    """Scores and intervals, one row for each entry; None without any."""
    entries = standing.entries
    if not entries:
        return None
    ends = [end for one in entries for end in (one.interval.low, one.interval.high)]
    names = [_shortened(one.name) for one in entries]
    left = 14 + _LETTER * max(map(len, names))
    size = (_WIDTH, _ROW * len(entries) + 50)
    rows = Scale(len(entries) - 0.5, -0.5)
    chart = Chart(f"forest-{file_name(standing.task)}", linear(ends, 0.05), rows, size, (left, 18, 6, 42))
    ticks = chart.x.ticks()
    better = "lower" if entries[0].metric in LOWER_IS_BETTER else "higher"
    chart.x_axis(
        ticks, [f"{tick:g}" for tick in ticks], f"{entries[0].metric} ({better} is better)", grid=True
    )
    chart.y_axis(lambda row: names[int(row)], ticks=list(range(len(names))))
    for place, entry in enumerate(entries):
        series = BASELINE if entry.measurement.is_baseline else MODEL
        style = "hollow" if entry.measurement.is_baseline else "dot"
        tip = words_of(entry)
        chart.interval(entry.interval.low, entry.interval.high, place, series, tip)
        chart.point(entry.interval.value, place, series, 0, tip, style)
    words = "; ".join(words_of(entry) for entry in entries)
    return chart.drawn(f"{standing.task}: {entries[0].metric} with 95% intervals", words, keys=KEYS)


def words_of(entry: Entry) -> str:
    """The score and its interval in words, as the pointer shows them."""
    one = entry.interval
    return f"{entry.name}: {one.value:.3f}, 95% interval {one.low:.3f} to {one.high:.3f}"


def save_forest(out: Path, standing: Standing) -> None:
    """The picture as SVG and PNG beside the table of the task."""
    if (picture := forest(standing)) is not None:
        save_pictures({"forest": picture}, task_folder(out, standing.task), ("svg", "png"))


def _shortened(name: str, most: int = 20) -> str:
    name = name.removeprefix("baseline:")  # the picture tells them by their mark
    return name if len(name) <= most else f"{name[: most - 1]}…"
