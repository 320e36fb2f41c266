"""Pretraining: plan, batches, loop, saved states, checkpoint folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.pretraining.loop import pretrain
    from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
    from curr_ab.training.state import read_log

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {
    "PretrainingPlan": "plan",
    "pretrain": "loop",
    "read_log": "curr_ab.training.state",
    "resolve_plan": "plan",
}
__all__ = ["PretrainingPlan", "pretrain", "read_log", "resolve_plan"]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="train")
