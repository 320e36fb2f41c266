"""The folder of a pretraining run: its plan, its log, its saved states and its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curr_ab.files import read_object, replacing, write_json
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.training.state import TrainingFolder


class RunFolder(TrainingFolder):
    """Paths of all that a run leaves."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.plan_file = self.path / "plan.yaml"
        self.data_file = self.path / "data.json"
        self.results_file = self.path / "results.json"
        self.checkpoints = self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step{step}"

    @property
    def precision(self) -> str | None:
        """The number type in which the run began; None before that."""
        return resolve_plan({}, [self.plan_file]).precision if self.plan_file.exists() else None

    def begin(self, plan: PretrainingPlan, data: dict[str, Any]) -> None:
        """Record plan and data, or make sure that those of the run that is here are the same."""
        if self.plan_file.exists():
            changed = plan.differences(resolve_plan({}, [self.plan_file]))
            if changed:
                raise ValueError(
                    f"the plan must be that of the run in {self.path}; got another ({'; '.join(changed)}): "
                    f"go on with its plan, or choose another folder"
                )
            before = read_object(self.data_file)
            if before != data:
                raise ValueError(
                    f"the data must be those with which the run in {self.path} began; got others ({before} → "
                    f"{data}): prepare them as they were, or choose another folder"
                )
        import yaml

        write_json(self.data_file, data)
        with replacing(self.plan_file) as temporary:
            temporary.write_text(yaml.safe_dump(plan.to_dict(), sort_keys=False), encoding="utf-8")
