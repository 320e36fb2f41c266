"""The whole of the paper as one resumable command: cells, law, exports, report."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from curr_ab.data.extra import needs_extra

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


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'curr_ab.study' has no attribute {name!r}")
    with needs_extra("study"):
        module = importlib.import_module(f"curr_ab.study.{_LAZY[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
