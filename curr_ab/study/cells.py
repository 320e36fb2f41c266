"""The cells of a study, each with its member, data, seed and plan, and their folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from curr_ab.family import MEMBERS
from curr_ab.files import write_json
from curr_ab.options import OptionError, unknown
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.pretraining.run_folder import RunFolder
from curr_ab.results import Result, read_results
from curr_ab.study.preset import Preset
from curr_ab.study.summary import Estimate


@dataclass(frozen=True)
class Cell:
    """One training; without a member's size and data it is in the law and is not exported."""

    name: str
    size: str
    data: str
    plan: PretrainingPlan
    exported: bool  # one seed of each member is

    @property
    def member(self) -> str:
        """The name of the model: `350M-F`, whatever its seed."""
        return f"{self.size}-{self.data}"


def cells_of(preset: Preset, data: str | Path) -> list[Cell]:
    """All cells, in the order of sizes, data and seeds; `data` is the prepared folder."""
    axes = list(product(preset.sizes, preset.data.subsets, preset.seeds))
    names = [f"{size}-{letter}" + f"-seed{seed}" * (len(preset.seeds) > 1) for size, letter, seed in axes]
    members = [f"{size}-{letter}" for size, letter, _ in axes]
    for pattern in preset.cells:
        if not any(fnmatchcase(name, pattern) for name in (*members, *names)):
            cells = ", ".join(dict.fromkeys((*members, *names)))
            raise ValueError(f"preset {preset.name}: cells must be of {cells}; got {pattern!r}")
    return [_cell(preset, name, axis, str(data)) for name, axis in zip(names, axes, strict=True)]


def _cell(preset: Preset, name: str, axes: tuple[str, str, int], data: str) -> Cell:
    size, letter, seed = axes
    member = f"{size}-{letter}"
    layers = [{"config": preset.sizes[size]}, preset.plan]
    layers += [
        values
        for pattern, values in preset.cells.items()
        if fnmatchcase(name, pattern) or fnmatchcase(member, pattern)
    ]
    # The plan of a size that is none of the family's is that of any member but for its shape.
    base = {"member": member if member in MEMBERS else "8M-F", "subset": letter, "seed": seed, "data": data}
    try:
        plan = resolve_plan({**base, **_merged(layers)})
    except ValueError as error:
        raise ValueError(f"preset {preset.name}, cell {name}: {error}") from None
    return Cell(name, size, letter, plan, member in MEMBERS and seed == preset.seeds[0])


def _merged(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {"config": {}}
    for layer in layers:
        if own := [key for key in ("member", "data", "subset") if key in layer]:
            raise ValueError(f"{own[0]} is the study's to say")
        merged = {**merged, **layer, "config": {**merged["config"], **layer.get("config", {})}}
    return merged


def chosen(cells: Sequence[Cell], names: Iterable[str], field: str) -> list[Cell]:
    """The cells of these names or members, in the study's order; all of them for no names."""
    wanted = list(names)
    for name in wanted:
        if not any(name in (cell.name, cell.member) for cell in cells):
            known = dict.fromkeys(cell.name for cell in cells)
            raise OptionError(unknown(f"cell in {field}", name, known), field)
    return [cell for cell in cells if not wanted or cell.name in wanted or cell.member in wanted]


class CellFolder:
    """The files of a cell; each fact stands in one of them and nowhere else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = RunFolder(path / "run")
        self.plan_file = path / "plan.yaml"
        self.results_file = path / "results.json"
        self.state_file = path / "state.json"
        self.log_file = path / "log.txt"

    def trained(self, steps: int) -> bool:
        """True if the last checkpoint is there; the run measures it after it wrote it."""
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
        state: dict[str, Any] = {"evaluated": None, "problem": None}
        with suppress(FileNotFoundError, ValueError, TypeError):
            state |= json.loads(self.state_file.read_text())
        return state

    def note(self, **changes: Any) -> None:
        """Change the state, atomically."""
        write_json(self.state_file, {**self.state, **changes})

    @property
    def problem(self) -> str | None:
        problem: str | None = self.state["problem"]
        return problem

    def evaluated(self, key: Mapping[str, Any]) -> bool:
        """True if its numbers are there, as they are wanted now."""
        return self.state["evaluated"] == key and bool(self.results())

    def results(self) -> list[Result]:
        """The measured numbers; empty where the file is missing or damaged, and evaluated anew."""
        try:
            return read_results(self.results_file)
        except (FileNotFoundError, ValueError):
            return []


def evaluation_key(evaluation: Mapping[str, Mapping[str, Any]], fingerprint: str) -> dict[str, Any]:
    """The key of an evaluation: where it differs from that of a cell, the cell is evaluated anew."""
    plain: dict[str, Any] = json.loads(json.dumps({"suites": evaluation, "data": fingerprint}))
    return plain


def changed_plan(folder: CellFolder, cell: Cell) -> list[str]:
    """Differences between the plan that the run was begun with and the one that is wanted."""
    if not folder.run.plan_file.exists():
        return []
    return cell.plan.differences(resolve_plan({}, [folder.run.plan_file]))


def loss_by_place(results: Iterable[Result]) -> dict[str, Estimate]:
    """Loss of the suite `loss`: "all", then each region and segment."""
    return {
        str(row.details["place"]): (row.value, row.standard_error or 0.0)
        for row in results
        if row.metric == "loss" and row.task.endswith("-loss") and "place" in row.details
    }


def held_out_loss(results: Iterable[Result]) -> tuple[float | None, float | None]:
    """Loss of all held-out residues, and its standard error."""
    return loss_by_place(results).get("all", (None, None))


def pairing_accuracy(results: Iterable[Result]) -> Estimate | None:
    """Mean over the folds, and its standard error."""
    for row in results:
        # Rows with a fold, or with pairs of one mutation status, are parts of it.
        if (row.task, row.metric) == ("pairing", "accuracy") and not row.details.keys() & {"fold", "pairs"}:
            return row.value, row.standard_error or 0.0
    return None
