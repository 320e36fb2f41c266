"""The work of a study: its cells with their folders, costs and states, and the tasks that are left."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from curr_ab.data.atomic import replacing
from curr_ab.study.cell_state import CellFolder, State, finished
from curr_ab.study.cells import Cell
from curr_ab.study.costs import Cost
from curr_ab.study.folder import Clock, StudyFolder
from curr_ab.study.launching import training_command
from curr_ab.study.outcome import held_out_loss
from curr_ab.study.preset import Preset
from curr_ab.study.running import run_cells, slots_of
from curr_ab.study.summarizing import CellView
from curr_ab.study.table import Table, read_status
from curr_ab.study.working import CellTask


class Work:
    """The cells of a study with their folders and costs."""

    def __init__(
        self,
        study: StudyFolder,
        preset: Preset,
        cells: Sequence[Cell],
        costs: dict[str, Cost],
        key: dict[str, object],
    ) -> None:
        self.study, self.preset, self.cells, self.costs, self.key = study, preset, cells, costs, key

    def folder(self, cell: Cell) -> CellFolder:
        return CellFolder(self.study.cell(cell))

    def trained(self, cell: Cell) -> bool:
        return self.folder(cell).trained(cell.plan.steps)

    def finished(self, cell: Cell) -> bool:
        return finished(self.folder(cell), cell, self.key)

    def state(self, cell: Cell, running: bool = False) -> State:
        if running:
            return "running"
        if self.finished(cell):
            return "done"
        return "failed" if self.folder(cell).problem else "waiting"

    def states(self) -> dict[str, State]:
        return {cell.name: self.state(cell) for cell in self.cells}

    def exports(self) -> tuple[Path, ...]:
        """The folders that are there, that of the lowest loss first."""
        losses = {
            self.study.export(cell): held_out_loss(self.folder(cell).results())[0] or math.inf
            for cell in self.cells
            if cell.exported and self.study.export(cell).is_dir()
        }
        return tuple(sorted(losses, key=lambda path: losses[path]))

    def view(self, cell: Cell) -> CellView:
        return CellView(cell, self.folder(cell), self.state(cell), self.costs[cell.name])

    def write_plan(self, cell: Cell) -> CellFolder:
        """For the commands that train the cell in other processes."""
        folder = self.folder(cell)
        with replacing(folder.plan_file) as temporary:
            temporary.write_text(yaml.safe_dump(cell.plan.to_dict(), sort_keys=False))
        return folder

    def task(self, cell: Cell) -> CellTask:
        gpus = self.preset.launch.gpus_per_cell
        folder = self.write_plan(cell)
        return CellTask(
            folder,
            cell.member,
            cell.plan,
            self.preset.evaluation,
            self.key,
            self.preset.launch.threads_per_cell,
            command=training_command(folder, gpus) if gpus > 1 else (),
        )

    def run(self, todo: Sequence[Cell], clock: Clock) -> None:
        """The cells that are not finished, the longest first, so that none is left alone at the end."""
        launch = self.preset.launch
        untrained = [cell for cell in todo if not self.trained(cell)]
        gpus = launch.gpus_per_cell if untrained else 0
        slots = slots_of(torch.cuda.device_count(), gpus, launch.threads_per_cell, launch.max_parallel)
        ordered = sorted(todo, key=lambda cell: -self.costs[cell.name].flops)
        table = Table(
            self.cells,
            lambda cell, on: read_status(cell, self.folder(cell), self.state(cell, on)),
            sys.stdout,
        )

        def show(running: Sequence[str]) -> None:
            table.show(running)
            clock.save()

        run_cells({cell.name: self.task(cell) for cell in ordered}, slots, show)
