"""Models beside others, on public data sets: peers, tasks, and what their differences are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.benchmark.peers.find import find_peer
    from curr_ab.benchmark.plan import BenchmarkPlan, read_suite
    from curr_ab.benchmark.report import write_report
    from curr_ab.benchmark.run import run_benchmark
    from curr_ab.benchmark.tasks.catalogue import read_task

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "BenchmarkPlan": "plan",
    "find_peer": "peers.find",
    "read_suite": "plan",
    "read_task": "tasks.catalogue",
    "run_benchmark": "run",
    "write_report": "report",
}
__all__ = ["BenchmarkPlan", "find_peer", "read_suite", "read_task", "run_benchmark", "write_report"]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="evaluate")
