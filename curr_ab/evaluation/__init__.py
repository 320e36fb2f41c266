"""Evaluation of checkpoints: suites, comparisons of two of them, and tables beside the published figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.evaluation.comparison import compare_losses
    from curr_ab.evaluation.plan import PLANS, make_plan
    from curr_ab.evaluation.run import run_suite, write_tables
    from curr_ab.measures.fold_comparison import compare_runs
    from curr_ab.measures.metrics import measure
    from curr_ab.measures.statistics import mean_and_standard_error

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "PLANS": "plan",
    "compare_losses": "comparison",
    "compare_runs": "curr_ab.measures.fold_comparison",
    "make_plan": "plan",
    "mean_and_standard_error": "curr_ab.measures.statistics",
    "measure": "curr_ab.measures.metrics",
    "run_suite": "run",
    "write_tables": "run",
}
__all__ = [
    "PLANS",
    "compare_losses",
    "compare_runs",
    "make_plan",
    "mean_and_standard_error",
    "measure",
    "run_suite",
    "write_tables",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="evaluate")
