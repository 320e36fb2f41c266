"""The report of a benchmark: one page, its twin in Markdown, and the pictures of the tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curr_ab.benchmark.comparison import Standing
from curr_ab.benchmark.figures import KEYS, forest, save_forest
from curr_ab.benchmark.folder import SHARED, TABLE, TASK, file_name
from curr_ab.benchmark.peers.baselines import PREFIX as BASELINE_PREFIX
from curr_ab.benchmark.report_ladder import LADDER, make_ladder, save_ladder
from curr_ab.benchmark.report_tables import (
    input_table,
    metric_table,
    noted,
    option_table,
    score_table,
    settings_table,
    test_table,
)
from curr_ab.benchmark.run import Benchmark
from curr_ab.benchmark.scores import LOSS
from curr_ab.benchmark.tasks.task import Task
from curr_ab.charts import rules
from curr_ab.files import replacing
from curr_ab.pages import packaged_text, render, render_page

REPORT = "report"
_NUM_COLOURS = 5  # of series in a picture


def write_report(benchmark: Benchmark) -> Path:
    """Write page, Markdown and pictures into the benchmark's folder, and return the page."""
    for standing in benchmark.standings:
        save_forest(benchmark.folder, standing)
    values = _values(benchmark)
    styles = [
        packaged_text("charts.css"),
        packaged_text("benchmark/report.css"),
        rules(_NUM_COLOURS, _NUM_COLOURS),
    ]
    texts = {
        f"{REPORT}.md": render("benchmark/report.md", **values),
        f"{REPORT}.html": render_page("benchmark/report.html", styles=styles, **values),
    }
    for name, text in texts.items():
        with replacing(benchmark.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return benchmark.folder / f"{REPORT}.html"


def _values(benchmark: Benchmark) -> dict[str, Any]:
    losses = next((one for one in benchmark.standings if one.entries and one.entries[0].metric == LOSS), None)
    sections = [
        _section(task, standing, losses, benchmark.folder)
        for task, standing in zip(benchmark.tasks, benchmark.standings, strict=True)
    ]
    return {
        "sections": sections,
        "failures": benchmark.failures,
        "keys": KEYS,
        "settings": settings_table(
            {name: value for name, value in benchmark.plan.settings.items() if name in SHARED}
        ),
        "options": option_table(benchmark.suite),
    }


def _section(task: Task, standing: Standing, losses: Standing | None, out: Path) -> Mapping[str, Any]:
    place = file_name(task.name)
    section: dict[str, Any] = {
        "key": place,
        "title": task.title,
        "file": f"{place}/{TASK}",
        "leaks": task.leaks,
        "notes": noted(task.notes, f"{place}/{TASK}"),
        "picture": forest(standing),
    }
    if standing.entries:
        other = None if losses is standing else losses
        if (ladder := make_ladder(standing, other)) is not None:
            save_ladder(out, task.name, ladder)
        section |= {
            "table_file": f"{place}/{TABLE}",
            "picture_file": f"{place}/forest.svg",
            "reading": _reading(standing),
            "scores": score_table(standing),
            "inputs": input_table(standing, out),
            "metrics": metric_table(standing, out),
            "tests": test_table(standing),
            "ladder": ladder,
            "ladder_file": f"{place}/{LADDER}",
        }
    return section


def _reading(standing: Standing) -> str:
    """One sentence: whether the best model is more than the best baseline."""
    model, baseline = standing.best_model, standing.best_baseline
    if model is None or baseline is None:
        return ""
    test = standing.test(model, baseline)
    if test is None:
        return ""
    name = baseline.name.removeprefix(BASELINE_PREFIX)
    if standing.entries[0] is baseline:
        return f"No model is better than the baseline {name}."
    sure = "" if test.p_holm < 0.05 else ", but by no more than chance would do"
    return f"The best model, {model.name}, is ahead of the best baseline, {name}{sure}."
