"""Cells that are trained in jobs on machines of the Hub, in a bucket that holds the data and their runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curr_ab.hub.job_start import start
from curr_ab.hub.jobs import DISK, FOLDER, SETTINGS_FILE, JobOptions, Run, Workload, require_bucket
from curr_ab.study.cells import Cell
from curr_ab.study.costs import Cost
from curr_ab.study.preset import Launch


@dataclass(frozen=True)
class CellJobs:
    """The folder of a study in a bucket, and the machines; it holds `data` and `cells` as the study does."""

    bucket: str | None
    options: JobOptions

    def runs(self, cells: Sequence[Cell], costs: Mapping[str, Cost], launch: Launch) -> list[Run]:
        """The cells as jobs, with the plans that they have here."""
        bucket = require_bucket(self.bucket, "bucket")
        return [self._run(bucket, cell, costs[cell.name], launch) for cell in cells]

    def _run(self, bucket: str, cell: Cell, cost: Cost, launch: Launch) -> Run:
        plan, data = cell.plan, [(f"{bucket}/data", f"{DISK}/data")]
        if cell.after and plan.init_from:
            # Under the path that its plan says, because a plan that differs is another one.
            checkpoint = Path(plan.init_from)
            steps = f"{bucket}/cells/{cell.after}/run/checkpoints/{checkpoint.name}"
            data.append((steps, checkpoint.as_posix()))
        work = Workload(cost.flops / plan.steps, cost.parameters, plan.steps, plan.save_every)
        return Run(
            f"cell {cell.name}",
            f"{bucket}/cells/{cell.name}/run",
            ("pretrain", "--plan", SETTINGS_FILE, "--out", FOLDER),
            {**plan.to_dict(), "data": f"{DISK}/data"},
            "train",
            tuple(data),
            work if plan.precision != "fp32" else None,  # a GPU's peak is that of half precision
            launch.gpus(cost.parameters),
        )

    def start(
        self,
        cells: Sequence[Cell],
        costs: Mapping[str, Cost],
        launch: Launch,
        *,
        data: Path,
        folder: Path,
        dry_run: bool = False,
        say: Callable[[str], None] = print,
    ) -> None:
        """Start a job for each cell, but for those that start from the weights of another of them."""
        names = {cell.name for cell in cells}
        first = [cell for cell in cells if cell.after not in names]
        runs = self.runs(first, costs, launch)
        words = ["hf", "buckets", "sync"]
        say(f"# the data must be there: {shlex.join([*words, str(data), f'{self.bucket}/data'])}")
        start(runs, self.options, dry_run=dry_run, most=launch.max_parallel, say=say)
        sync = shlex.join([*words, f"{self.bucket}/cells", str(folder / "cells")])
        say(f"# when they have completed, this brings them here: {sync}")
        if later := [cell.name for cell in cells if cell.after in names]:
            say(f"# and the same command starts those that go on from them: {', '.join(later)}")
