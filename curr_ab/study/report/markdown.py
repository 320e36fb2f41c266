"""The report of a study as Markdown: the same tables and sentences as the page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curr_ab.measures.held_out import LOSS_REGIONS
from curr_ab.study.report.findings import findings, is_finished, judge, remarks, status, worth
from curr_ab.study.report.grid import make_grid
from curr_ab.study.report.tables import (
    Field,
    Table,
    address,
    baseline_table,
    cell_table,
    data_tables,
    law_table,
    loss_table,
    provenance_table,
    region_table,
)
from curr_ab.study.summary import StudySummary


def render_markdown(summary: StudySummary) -> str:
    """The whole report."""
    return "\n".join(_lines(summary)) + "\n"


def _lines(summary: StudySummary) -> Iterator[str]:
    grid = make_grid(summary)
    yield f"# {_escaped(summary.title)}"
    yield f"\n{status(summary)}" + ("" if is_finished(summary) else " The study is under way.")
    if said := findings(summary, grid):
        yield "\n## What the cells show"
        yield from (f"- {_escaped(sentence)}" for sentence in said)
    yield "\n## Losses"
    yield from _table(loss_table(grid))
    yield "\n**Bold**: the lowest loss with that data."
    verdict = judge(summary.law)
    yield f"\n## The scaling law: {verdict.title.lower()}"
    yield f"{verdict.headline}\n"
    yield from (f"- {_escaped(reason)}" for reason in verdict.reasons)
    yield f"\n{worth(len(grid.data))}"
    if (table := law_table(summary)) is not None:
        yield from _table(table)
    if remarked := remarks(summary.law):
        yield "\nThe fit itself says:\n"
        yield from (f"- {_escaped(remark)}" for remark in remarked)
    yield ""
    yield from (f"![{_escaped(name)}]({address(path)})" for name, path in summary.law_figures.items())
    yield "\n## Cells"
    yield from _table(cell_table(grid))
    if failed := [cell for cell in summary.cells if cell.state == "failed"]:
        yield "\n## Failed"
        for cell in failed:
            yield f"\n**{_escaped(cell.member)}**, seed {cell.seed} ([log]({address(cell.log)})):\n"
            yield from (f"    {line}" for line in (cell.problem or "no message").splitlines())
    if any(cell.region_losses for cell in summary.cells):
        yield "\n## Regions"
        yield from _table(region_table(grid, LOSS_REGIONS))
    if summary.baselines:
        yield "\n## Baselines"
        yield from _table(baseline_table(summary))
    if tables := data_tables(summary):
        yield "\n## Data"
        for table in tables:
            yield from _table(table)
    yield "\n## How this was made"
    yield f"\n    {summary.command}"
    yield from _table(provenance_table(summary))
    if summary.notes:
        yield ""
        yield from (f"- {_escaped(note)}" for note in summary.notes)


def _table(table: Table) -> Iterator[str]:
    yield f"\n{_escaped(table.caption)}\n"
    yield _row([_escaped(name) for name in table.header])
    yield "|---|" + "---:|" * (len(table.header) - 1)
    yield from (_row([_field(field) for field in row]) for row in table.rows)


def _row(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _field(field: Field) -> str:
    links = " · ".join(f"[{_escaped(words)}]({path})" for words, path in field.links)
    text = _escaped(field.text)
    return links or (f"**{text}**" if field.best else text)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it stands."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]|<>])", r"\\\1", one_line)
