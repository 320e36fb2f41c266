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

    def runtime(self, head: str) -> dict[str, Any]:
        if self.built != head:
            self.built, self.place = head, 0
        stage = self.stages[self.place]
        self.place = min(self.place + 1, len(self.stages) - 1)
        is_there = stage in ("RUNNING", "RUNNING_BUILDING")
        return {
            "stage": stage,
            "hardware": {"current": self.hardware if is_there else None, "requested": self.hardware},
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
