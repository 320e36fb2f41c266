"""The cells of a study, each with its member, data, seed and plan, and their folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import filter as matching
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from curr_ab.family import CAUSAL_PREFIX, MEMBERS
from curr_ab.files import write_json
from curr_ab.options import OptionError, unknown
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.pretraining.run_folder import RunFolder
from curr_ab.randomness import random_stream
from curr_ab.results import Result, read_results
from curr_ab.study.preset import Preset, Transfer
from curr_ab.study.summary import Estimate


@dataclass(frozen=True)
class Cell:
    """One training; without a member's size and data it is in the law and is not exported."""

    name: str
    size: str
    data: str
    plan: PretrainingPlan
    exported: bool  # one draw and seed of each member is
    in_law: bool = True  # of the grid of sizes and data, whose losses compare
    after: str = ""  # the causal cell whose weights it starts from

    @property
    def member(self) -> str:
        """The name of the model: `350M-F`, whatever its seed."""
        return f"{self.size}-{self.data}"

    @property
    def title(self) -> str:
        """The name under which its numbers are recorded: a member's for the grid and what is exported."""
        causal = self.plan.objective == "clm"
        if self.exported and causal:
            return f"{CAUSAL_PREFIX}{self.member}"
        if causal and self.name == self.member:  # of the grid, and shorter than the twin
            return f"{self.name}-clm{self.plan.steps}"
        return self.member if self.in_law else self.name


def cells_of(preset: Preset, data: str | Path, folder: str | Path = "") -> list[Cell]:
    """All cells, in the order of sizes, data, draws and seeds, then those of `transfer`.

    `data` is the prepared folder, `folder` that of the study, from whose cells others start.
    """
    draws = range(1, preset.data.draws + 1) if preset.data.draws > 1 else (0,)
    grid = [f"{size}-{letter}" for size, letter in product(preset.sizes, preset.data.subsets)]
    for pattern in preset.left_out:
        if not matching(grid, pattern):
            raise ValueError(f"preset {preset.name}: left_out must be of {', '.join(grid)}; got {pattern!r}")
    axes = [
        axis
        for axis in product(preset.sizes, preset.data.subsets, draws, preset.seeds)
        if not any(fnmatchcase(f"{axis[0]}-{axis[1]}", pattern) for pattern in preset.left_out)
    ]
    names = [
        f"{size}-{letter}" + f"-draw{draw}" * (draw > 0) + f"-seed{seed}" * (len(preset.seeds) > 1)
        for size, letter, draw, seed in axes
    ]
    members = [f"{size}-{letter}" for size, letter, *_ in axes]
    further = [
        (f"{name}-{suffix}", axis, changes, f"{name}-{after}" if after else "")
        for name, axis in zip(names, axes, strict=True)
        for suffix, changes, after in _transfer_cells(preset.transfer)
    ]
    for pattern in preset.cells:
        known = (*members, *names, *(name for name, *_ in further))
        if not any(fnmatchcase(name, pattern) for name in known):
            names_of_all = ", ".join(dict.fromkeys(known))
            raise ValueError(f"preset {preset.name}: cells must be of {names_of_all}; got {pattern!r}")
    cells = [_cell(preset, name, axis, str(data)) for name, axis in zip(names, axes, strict=True)]
    if not any(cell.in_law for cell in cells):
        raise ValueError(
            f"preset {preset.name}: a cell at least must be of objective mlm, for the law; got "
            "clm for all: name causal ones under cells, or give transfer.clm_steps"
        )
    for name, axis, changes, after in further:
        made = {cell.name: cell for cell in cells}
        if after:
            run = CellFolder(Path(folder) / "cells" / after).run
            changes = {**changes, "init_from": str(run.checkpoint(made[after].plan.steps).absolute())}
        cells.append(_cell(preset, name, axis, str(data), changes, after))
    return _with_one_twin(cells)


def _with_one_twin(cells: Sequence[Cell]) -> list[Cell]:
    """The cells; of a member's causal ones that of the most steps, its causal twin, alone is exported."""
    twins: dict[str, Cell] = {}
    for cell in cells:
        if cell.exported and cell.plan.objective == "clm":
            twins[cell.member] = max(twins.get(cell.member, cell), cell, key=lambda one: one.plan.steps)
    others = [cell for cell in cells if cell.plan.objective == "clm" and cell not in twins.values()]
    return [replace(cell, exported=False) if cell in others else cell for cell in cells]


