"""Pretraining: plan, batches, loop, saved states, checkpoint folders."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from curr_ab.data.extra import needs_extra

if TYPE_CHECKING:
    from curr_ab.pretraining.loop import pretrain
    from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
    from curr_ab.pretraining.run_folder import read_log

# Imported when first asked for: the command line lists its commands without torch.
_LAZY = {"PretrainingPlan": "plan", "pretrain": "loop", "read_log": "run_folder", "resolve_plan": "plan"}
__all__ = ["PretrainingPlan", "pretrain", "read_log", "resolve_plan"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'curr_ab.pretraining' has no attribute {name!r}")
    with needs_extra("pretrain"):
        module = importlib.import_module(f"curr_ab.pretraining.{_LAZY[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
