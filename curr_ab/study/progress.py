"""The live table of the cells: redrawn in a terminal, lines elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TextIO

from curr_ab.study.cells import Cell, CellFolder, held_out_loss
from curr_ab.study.summary import STATES, State

_TAIL_BYTES = 1 << 14  # longer than any two lines of a log
_SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class Status:
    """A row of the table; what is not known yet is None."""

    state: State
    step: int = 0
    training_loss: float | None = None
    loss: float | None = None  # measured when the training had ended
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    problem: str | None = None


def read_status(cell: Cell, folder: CellFolder, state: State) -> Status:
    """Read the newest lines of the run's log, and the results where there are some."""
    entry = _newest_entry(folder)
    step = int(entry.get("step", 0))
    pairs_per_second = entry.get("pairs_per_second")
    left = None
    if state == "running" and pairs_per_second and step < cell.plan.steps:
        left = (cell.plan.steps - step) * cell.plan.pairs_per_step / pairs_per_second
    return Status(
        state,
        step,
        entry.get("loss"),
        held_out_loss(folder.results())[0] if state == "done" else None,
        entry.get("residue_tokens_per_second"),
        left,
        folder.problem if state == "failed" else None,
    )


def _newest_entry(folder: CellFolder) -> Mapping[str, float]:
    """The newest line about training steps; the last line may be half written."""
    try:
        with folder.run.log_file.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    for line in reversed(lines):
        if '"pairs_per_second"' in line and line.endswith("}"):
            found: dict[str, float] = json.loads(line)
            return found
    return {}


class Table:
    """Shows how far all cells are; `read` gives the status of one of them."""

    def __init__(
        self, cells: Sequence[Cell], read: Callable[[Cell, bool], Status], out: TextIO | None = None
    ) -> None:
        self._cells = cells
        self._read = read
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._began = time.monotonic()
        self._told = self._began
        self._drawn = 0
        self._rows = {cell.name: read(cell, False) for cell in cells}
        self._running: set[str] = set()

    def show(self, running: Sequence[str]) -> None:
        """Read the cells that run or have just ended, and tell what is new."""
        for cell in self._cells:
            if cell.name in running or cell.name in self._running:
                self._rows[cell.name] = self._read(cell, cell.name in running)
        if self._live:
            self._redraw()
        else:
            self._tell(set(running))
        self._running = set(running)

    def _redraw(self) -> None:
        lines = self.lines()
        room = shutil.get_terminal_size().lines - 2
        if len(lines) > room:  # no way back above the first line of a terminal
            busy = [row for row in lines[1:-1] if " waiting " not in row and " done " not in row]
            lines = [lines[0], *busy[: room - 2], lines[-1]]
        width = shutil.get_terminal_size().columns - 1
        back = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        self._out.write(back + "".join(f"{line[:width]}\n" for line in lines))
        self._out.flush()
        self._drawn = len(lines)

    def lines(self) -> list[str]:
        """The whole table."""
        width = max(len(cell.name) for cell in self._cells)
        columns = "".join(f" {name:>9}" for name in ("training", "held out", "tokens/s", "left"))
        lines = [f"{'cell':<{width}}  {'state':<8} {'step':>15}{columns}"]
        for cell in self._cells:
            row = self._rows[cell.name]
            steps = f"{row.step:,}/{cell.plan.steps:,}"
            speed = "" if row.tokens_per_second is None else f"{row.tokens_per_second:,.0f}"
            left = "" if row.seconds_left is None else str(timedelta(seconds=round(row.seconds_left)))
            line = f"{cell.name:<{width}}  {row.state:<8} {steps:>15} {_number(row.training_loss):>9}"
            lines.append(f"{line} {_number(row.loss):>9} {speed:>9} {left or row.problem or '':>9}".rstrip())
        return [*lines, self._summary()]

    def _summary(self) -> str:
        states = [row.state for row in self._rows.values()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
        elapsed = timedelta(seconds=round(time.monotonic() - self._began))
        return f"{counts}; {elapsed} since the start"

    def _tell(self, running: set[str]) -> None:
        """A line for each beginning and end, and from time to time one about all that runs."""
        steps = {cell.name: cell.plan.steps for cell in self._cells}
        for name in sorted(running - self._running):
            self._say(f"{name}: running")
        for name in sorted(self._running - running):
            row = self._rows[name]
            what = {"done": f"held-out loss {_number(row.loss)}", "failed": f"{row.problem}"}
            self._say(f"{name}: {row.state}" + (f", {what[row.state]}" if row.state in what else ""))
        if running and time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            for name in sorted(running):
                row = self._rows[name]
                if row.seconds_left is not None:
                    left = timedelta(seconds=round(row.seconds_left))
                    progress = f"loss {_number(row.training_loss)}, {row.tokens_per_second:,.0f} tokens/s"
                    self._say(f"{name}: step {row.step:,} of {steps[name]:,}, {progress}, {left} left")
                elif row.step == steps[name]:
                    self._say(f"{name}: trained, being evaluated")
            self._say(self._summary())

    def _say(self, line: str) -> None:
        self._told = time.monotonic()
        self._out.write(line + "\n")
        self._out.flush()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
