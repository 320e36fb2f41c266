"""The report of a study: one HTML page that needs nothing but itself, its twin in Markdown, its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import resvg_py  # noqa: F401  # so that it is missed before cells are trained, not when figures are drawn

from curr_ab.charts import STAR, Key, rules
from curr_ab.files import replacing
from curr_ab.measures.held_out import LOSS_REGIONS
from curr_ab.pages import packaged_text, render
from curr_ab.pages import render_page as render_template
from curr_ab.pictures import save_pictures
from curr_ab.quantities import format_duration
from curr_ab.study.report import figures, tables, transfer
from curr_ab.study.report.findings import every_cell, findings, is_finished, judge, remarks, status, worth
from curr_ab.study.report.grid import (
    Grid,
    make_grid,
    minutes_of,
    pairing_curves,
    pairing_of,
    throughput_of,
    written,
)
from curr_ab.study.summary import StudySummary


def render_page(summary: StudySummary) -> str:
    """The page; its policy lets it load nothing and run no script but its own."""
    grid = make_grid(summary)
    sheets = [packaged_text(name) for name in ("charts.css", "study/report/report.css")]
    styles = [*sheets, rules(max(len(grid.data), len(transfer.budgets(summary))), len(grid.sizes))]
    values = _words(summary, grid) | _charts(summary, grid)
    return render_template("study/report/report.html", styles=styles, **values)


def render_markdown(summary: StudySummary) -> str:
    """The tables and sentences of the page as Markdown."""
    return render("study/report/report.md", **_words(summary, make_grid(summary)))


def _words(summary: StudySummary, grid: Grid) -> dict[str, Any]:
    """The sentences and tables that page and Markdown share."""
    return {
        "summary": summary,
        "grid": grid,
        "address": tables.address,
        "status": status(summary),
        "finished": is_finished(summary),
        "failed": [cell for cell in every_cell(summary) if cell.state == "failed"],
        "facts": _facts(summary, grid),
        "findings": findings(summary, grid),
        "verdict": judge(summary.law),
        "fit": summary.law.fit,
        "worth": worth(len(grid.data)),
        "remarks": remarks(summary.law),
        "loss_table": tables.loss_table(grid),
        "law_table": tables.law_table(summary),
        "noise_table": tables.noise_table(summary, grid),
        "joint_table": tables.joint_table(summary),
        "baseline_table": tables.baseline_table(summary),
        "cell_table": tables.cell_table(grid),
        "region_table": tables.region_table(grid, LOSS_REGIONS),
        "transfer_sentences": transfer.transfer_sentences(summary),
        "runs_table": transfer.runs_table(summary),
        "estimates_table": transfer.estimates_table(summary),
        "further_cells_table": transfer.further_cells_table(summary),
        "generation_tables": transfer.generation_tables(summary),
        "data_tables": tables.data_tables(summary),
        "provenance_table": tables.provenance_table(summary),
    }


def _charts(summary: StudySummary, grid: Grid) -> dict[str, Any]:
    """The pictures of the page, and the legends that several of them share."""
    data_keys = [Key(f"d{index}", index, grid.data_label(name)) for index, name in enumerate(grid.data)]
    star = Key("ink", STAR, "optimum of a fitted parabola", "star")
    ring = Key("ink", 0, "lowest measured loss", "ring")
    curves = pairing_curves(grid)
    histograms = summary.data_report.get("histograms", {})
    return {
        "data_keys": data_keys,
        "size_keys": [Key(f"s{i}", i, grid.long_size_label(size)) for i, size in enumerate(grid.sizes)],
        "law_keys": [*data_keys, star if summary.law.fit else ring],
        "points": figures.points(grid),
        "law_figures": figures.law_figures(summary, grid),
        "baselines": figures.against_baselines(grid, summary.baselines),
        "region_charts": figures.regions(grid, LOSS_REGIONS),
        "training_charts": figures.training(grid),
        "pairing": figures.by_size(
            grid,
            "pairing",
            pairing_of,
            "Accuracy of the pairing probe",
            "{:.0%}".format,
            (0.5, "chance"),
            curves.get("parameters"),
        ),
        "pairing_has_curve": "parameters" in curves,
        "pairing_ladder": figures.pairing_ladder(grid),
        "speed": figures.by_size(grid, "speed", throughput_of, "Tokens per second", "{:,.0f}".format),
        "minutes": figures.by_size(grid, "minutes", minutes_of, "Minutes per cell", "{:.3g}".format),
        "budget_keys": transfer.budget_keys(summary),
        "transfer_charts": transfer.charts(summary),
        "histograms": {
            name: figures.histogram(name, counts, name.partition(" ")[0])
            for name, counts in histograms.items()
        },
    }


def _facts(summary: StudySummary, grid: Grid) -> list[tuple[str, str]]:
    cells = every_cell(summary)
    done = sum(cell.state == "done" for cell in cells)
    shape = f"{len(grid.sizes)} sizes by {len(grid.data)} data sets" + (
        f", up to {grid.repeats}" if grid.repeats else ""
    )
    if summary.further_cells:
        shape += f", and {len(summary.further_cells)} causal, after causal, and beside those"
    facts = [(f"{done} of {len(cells)}", f"cells trained: {shape}")]
    best = [(estimate, spot) for _, row in grid.rows() for spot, estimate in row]
    if best:
        (loss, _), spot = min(best, key=lambda item: item[0])
        words = f"lowest held-out loss of {grid.counted(len(best))}, by {spot.first.member}"
        facts.append((written((loss, 0), 3), words))
    pairs = [grid.pairs(data) for data in grid.data]
    facts.append((f"{min(pairs):,} to {max(pairs):,}", "training pairs, least to most"))
    facts.append((format_duration(summary.seconds), summary.hardware))
    return facts


def write_report(summary: StudySummary, folder: Path) -> Path:
    """Write the report as page, Markdown and JSON, and return the page; each appears whole or not at all."""
    texts = {
        "report.json": summary.to_json(),
        "report.md": render_markdown(summary),
        "report.html": render_page(summary),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder / "report.html"


def write_law_figures(summary: StudySummary, folder: Path) -> list[Path]:
    """Save the page's two figures of the law as files of their own, SVG and PNG."""
    return save_pictures(figures.law_figures(summary, make_grid(summary)), folder, ("svg", "png"))
