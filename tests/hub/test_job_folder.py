"""The folder of a run inside a job: what is kept in the bucket, whenever the machine is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curr_ab.hub.job_folder import SETTINGS, KeptFolder, main


def write(path: Path, text: str, seconds: int = 0) -> None:
    """A file that was written so many seconds later than others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (seconds, seconds))


def content(folder: Path) -> dict[str, str]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in files.items() if not name.startswith("kept-")}


@pytest.fixture
def kept(tmp_path):
    (tmp_path / "bucket").mkdir()
    return KeptFolder(tmp_path / "run", tmp_path / "bucket")


def test_what_is_new_is_copied_and_what_is_gone_is_dropped(kept) -> None:
    write(kept.folder / "log.jsonl", "1")
    write(kept.folder / "states" / "step-1" / "complete.json", "{}")
    write(kept.folder / ".lock", "")
    write(kept.folder / "states" / ".step-2.tmp" / "half", "")
    kept.keep()
    assert content(kept.kept) == {"log.jsonl": "1", "states/step-1/complete.json": "{}"}
    write(kept.folder / "log.jsonl", "12", 1)
    write(kept.folder / "states" / "step-2" / "complete.json", "{}")
    shutil.rmtree(kept.folder / "states" / "step-1")
    kept.keep()
    assert content(kept.kept) == {"log.jsonl": "12", "states/step-2/complete.json": "{}"}
    assert not (kept.kept / "states" / "step-1").exists()
    other = KeptFolder(kept.folder.with_name("other"), kept.kept)
    assert other.restore() == 2
    assert content(other.folder) == {"log.jsonl": "12", "states/step-2/complete.json": "{}"}


def test_a_copy_that_was_cut_short_counts_for_nothing(kept, monkeypatch) -> None:
    """At every file of a state, and at the index itself: the next attempt has the state before, whole."""
    write(kept.folder / "states" / "step-1" / "weights", "one")
    write(kept.folder / "states" / "step-1" / "complete.json", "{}", 1)
    kept.keep()
    shutil.rmtree(kept.folder / "states" / "step-1")
    write(kept.folder / "states" / "step-2" / "weights", "two", 2)
    write(kept.folder / "states" / "step-2" / "complete.json", "{}", 3)
    copyfile, write_text = shutil.copyfile, Path.write_text
    for cut in range(3):
        left = [cut]

        def half(source, target, left=left):
            if not left[0]:
                write_text(Path(target), Path(source).read_text()[:1])
                raise KeyboardInterrupt
            left[0] -= 1
            return copyfile(source, target)

        def half_index(path, text, left=left, **options):
            write_text(path, text[: len(text) // 2])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfile", half)
            patch.setattr(Path, "write_text", half_index)
            with pytest.raises(KeyboardInterrupt):
                KeptFolder(kept.folder, kept.kept).keep()
        again = KeptFolder(kept.folder.with_name(f"again-{cut}"), kept.kept)
        again.restore()
        assert content(again.folder) == {"states/step-1/weights": "one", "states/step-1/complete.json": "{}"}
    KeptFolder(kept.folder, kept.kept).keep()
    again = KeptFolder(kept.folder.with_name("again"), kept.kept)
    again.restore()
    assert content(again.folder) == content(kept.folder)


def test_a_state_that_is_dropped_meanwhile_is_looked_at_anew(kept, monkeypatch) -> None:
    for step in (1, 2):
        write(kept.folder / "states" / f"step-{step}" / "complete.json", "{}", step)
    copyfile = shutil.copyfile

    def dropping(source, target):
        shutil.rmtree(kept.folder / "states" / "step-1", ignore_errors=True)
        return copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", dropping)
    kept.keep()
    assert content(kept.kept) == {"states/step-2/complete.json": "{}"}


def test_a_bucket_that_lost_a_file_is_refused(kept, capsys) -> None:
    write(kept.folder / "plan.yaml", "a")
    kept.keep()
    (kept.kept / "plan.yaml").unlink()
    assert main([str(kept.kept), str(kept.folder.with_name("new")), "--", "true"]) == 2
    assert "bucket must hold plan.yaml, which its index names; got none" in capsys.readouterr().err
    assert main([str(kept.kept), str(kept.folder), "--copy", "/not/there", "data", "--", "true"]) == 2
    assert "/not/there must be on the mounted volume; got nothing there" in capsys.readouterr().err


RUN = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: (folder.joinpath("saved").write_text("state"), sys.exit(143)))
begun = folder.joinpath("begun")
begun.write_text((begun.read_text() if begun.exists() else "") + "x")
for _ in range(int(sys.argv[2])):
    time.sleep(0.05)
"""


@pytest.mark.heavy
def test_the_run_is_stopped_by_the_signal_and_goes_on_in_the_next_attempt(tmp_path) -> None:
    """The status is the run's, its settings are those of the environment, and its end is kept, too."""
    bucket, settings = tmp_path / "bucket", tmp_path / "settings.yaml"

    def attempt(number: int, rounds: int) -> subprocess.Popen:
        run = tmp_path / f"machine-{number}"
        words = [sys.executable, "-m", "curr_ab.hub.job_folder", bucket, run, "--settings", settings]
        words += ["--seconds", "0.2", "--", sys.executable, "-c", RUN, run, rounds]
        environment = os.environ | {SETTINGS: "steps: 3\n"}
        return subprocess.Popen(map(str, words), env=environment, stderr=subprocess.PIPE, text=True)

    def kept(name: str) -> bool:
        return any(name in json.loads(path.read_text())["files"] for path in bucket.glob("kept-*.json"))

    first = attempt(1, 2000)
    while not (bucket.is_dir() and kept("begun")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    assert "begins anew" in first.communicate()[1] and first.returncode == 143
    assert content(bucket) == {"begun": "x", "saved": "state"}
    second = attempt(2, 1)
    assert "2 files of an earlier attempt" in second.communicate()[1] and second.returncode == 0
    assert content(bucket) == {"begun": "xx", "saved": "state"}
    assert settings.read_text() == "steps: 3\n"
