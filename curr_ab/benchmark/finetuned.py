"""A fine-tuning as a model: what it said of each pair that its folds had not seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from curr_ab.benchmark.folder import TASK_TABLE
from curr_ab.benchmark.predictions import Predictions, fold_of
from curr_ab.benchmark.tasks.task import Task
from curr_ab.files import file_digest
from curr_ab.measures.fold_predictions import (
    FOLDS,
    PREDICTIONS,
    FoldPredictions,
    RunPredictions,
    columns_of_run,
    fold_folder,
    read_run,
)
from curr_ab.measures.metrics import Floats
from curr_ab.results import joined_digest
from curr_ab.words import Target

_TARGETS: dict[str, Target] = {"classes": "classes", "pairing": "classes", "number": "number"}

_WAY_OUT = (
    f"fine-tune on the task's {TASK_TABLE}, which the benchmark's folder has, with group_by fold and as many "
    "folds as it names"
)


def is_finetuning(name: str) -> bool:
    """True where the name is that of a folder of `curr-ab finetune`."""
    return (Path(name) / FOLDS).is_file()


@dataclass(frozen=True)
class Finetuned:
    """The folder of a cross-validation over the pairs of a task, by the folds of the task."""

    folder: Path
    form: str = "fine-tuned, and tested by the folds of its own run"

    @cached_property
    def run(self) -> RunPredictions:
        if several := columns_of_run(self.folder):
            raise ValueError(
                f"{self.folder} must be a run of one column of labels, as a task is; it learns "
                f"{', '.join(several)} at once: fine-tune on the task's column alone"
            )
        return read_run(self.folder)

    @property
    def name(self) -> str:
        return f"{self.run.model} fine-tuned in {self.folder.name}"

    @property
    def digest(self) -> str:
        """Of the predictions, which are all that is read."""
        paths = [fold_folder(self.folder, fold.number) / PREDICTIONS for fold in self.run.folds]
        return joined_digest([file_digest(path) for path in paths])

    def predictions(self, task: Task) -> Predictions:
        """The predictions of the task's pairs, found by their ids."""
        run = self.run
        if run.target != _TARGETS.get(task.kind) or run.label_names != task.label_names:
            raise ValueError(
                f"{self.folder} must predict what {task.name} asks for ({task.kind}: "
                f"{', '.join(task.label_names) or 'a number'}); got {run.target}: "
                f"{', '.join(run.label_names) or 'a number'}"
            )
        found = {
            fold.ids[pair]: (fold, item)
            for fold in run.folds
            for item, pair in enumerate(fold.pairs.tolist())
        }
        tested = np.flatnonzero(fold_of(task) >= 0).tolist()
        known = [self._value(task, row, found.get(task.ids[row])) for row in tested]
        self._check_folds(task)
        values = np.zeros((len(task), *known[0].shape))  # zeros of pairs that no fold tests
        values[tested] = known
        return Predictions(values)

    def _value(self, task: Task, row: int, place: tuple[FoldPredictions, int] | None) -> Floats:
        if place is None:
            raise ValueError(
                f"{self.folder} must have tested each pair of {task.name}; got none of {task.ids[row]}; "
                f"{_WAY_OUT}"
            )
        fold, item = place
        if fold.labels[item] != task.labels[row]:
            raise ValueError(
                f"{self.folder}: the label of {task.ids[row]} must be that of {task.name}; "
                f"got {fold.labels[item]} for {task.labels[row]}; {_WAY_OUT}"
            )
        return np.asarray(fold.predictions[item], np.float64)

    def _check_folds(self, task: Task) -> None:
        """Refuse other folds: another training part is another task, and so is the guess of it."""
        parts = {frozenset(fold.ids) & set(task.ids) for fold in self.run.folds}
        for number, (_, test) in enumerate(task.folds or (), start=1):
            own = {task.ids[row] for row in test}
            if own not in parts:
                raise ValueError(
                    f"{self.folder} must have the folds of {task.name}; got none that tests the "
                    f"{len(own):,} pairs of its fold {number} and no others; {_WAY_OUT}"
                )
