"""Measured numbers beside those that the paper reports, as a table in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from curr_ab.evaluation.measurement import RECORD, read_measurement
from curr_ab.evaluation.plan import PLANS
from curr_ab.family import MEMBERS
from curr_ab.files import replacing
from curr_ab.published import FIGURES, PART_FIGURES, PublishedFigure
from curr_ab.results import Result, is_headline, read_results

NOTE = (
    "Published: the paper's figure for its own checkpoint of that member on its own data, never measured "
    "here; a difference means something on the same data only."
)
# Of the paper's two versions of the test loss the later one, where it shows the member.
_TEST_LOSSES = ("test-loss-2025-09", "test-loss-2025-05")


def write_tables(out: str | Path, suite: str) -> str:
    """The table of all measurements of a suite in `out`; the same text goes to `out/SUITE/table.md`."""
    folder = Path(out) / suite
    shown, left_out = _rows(folder)
    rows = sorted(shown, key=lambda row: (_rank(row[0]), row[0].task, str(row[0].identity)))
    text = "\n".join([*_lines(rows), *_skipped(folder), *left_out]) + "\n"
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(text)
    return text


def _rows(folder: Path) -> tuple[list[tuple[Result, PublishedFigure | None]], list[str]]:
    """The numbers that are shown, with the published figure where there is one to compare with.

    And a note on each folder that cannot be read.
    """
    rows, notes = [], []
    for path in sorted(folder.glob("*/results.json")):
        measurement = read_measurement(path.parent)
        if measurement is None:
            notes.append(
                f"\nleft out: {path.parent.name} (its {RECORD} is missing or broken; measure it again)"
            )
            continue
        for row in filter(is_headline, read_results(path)):
            rows.append((row, published_for(row) if measurement.is_member else None))
    return rows, notes


def published_for(row: Result) -> PublishedFigure | None:
    """The paper's figure for the same task, metric and part of the same member.

    Of a cross-validation only beside the published protocol with nothing changed.
    """
    if "recipe" in row.details and (row.details.get("protocol") != "published" or "changes" in row.details):
        return None
    tasks = [row.task]
    if row.task == "test-loss" and row.details.get("objective") == "mlm":
        tasks = list(_TEST_LOSSES)
    figures = {
        figure.task: figure
        for figure in (*FIGURES, *PART_FIGURES)
        if (figure.member, figure.metric, figure.part) == (row.model, row.metric, _part(row))
    }
    return next((figures[task] for task in tasks if task in figures), None)


def _part(row: Result) -> str:
    """Name of its part in `PublishedFigure.part`; the paper's regions are those of mutated chains."""
    if row.task == "regions":
        region, group = row.details["place"], row.details["group"]
        return str(region) if group == "mutated chains" else f"{region} of {group}"
    return str(row.details.get("pairs", "")) if row.task == "pairing" else ""


def _skipped(folder: Path) -> Iterator[str]:
    """Assays that were left out, once each."""
    skipped: dict[str, str] = {}
    for path in sorted(folder.glob("*/skipped.json")):
        skipped |= json.loads(path.read_text())
    if skipped:
        yield "\nskipped: " + "; ".join(f"{name} ({reason})" for name, reason in skipped.items())


def _rank(row: Result) -> int:
    return list(MEMBERS).index(row.model) if row.model in MEMBERS else len(MEMBERS)


def _lines(rows: list[tuple[Result, PublishedFigure | None]]) -> Iterator[str]:
    yield "| model | task | metric | measured ± SE | published | difference | items | data |"
    yield "|---|---|---|---:|---:|---:|---:|---|"
    for row, figure in rows:
        details = ", ".join(f"{key} {row.details[key]}" for key in _SHOWN if key in row.details)
        published = "" if figure is None else f"{figure.value:.4f} ({figure.task})"
        difference = "" if figure is None else f"{row.value - figure.value:+.4f}"
        yield (
            f"| {row.model} | {row.task}{f' ({details})' if details else ''} | {row.metric} "
            f"| {row.shown} | {published} | {difference} | {row.num_items:,} "
            f"| {row.dataset}, {row.split} |"
        )
    if any(figure is not None for _, figure in rows):
        sources = sorted({figure.source for _, figure in rows if figure is not None})
        yield f"\n{NOTE} Sources: {'; '.join(sources)}."


# Details that tell numbers of one model apart for a reader.
_SHOWN = dict.fromkeys(
    (
        *("place", "group", "recipe", "recipe_digest", "protocol", "method", "changes"),
        *("assay", "score", "assays", "germline"),
        *(one.name for plan in PLANS.values() for one in fields(plan)),
    )
)
