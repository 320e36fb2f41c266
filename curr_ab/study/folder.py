"""The folder of a study: where its preset, data, cells, exports, law and report lie."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curr_ab.family import REPO_PREFIX
from curr_ab.files import claimed, replacing, write_json
from curr_ab.options import OptionError
from curr_ab.study.cells import Cell
from curr_ab.study.preset import Preset, read_preset


class StudyFolder:
    """Paths of everything in a study."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.preset_file = self.path / "study.yaml"
        self.clock_file = self.path / "clock.json"
        self.data = self.path / "data"
        self.law_file = self.path / "law.json"
        self.transfer_file = self.path / "transfer.json"
        self.figures = self.path / "figures"
        self.exports = self.path / "exports"
        self.example_pair = self.path / "pair.csv"

    def slurm_script(self, *, after: bool, gpus: int | None) -> Path:
        """Of all cells or those with so many GPUs; `after` is of cells that start from others' weights."""
        return self.path / f"slurm{'-after' * after}{'' if gpus is None else f'-{gpus}-gpus'}.sh"

    def cell(self, cell: Cell) -> Path:
        return self.path / "cells" / cell.name

    @property
    def begun(self) -> bool:
        """True if a cell was begun, here or elsewhere, of this preset or of an earlier one."""
        return any(self.path.glob("cells/*"))

    def export(self, cell: Cell) -> Path:
        return self.exports / f"{REPO_PREFIX}{cell.title}"  # a cell of another size has none there

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the study, so that no second process works on it; says in words if nothing can be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            writable = os.access(self.path, os.W_OK | os.X_OK)
        except OSError as error:
            raise OptionError(
                f"{self.path} cannot be made ({error.strerror}); choose another folder", "out"
            ) from error
        if not writable:
            raise OptionError(f"{self.path} cannot be written to; choose another folder", "out")
        with claimed(self.path, "makes the study in"):
            yield

    @property
    def preset(self) -> Preset | None:
        """The preset that the study was begun with; None where there is no study yet."""
        if not self.preset_file.exists():
            return None
        try:
            return read_preset(self.preset_file)
        except ValueError as error:
            raise OptionError(f"{error}; delete {self.preset_file}, and name the preset", "preset") from None

    def record(self, preset: Preset) -> None:
        """Write down the preset that the study goes on with."""
        import yaml

        with replacing(self.preset_file) as temporary:
            temporary.write_text(yaml.safe_dump(preset.to_dict(), sort_keys=False))

    @contextmanager
    def timed(self) -> Iterator[Clock]:
        """Count the time of this process to that of the study."""
        clock = Clock(self.clock_file)
        clock.save()
        yield clock
        clock.save()


class Clock:
    """Start of a study and the seconds of work on it, but for those after the `save` before a kill."""

    def __init__(self, file: Path) -> None:
        self._file, self._began = file, time.monotonic()
        self._before: dict[str, Any] = {"started": datetime.now(UTC).isoformat(timespec="seconds")}
        self._before |= {"seconds": 0.0}
        with suppress(FileNotFoundError, ValueError, TypeError, KeyError):  # a damaged one counts as none
            found = json.loads(file.read_text())
            self._before = {"started": str(found["started"]), "seconds": float(found["seconds"])}

    def save(self) -> dict[str, Any]:
        """`started` and `seconds`, as they stand in the file now."""
        now = {**self._before, "seconds": self._before["seconds"] + time.monotonic() - self._began}
        write_json(self._file, now)
        return now
