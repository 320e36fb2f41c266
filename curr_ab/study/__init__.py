"""The whole of the paper as one resumable command: cells, law, exports, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.study.preset import Preset, read_preset
    from curr_ab.study.study import Outcome, plan_study, run_study
    from curr_ab.study.summary import CellSummary, StudySummary, read_summary

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "CellSummary": "summary",
    "Outcome": "study",
    "Preset": "preset",
    "StudySummary": "summary",
    "plan_study": "study",
    "read_preset": "preset",
    "read_summary": "summary",
    "run_study": "study",
}
__all__ = [
    "CellSummary",
    "Outcome",
    "Preset",
    "StudySummary",
    "plan_study",
    "read_preset",
    "read_summary",
    "run_study",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="study")
