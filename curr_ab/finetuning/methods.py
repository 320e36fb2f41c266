"""Defaults of the methods: what a recipe does not say, each method has its own value for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from curr_ab.words import Target

Pooling = Literal["cls", "mean", "mean_per_chain"]
Start = Literal["probe", "random"]

ADAPTERS = ("lora", "dora")


@dataclass(frozen=True)
class MethodDefaults:
    """Values of the options that a recipe leaves to the method."""

    learning_rate: float
    pooling: Pooling = "cls"
    start: Start = "random"
    fewest_steps: int = 0
    early_stopping: int = 0

    def value(self, name: str, target: Target) -> Any:
        """The value of an option; residues have no pooled features, and so no start at a probe."""
        if target == "residues" and name in ("pooling", "start"):
            return {"pooling": "cls", "start": "random"}[name]
        return getattr(self, name)


# Published for the head on a frozen base: 5e-5, <cls>, a new head, all epochs. The others are made for small
# data; `docs/small-data.md` says what was measured.
METHODS: dict[str, MethodDefaults] = {
    "frozen": MethodDefaults(5e-5),
    "full": MethodDefaults(5e-5, "mean_per_chain", "probe", 200, 4),
    "lora": MethodDefaults(3e-4, "mean_per_chain", "probe", 200, 4),
    "dora": MethodDefaults(3e-4, "mean_per_chain", "probe", 200, 4),
    "probe": MethodDefaults(1e-3, "mean_per_chain"),
    "auto": MethodDefaults(3e-4, "mean_per_chain", "probe", 200, 4),  # the adapters', which it may choose
}
