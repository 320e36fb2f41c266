"""The folder of a run: its plan, its log, its saved states and its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curr_ab.files import replacing, write_json
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.training.log import forget_lines_after, log_line
from curr_ab.training.state import complete_states


class RunFolder:
    """Where everything of a run lies."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.plan_file = self.path / "plan.yaml"
        self.data_file = self.path / "data.json"
        self.log_file = self.path / "log.jsonl"
        self.results_file = self.path / "results.json"
        self.states = self.path / "states"
        self.checkpoints = self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step{step}"

    @property
    def newest_state(self) -> Path | None:
        states = complete_states(self.states)
        return states[-1] if states else None

    def begin(self, plan: PretrainingPlan, data: dict[str, Any]) -> None:
        """Record plan and data, or make sure that those of the run that is here are the same."""
        if self.plan_file.exists():
            changed = plan.differences(resolve_plan({}, [self.plan_file]))
            if changed:
                raise ValueError(
                    f"{self.path} holds a run of another plan ({'; '.join(changed)}); go on with its plan, "
                    f"or choose another folder"
                )
            before = json.loads(self.data_file.read_text())
            if before != data:
                raise ValueError(
                    f"the data of {self.path} have changed since the run began ({before} → {data}); "
                    f"prepare them as they were, or choose another folder"
                )
        import yaml

        write_json(self.data_file, data)
        with replacing(self.plan_file) as temporary:
            temporary.write_text(yaml.safe_dump(plan.to_dict(), sort_keys=False))

    def forget_after(self, step: int) -> None:
        """Drop what the log tells of steps after the state from which the run goes on."""
        forget_lines_after(self.log_file, step)

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line."""
        log_line(self.log_file, entry)
