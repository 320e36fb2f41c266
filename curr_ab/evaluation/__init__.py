"""What is measured on a checkpoint: suites, metrics, comparisons with the published figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.evaluation.comparing import compare_runs
    from curr_ab.evaluation.comparing_losses import compare_losses
    from curr_ab.evaluation.fold_statistics import mean_and_standard_error
    from curr_ab.evaluation.measuring import measure
    from curr_ab.evaluation.plan import PLANS, make_plan
    from curr_ab.evaluation.suites import run_suite
    from curr_ab.evaluation.tables import write_tables

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "PLANS": "plan",
    "compare_losses": "comparing_losses",
    "compare_runs": "comparing",
    "make_plan": "plan",
    "mean_and_standard_error": "fold_statistics",
    "measure": "measuring",
    "run_suite": "suites",
    "write_tables": "tables",
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

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="finetune")
