"""Predictions of others as a model: a file in the form of the developability benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curr_ab.benchmark.predictions import Predictions
from curr_ab.benchmark.tasks.submission import read_submission
from curr_ab.benchmark.tasks.task import Task
from curr_ab.files import file_digest

PREFIX = "predictions:"


@dataclass(frozen=True)
class Submitted:
    """The file of somebody's submission, whose predictions are of the folds that did not see the antibody."""

    file: Path
    form: str = "predictions of others"

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def digest(self) -> str:
        return file_digest(self.file)

    def predictions(self, task: Task) -> Predictions:
        """The predictions of the task's antibodies, found by their names."""
        return Predictions(read_submission(self.file, task))


def find_submission(name: str) -> Submitted:
    """The file after `predictions:`."""
    file = Path(name.removeprefix(PREFIX))
    if not file.is_file():
        raise ValueError(f"{PREFIX}FILE must name a table of predictions; there is no file {file}")
    return Submitted(file)
