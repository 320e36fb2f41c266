"""`report.html` and `report.md` of a run, made of the files in its folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curr_ab.charts import rules
from curr_ab.files import replacing
from curr_ab.finetuning.beside import Comparison, read_comparisons, table_of
from curr_ab.finetuning.choice import CHOICE, Choice
from curr_ab.finetuning.learning_curve import CURVE, LearningCurve
from curr_ab.finetuning.report.charts import curve_chart, method_keys, methods_chart
from curr_ab.measures.fold_predictions import RECIPE, fold_folder, read_run
from curr_ab.options import read_yaml
from curr_ab.pages import packaged_text, render, render_page
from curr_ab.quantities import format_duration


def write_report(folder: Path) -> Path:
    """Write page and Markdown of a finished run, and return the page; each appears whole or not at all."""
    comparisons = read_comparisons(folder)
    curve = LearningCurve.read(folder) if (folder / CURVE).exists() else None
    values = {**_words(folder, comparisons), "curve": curve}
    styles = [packaged_text("charts.css"), packaged_text("finetuning/report/report.css"), rules(5, 0)]
    charts: dict[str, Any] = {
        "methods_charts": [
            methods_chart(one, f"methods-{place}") for place, one in enumerate(comparisons, start=1)
        ],
        "method_keys": method_keys(),
        "curve_chart": None if curve is None else curve_chart(curve),
    }
    texts = {
        "report.md": render("finetuning/report/report.md", **values),
        "report.html": render_page("finetuning/report/report.html", styles=styles, **values, **charts),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder / "report.html"


def _words(folder: Path, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The sentences and tables that page and Markdown share."""
    run = read_run(folder, column=comparisons[0].column)
    recipe = read_yaml(folder / RECIPE)
    num_pairs = sum(len(fold.ids) for fold in run.folds)
    return {
        "title": f"{run.task}, {run.model}",
        "facts": (
            f"{num_pairs:,} pairs tested over {len(run.folds)} folds "
            f"({'held apart by ' + str(recipe['group_by']) if run.grouped else 'by rows'}), "
            f"method {recipe['method']}, examples {run.examples[:12]}."
        ),
        "comparisons": comparisons,
        "tables": [_table(one) for one in comparisons],
        "choices": _choices(folder, [fold.number for fold in run.folds]),
    }


def _table(comparison: Comparison) -> tuple[Sequence[str], list[tuple[str, list[str]]]]:
    """Header and rows, each with its kind."""
    header, rows = table_of(comparison)
    return header, [(row.kind, fields) for row, fields in zip(comparison.rows, rows, strict=True)]


def _choices(folder: Path, folds: list[int]) -> list[tuple[str, Choice, str]]:
    """Every choice of the run with its place and its time: of the folds, and of the fit on everything."""
    places = [(f"fold {number}", fold_folder(folder, number)) for number in folds]
    found = []
    for place, path in [*places, ("everything", folder / "final")]:
        if (path / CHOICE).exists():
            choice = Choice.read(path)
            found.append((place, choice, format_duration(choice.seconds)))
    return found
