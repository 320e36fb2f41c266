"""A study that is killed at random moments, and goes on to the same tables."""

import fcntl
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
import yaml
from support.kills import curr_ab, kill_one
from support.training_processes import finish, start
from support.training_processes import study as study_process

from curr_ab.study.folder import StudyFolder
from curr_ab.study.study import run_study
from tests.study.conftest import MICRO, cell, tables

# Sizes of its own are not exported, which takes most of the time.
OWN = {f"own-{n}": {**MICRO["sizes"]["8M"], "hidden_size": 16 * n} for n in (1, 2, 3)}
CELLS = [f"{size}-{data}" for size in OWN for data in "FQ"]


def kill_at_random(values, path, kills, longest, randomness):
    """SIGKILL to the study's process alone: those of its cells must end by themselves."""
    for _ in range(kills):
        process = start(study_process, values, path)
        process.join(timeout=randomness.random() * longest)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        finish(process)
    assert finish(start(study_process, values, path)) == [0]


@pytest.fixture(scope="module")
def uninterrupted(make, tmp_path_factory):
    """A study without exports, what it found, and how long it took."""
    path, preset = tmp_path_factory.mktemp("whole") / "study", make(sizes=OWN)
    began = time.monotonic()
    assert finish(start(study_process, preset.to_dict(), path)) == [0]
    return preset, tables(path), time.monotonic() - began


def test_killed_studies_go_on_to_the_same_tables(uninterrupted, tmp_path):
    preset, expected, seconds = uninterrupted
    kill_at_random(preset.to_dict(), tmp_path / "study", 3, seconds, random.Random(0))
    assert tables(tmp_path / "study") == expected


def test_a_cell_killed_between_its_last_checkpoint_and_its_numbers_is_finished(study):
    """The checkpoint is there, and nothing after it."""
    path, preset = study
    expected, folder = tables(path), cell(path, "8M-Q")
    shutil.rmtree(folder.run.states / "step-00000012")
    for file in (folder.run.results_file, folder.results_file, folder.state_file):
        file.unlink()
    assert run_study(preset, path, say=lambda line: None).problems == {}
    assert folder.run.results_file.exists() and tables(path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "parent"])
def test_a_killed_process_leaves_no_other(uninterrupted, tmp_path, victim):
    """The study ends its other cells, says what became of the one, and the same command goes on."""
    preset, expected, _ = uninterrupted
    (tmp_path / "micro.yaml").write_text(yaml.safe_dump(preset.to_dict()))
    command = curr_ab("study", "--preset", tmp_path / "micro.yaml", "--out", tmp_path / "study")
    ended = kill_one(command, victim)
    assert ended.left == []
    if victim == "worker":
        assert ended.status == 1
        (problem,) = [p for p in (cell(tmp_path / "study", name).problem for name in CELLS) if p]
        assert problem.startswith(
            "its process was killed (signal 9; out of memory?); the same command goes on"
        )
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    *found, report = tables(tmp_path / "study")
    *measured, whole = expected
    assert found == measured and report == {**whole, "command": report["command"]}


@pytest.mark.slow
def test_ten_kills_with_exports(finished, tmp_path):
    path, preset = finished
    kill_at_random(preset.to_dict(), tmp_path / "study", 10, 12, random.Random(1))
    assert tables(tmp_path / "study") == tables(path)
    for export in sorted(path.glob("exports/*")):
        for file in export.iterdir():
            if file.name != "training.json" and file.name not in ("README.md", "manifest.json"):  # hours
                assert (
                    tmp_path / "study" / "exports" / export.name / file.name
                ).read_bytes() == file.read_bytes()
    assert not list((tmp_path / "study" / "exports").glob(".*"))


def wait_until(condition, process=None):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline and (process is None or process.is_alive())
        time.sleep(0.05)


def is_free(folder):
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_cells_end_with_their_study(make, tmp_path, number):
    """When it is killed, at once; when it is stopped, they save their states first."""
    path = tmp_path / "study"
    preset = make(sizes=OWN, plan={**MICRO["plan"], "steps": 100_000, "save_every": 100_000})
    process = start(study_process, preset.to_dict(), path)
    logs = [cell(path, name).run.log_file for name in ("own-3-F", "own-3-Q")]
    wait_until(lambda: all(log.exists() and log.stat().st_size > 1_000 for log in logs), process)
    os.kill(process.pid, number)
    assert finish(process) == [-number if number == signal.SIGKILL else 128 + number]
    wait_until(lambda: all(is_free(folder) for folder in path.glob("cells/*")))
    assert is_free(path)
    states = list(path.glob("cells/*/run/states/step-*/complete.json"))
    assert len(states) == (0 if number == signal.SIGKILL else 2)
    assert [cell(path, name).problem for name in ("own-3-F", "own-3-Q")] == [None, None]
    assert StudyFolder(path).preset == preset
