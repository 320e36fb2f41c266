"""What is measured on a checkpoint: suites, metrics, comparisons with the published figures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from curr_ab.data.extra import needs_extra

if TYPE_CHECKING:
    from curr_ab.evaluation.comparing import compare_runs
    from curr_ab.evaluation.fold_statistics import mean_and_standard_error
    from curr_ab.evaluation.measuring import measure
    from curr_ab.evaluation.plan import PLANS, make_plan
    from curr_ab.evaluation.suites import run_suite
    from curr_ab.evaluation.tables import write_tables

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "PLANS": "plan",
    "compare_runs": "comparing",
    "make_plan": "plan",
    "mean_and_standard_error": "fold_statistics",
    "measure": "measuring",
    "run_suite": "suites",
    "write_tables": "tables",
}
__all__ = [
    "PLANS",
    "compare_runs",
    "make_plan",
    "mean_and_standard_error",
    "measure",
    "run_suite",
    "write_tables",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'curr_ab.evaluation' has no attribute {name!r}")
    with needs_extra("finetune"):
        module = importlib.import_module(f"curr_ab.evaluation.{_LAZY[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
