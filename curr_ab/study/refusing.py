"""What a study refuses to go on with: cells that were begun by other plans or on other data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from curr_ab.study.cell_state import CellFolder, changed_plan
from curr_ab.study.cells import Cell
from curr_ab.study.folder import StudyFolder
from curr_ab.study.preset import Preset


def refuse_other_pairs(study: StudyFolder, preset: Preset) -> None:
    """The cells of a study are trained on data that are prepared once, as its preset says."""
    begun = study.preset if study.begun else None
    if begun is not None and (changes := preset.data.differences(begun.data)):
        raise ValueError(
            f"{study.path} was begun with other data ({changes}): its cells would not compare; go on with "
            "those, or choose another folder with --out"
        )


def refuse_missing_suite_data(preset: Preset) -> None:
    """What a suite is measured on, where it brings its own, must be there before cells are trained."""
    for suite, options in preset.evaluation.items():
        data = options.get("data", ())
        for path in [data] if isinstance(data, str) else data:
            if not Path(path).exists():
                raise ValueError(f"preset {preset.name}, evaluation, {suite}: the data {path} are not there")


def refuse_changed_plans(study: StudyFolder, cells: Sequence[Cell]) -> None:
    """Cells that were begun go on by their plan, or begin anew when somebody says so."""
    changed = {cell.name: changed_plan(CellFolder(study.cell(cell)), cell) for cell in cells}
    if changed := {name: differences for name, differences in changed.items() if differences}:
        told = "; ".join(f"{name}: {', '.join(differences)}" for name, differences in changed.items())
        raise ValueError(
            f"the plan of cells that were begun has changed ({told}). Put it back, choose another folder "
            f"with --out, or throw their work away: --restart {','.join(changed)}"
        )


def refuse_other_data(study: StudyFolder, cells: Sequence[Cell], fingerprint: str) -> None:
    """Cells that were trained on other data than these do not compare."""
    for cell in cells:
        file = CellFolder(study.cell(cell)).run.data_file
        if file.exists() and _fingerprint(file, cell.name) != fingerprint:
            raise ValueError(
                f"{cell.name} was trained on other data than these: give the folder of then with --data, or "
                "choose another folder with --out"
            )


def _fingerprint(file: Path, name: str) -> str:
    try:
        return str(json.loads(file.read_text())["fingerprint"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{file} is damaged, which says on what data {name} was trained: put it back, or throw its work "
            f"away with --restart {name}"
        ) from None