def _transfer_cells(transfer: Transfer) -> list[tuple[str, dict[str, Any], str]]:
    """Ending of the name, departures of the plan, and ending of the cell before; that one stands first."""

    def plan(objective: str, steps: int) -> dict[str, Any]:
        warmup = round(transfer.warmup_share * steps)
        return {"objective": objective, "steps": steps, "warmup_steps": warmup}

    cells = [(f"clm{steps}", plan("clm", steps), "") for steps in transfer.clm_steps]
    cells += [(f"mlm{steps}", plan("mlm", steps), "") for steps in transfer.scratch_steps]
    return cells + [
        (f"clm{before}-mlm{steps}", plan("mlm", steps) | {"light_first": 0.0}, f"clm{before}")
        for before, steps in product(transfer.clm_steps, transfer.mlm_steps)
    ]


def _cell(
    preset: Preset,
    name: str,
    axes: tuple[str, str, int, int],
    data: str,
    changes: Mapping[str, Any] | None = None,
    after: str = "",
) -> Cell:
    size, letter, draw, seed = axes
    member = f"{size}-{letter}"
    layers = [{"config": preset.sizes[size]}, preset.plan, changes or {}]
    layers += [
        values
        for pattern, values in preset.cells.items()
        # What is said of a member is about its cell in the grid; what is said of `8M-*` about all.
        if fnmatchcase(name, pattern) or (changes is None and fnmatchcase(member, pattern))
    ]
    # The plan of a size that is none of the family's is that of any member but for its shape.
    base = {"member": member if member in MEMBERS else "8M-F", "subset": letter, "seed": seed, "data": data}
    if draw:
        # A seed of its own for every cell: with equal weights at the start, draws would be alike by that.
        base |= {"draw": draw, "seed": int(random_stream(seed, name).integers(10**6))}
    try:
        plan = resolve_plan({**base, **_merged(layers)})
    except ValueError as error:
        raise ValueError(f"preset {preset.name}, cell {name}: {error}") from None
    causal = plan.objective == "clm"
    in_law = changes is None and not causal
    exported = (in_law or causal) and member in MEMBERS and seed == preset.seeds[0] and draw <= 1
    return Cell(name, size, letter, plan, exported, in_law, after)


def _merged(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {"config": {}}
    for layer in layers:
        if own := [key for key in ("member", "data", "subset", "draw") if key in layer]:
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


def with_predecessors(cells: Sequence[Cell], some: Iterable[Cell]) -> list[Cell]:
    """These cells and those that they start from, in the study's order."""
    names = {name for cell in some for name in (cell.name, cell.after)}
    return [cell for cell in cells if cell.name in names]


def with_successors(cells: Sequence[Cell], some: Iterable[Cell]) -> list[Cell]:
    """These cells and those that start from them, in the study's order."""
    names = {cell.name for cell in some}
    return [cell for cell in cells if cell.name in names or cell.after in names]


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


def suites_of(cell: Cell, evaluation: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The suites that say something of a cell: a causal one has a loss and generates."""
    causal = cell.plan.objective == "clm"
    return {
        suite: options
        for suite, options in evaluation.items()
        if suite == "loss" or (suite == "generation") == causal
    }


def evaluation_key(evaluation: Mapping[str, Mapping[str, Any]], fingerprint: str) -> dict[str, Any]:
    """The key of an evaluation: where it differs from that of a cell, the cell is evaluated anew."""
    plain: dict[str, Any] = json.loads(json.dumps({"suites": evaluation, "data": fingerprint}))
    return plain


def changed_plan(folder: CellFolder, cell: Cell) -> list[str]:
    """Differences between the plan that the run was begun with and the one that is wanted."""
    if not folder.run.plan_file.exists():
        return []
    begun = resolve_plan({}, [folder.run.plan_file])
    if cell.after and begun.init_from and cell.plan.init_from:
        # A study may have moved since, and its cells with it: their own names tell.
        places = [Path(path).parts[-4:] for path in (begun.init_from, cell.plan.init_from)]
        if places[0] == places[1]:
            begun = replace(begun, init_from=cell.plan.init_from)
    return cell.plan.differences(begun)


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
