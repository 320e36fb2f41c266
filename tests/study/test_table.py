"""The live table: redrawn in place in a terminal, lines elsewhere, numbers from the runs' logs."""

import io
import json
import re

import pytest

from curr_ab.study.cells import CellFolder, cells_of
from curr_ab.study.preset import make_preset
from curr_ab.study.progress import Status, Table, read_status
from tests.study.conftest import MICRO


@pytest.fixture
def cells():
    return cells_of(make_preset(MICRO, "micro"), "data")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(text):
    """What a terminal shows after the text: cursor up N lines, then everything below erased."""
    screen = []
    for part in re.split(r"(\x1b\[\d+F\x1b\[J)", text):
        if found := re.match(r"\x1b\[(\d+)F", part):
            del screen[len(screen) - int(found[1]) :]
        else:
            screen += part.splitlines()
    return screen


def test_a_terminal_is_redrawn_in_place(cells, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    statuses = {cell.name: Status("waiting") for cell in cells}
    out = Terminal()
    table = Table(cells, lambda cell, running: statuses[cell.name], out)
    table.show([])
    statuses["8M-F"] = Status("running", 6, 2.75, None, 41_234.0, 75.0)
    table.show(["8M-F"])
    statuses["8M-F"] = Status("done", 12, 2.5, 2.6123, 41_234.0)
    statuses["8M-Q"] = Status("failed", 4, 9.0, None, 1_000.0, None, "the loss is no number")
    table.show(["8M-Q"])
    table.show([])
    screen = shown(out.getvalue())
    assert len(screen) == 6  # header, four cells, summary, and nothing of what was there before
    assert screen[0].split() == ["cell", "state", "step", "training", "held", "out", "tokens/s", "left"]
    assert screen[1].split() == ["8M-F", "done", "12/12", "2.5000", "2.6123", "41,234"]
    assert screen[2].split()[:5] == ["8M-Q", "failed", "4/12", "9.0000", "1,000"]
    assert screen[2].endswith("the loss is no number")
    assert screen[3].split() == ["35M-F", "waiting", "0/12"]
    assert screen[5].startswith("1 done, 1 failed, 2 waiting; 0:00:")
    assert "0:01:15" in out.getvalue()


def test_a_low_terminal_shows_what_runs(cells, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "6")
    out = Terminal()
    states = dict.fromkeys([cell.name for cell in cells], Status("waiting")) | {"35M-Q": Status("running", 2)}
    table = Table(cells, lambda cell, running: states[cell.name], out)
    for _ in range(3):
        table.show(["35M-Q"])
    screen = shown(out.getvalue())
    assert len(screen) == 3 and screen[1].startswith("35M-Q  running") and max(map(len, screen)) < 40


def test_elsewhere_beginnings_and_ends_are_lines(cells):
    statuses = {cell.name: Status("waiting") for cell in cells}
    out = io.StringIO()
    table = Table(cells, lambda cell, running: statuses[cell.name], out)
    table.show(["8M-F", "8M-Q"])
    statuses |= {"8M-F": Status("done", loss=2.5), "8M-Q": Status("failed", problem="no room")}
    table.show(["8M-F"])
    table.show([])
    assert out.getvalue().splitlines() == [
        *("8M-F: running", "8M-Q: running", "8M-Q: failed, no room", "8M-F: done, held-out loss 2.5000")
    ]


def test_numbers_come_from_the_newest_whole_line_of_the_log(cells, tmp_path):
    folder = CellFolder(tmp_path)
    assert read_status(cells[0], folder, "running") == Status("running")
    folder.run.path.mkdir()
    entry = {"step": 8, "loss": 2.5, "pairs_per_second": 8.0, "residue_tokens_per_second": 1900.0}
    lines = [{**entry, "step": 6}, entry, {"step": 8, "held_out_loss": 2.6}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    folder.run.log_file.write_text(text + '{"step": 10, "loss": 2.4, "pairs_per_second": 8')
    status = read_status(cells[0], folder, "running")
    assert status == Status("running", 8, 2.5, None, 1900.0, seconds_left=(12 - 8) * 4 / 8)
    folder.note(problem="it broke")
    assert read_status(cells[0], folder, "failed").problem == "it broke"
