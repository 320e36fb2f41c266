"""The report of a study: what was found, as files for people and programs."""

from __future__ import annotations

from pathlib import Path

from curr_ab.data.atomic import replacing
from curr_ab.study.summary import StudySummary


def write_report(summary: StudySummary, folder: Path) -> None:
    """`report.json` in the folder of the study."""
    with replacing(folder / "report.json") as temporary:
        temporary.write_text(summary.to_json(), encoding="utf-8")
