"""How far a cell has come, read from its folder: what a killed study goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curr_ab.data.atomic import write_json
from curr_ab.pretraining.run_folder import RunFolder
from curr_ab.results import Result, read_results
from curr_ab.study.cells import Cell

State = Literal["done", "failed", "running", "waiting"]
Evaluation = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class CellFolder:
    """What lies in the folder of a cell; a part of the truth that a file holds is nowhere else."""

    path: Path

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.path / "run")

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.yaml"

    @property
    def results_file(self) -> Path:
        return self.path / "results.json"

    @property
    def state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def log_file(self) -> Path:
        return self.path / "log.txt"

    def trained(self, steps: int) -> bool:
        """Whether the last checkpoint is there; the run measures it after it wrote it."""
        results = self.run.results_file
        if not self.run.checkpoint(steps).is_dir() or not results.is_file():
            return False
        try:
            return any(row.step == steps for row in read_results(results))
        except ValueError as error:
            raise ValueError(f"{error}; delete {results}, which is measured anew") from None

    @property
    def state(self) -> dict[str, Any]:
        """`evaluated`: by which options, on which data; `problem`: what stopped the last process.

        A damaged file counts as none: the cell is evaluated anew.
        """
        found: dict[str, Any] = {"evaluated": None, "problem": None}
        with suppress(FileNotFoundError, ValueError, TypeError):
            found |= json.loads(self.state_file.read_text())
        return found

    def note(self, **changes: Any) -> None:
        """Change the state, atomically."""
        write_json(self.state_file, {**self.state, **changes})

    @property
    def problem(self) -> str | None:
        found: str | None = self.state["problem"]
        return found

    def evaluated(self, key: Mapping[str, Any]) -> bool:
        """Whether its numbers are there, as they are wanted now."""
        return self.state["evaluated"] == key and bool(self.results())

    def results(self) -> list[Result]:
        """None where the file is missing or damaged: the cell is evaluated anew."""
        try:
            return read_results(self.results_file)
        except (FileNotFoundError, ValueError):
            return []


def evaluation_key(evaluation: Evaluation, fingerprint: str) -> dict[str, Any]:
    """What decides whether a cell must be evaluated anew."""
    plain: dict[str, Any] = json.loads(json.dumps({"suites": evaluation, "data": fingerprint}))
    return plain


def finished(folder: CellFolder, cell: Cell, key: Mapping[str, Any]) -> bool:
    """Trained, and evaluated as is wanted now."""
    return folder.trained(cell.plan.steps) and folder.evaluated(key)


def changed_plan(folder: CellFolder, cell: Cell) -> list[str]:
    """How the plan that the run was begun with differs from the one that is wanted."""
    from curr_ab.pretraining.plan import resolve_plan

    if not folder.run.plan_file.exists():
        return []
    return cell.plan.differences(resolve_plan({}, [folder.run.plan_file]))
