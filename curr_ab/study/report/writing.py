"""Write the report of a study: `report.json`, `report.md`, `report.html`."""

from __future__ import annotations

from pathlib import Path

from curr_ab.data.atomic import replacing
from curr_ab.study.report.markdown import render_markdown
from curr_ab.study.report.page import render_page
from curr_ab.study.summary import StudySummary


def write_report(summary: StudySummary, folder: Path) -> Path:
    """The path of the page; each file appears whole or not at all."""
    texts = {
        "report.json": summary.to_json(),
        "report.md": render_markdown(summary),
        "report.html": render_page(summary),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder / "report.html"
