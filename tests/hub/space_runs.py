"""The run of a Space on the local Hub: stages one after the other, machine, variables, as of the real one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DATE = "2026-01-01T00:00:00.000Z"


@dataclass
class SpaceRun:
    """Each look at a Space that builds moves it on by a stage, to the last of them."""

    stages: list[str] = field(default_factory=lambda: ["BUILDING", "APP_STARTING", "RUNNING"])
    hardware: str = "cpu-basic"
    variables: dict[str, str] = field(default_factory=dict)
    host: str | None = None
    error: str | None = None
    built: str | None = None  # commit of which the stages are
    place: int = 0
    after: list[str] | None = None  # the stages after the next restart
    old: str | None = None  # the machine that a look still sees after a restart was asked for

    def restart(self) -> None:
        """Another machine, or other variables: the app of before is there for one more look."""
        if self.stages[self.place] == "RUNNING":
            self.old = self.hardware
        self.stages, self.place = self.after or self.stages, 0

    def runtime(self, head: str, *, is_look: bool = True) -> dict[str, Any]:
        if self.built != head:
            self.built, self.place, self.old = head, 0, None
        stage, current = self.stages[self.place], self.hardware
        if self.old is not None:
            stage, current = "RUNNING", self.old
            self.old = None if is_look else self.old
        elif is_look:
            self.place = min(self.place + 1, len(self.stages) - 1)
        is_there = stage in ("RUNNING", "RUNNING_BUILDING")
        return {
            "stage": stage,
            "hardware": {"current": current if is_there else None, "requested": self.hardware},
            "storage": None,
            "gcTimeout": 172800,
            "replicas": {"requested": 1},
            "devMode": False,
            "domains": [],
            "sha": head,
            **({"errorMessage": self.error} if self.error else {}),
        }

    def listed_variables(self) -> dict[str, Any]:
        return {key: {"value": value, "updatedAt": DATE} for key, value in self.variables.items()}
