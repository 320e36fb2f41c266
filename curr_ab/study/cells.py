"""The cells of a study: which member, on which data, with which seed, by which plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from curr_ab.family import MEMBERS
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.study.preset import Preset


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
        """What the model is called: `350M-F`, whatever its seed."""
        return f"{self.size}-{self.data}"


def cells_of(preset: Preset, data: str | Path) -> list[Cell]:
    """All cells, in the order of sizes, data and seeds; `data` is the prepared folder."""
    _refuse_unmatched(preset)
    return [
        _cell(preset, size, letter, seed, str(data))
        for size in preset.sizes
        for letter in preset.data.subsets
        for seed in preset.seeds
    ]


def _name(preset: Preset, size: str, letter: str, seed: int) -> str:
    return f"{size}-{letter}" if len(preset.seeds) == 1 else f"{size}-{letter}-seed{seed}"


def _cell(preset: Preset, size: str, letter: str, seed: int, data: str) -> Cell:
    name, member = _name(preset, size, letter, seed), f"{size}-{letter}"
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


def _refuse_unmatched(preset: Preset) -> None:
    names = [
        form
        for size in preset.sizes
        for letter in preset.data.subsets
        for seed in preset.seeds
        for form in (f"{size}-{letter}", _name(preset, size, letter, seed))
    ]
    for pattern in preset.cells:
        if not any(fnmatchcase(name, pattern) for name in names):
            known = ", ".join(dict.fromkeys(names))
            raise ValueError(f"preset {preset.name}: {pattern!r} is no cell; the cells are {known}")


def chosen(cells: Sequence[Cell], names: Iterable[str], option: str) -> list[Cell]:
    """The cells of these names or members, in the study's order; all of them for no names."""
    wanted = list(names)
    for name in wanted:
        if not any(name in (cell.name, cell.member) for cell in cells):
            known = ", ".join(cell.name for cell in cells)
            raise ValueError(f"{option} names {name!r}, which is no cell of this study; there are {known}")
    return [cell for cell in cells if not wanted or cell.name in wanted or cell.member in wanted]
