"""The folder of a run inside a job: what is kept in the bucket, whenever the machine is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from curr_ab.hub import job_folder
from curr_ab.hub.job_folder import SETTINGS, KeptFolder, main, run_kept


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
    # The log that the index named before was not written over; the last time it gets its own name.
    assert content(kept.kept) == {"states/step-2/complete.json": "{}"}
    assert (kept.kept / "kept-second" / "log.jsonl").read_text() == "12"
    assert not (kept.kept / "states" / "step-1").exists()
    kept.keep(last=True)
    assert content(kept.kept) == {"log.jsonl": "12", "states/step-2/complete.json": "{}"}
    assert not (kept.kept / "kept-second").exists()
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
    copy, write_text = job_folder.copy_digested, Path.write_text
    for cut in range(3):
        left = [cut]

        def half(source, target, left=left):
            if not left[0]:
                write_text(Path(target), Path(source).read_text()[:1])
                raise KeyboardInterrupt
            left[0] -= 1
            return copy(source, target)

        def half_index(path, text, left=left, **options):
            write_text(path, text[: len(text) // 2])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(job_folder, "copy_digested", half)
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


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_file_that_is_written_over_is_whole_whenever_the_machine_is_lost(kept, monkeypatch, size) -> None:
    """Also in the attempts after the first, and while the last copies get their own names."""
    write(kept.folder / "log.jsonl", "1" * size)
    write(kept.folder / "weights", "w" * size)
    kept.keep()
    copy = job_folder.copy_digested
    for attempt in range(2, 6):
        folder = kept.folder.with_name(f"run-{attempt}")
        again = KeptFolder(folder, kept.kept)
        assert again.restore() == 2
        assert content(folder) == {"log.jsonl": str(attempt - 1) * size, "weights": "w" * size}
        write(folder / "log.jsonl", str(attempt) * size, attempt)
        write(folder / "weights", "w" * size, attempt)  # the same once more
        copied: list[str] = []

        def half(source, target, copied=copied):
            copied.append(source.name)
            target.write_text(source.read_text()[: size // 2])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(job_folder, "copy_digested", half)
            with pytest.raises(KeyboardInterrupt):
                again.keep()
            assert copied == ["log.jsonl"]
        lost = KeptFolder(folder.with_name(f"lost-{attempt}"), kept.kept)
        lost.restore()
        assert content(lost.folder)["log.jsonl"] == str(attempt - 1) * size
        again.keep()
        with monkeypatch.context() as patch:
            patch.setattr(job_folder, "copy_digested", half)
            with suppress(KeyboardInterrupt):
                again.keep(last=True)
        lost = KeptFolder(folder.with_name(f"lost-later-{attempt}"), kept.kept)
        lost.restore()
        assert content(lost.folder) == content(folder)
    assert job_folder.copy_digested is copy


def test_a_copy_that_is_not_what_was_written_is_refused(kept) -> None:
    write(kept.folder / "weights", "whole")
    kept.keep()
    for other in ("who", "whale"):
        write(kept.kept / "weights", other)
        with pytest.raises(ValueError, match="must hold weights, which its index names; got another file"):
            KeptFolder(kept.folder.with_name("new"), kept.kept).restore()


def test_files_without_an_index_are_somebody_elses(kept) -> None:
    write(kept.kept / "results.json", "{}")
    with pytest.raises(ValueError, match=r"got results\.json and no index: name a new folder as out"):
        kept.restore()
    assert content(kept.kept) == {"results.json": "{}"}


def test_a_first_attempt_that_was_lost_early_is_begun_anew(kept, monkeypatch) -> None:
    """While its first index was written, or its first file."""
    (kept.kept / "kept-1.json").write_text('{"num')
    assert kept.restore() == 0
    write(kept.folder / "weights", "whole")

    def half(source, target):
        target.write_text("who")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job_folder, "copy_digested", half)
        with pytest.raises(KeyboardInterrupt):
            kept.keep()
    assert KeptFolder(kept.folder, kept.kept).restore() == 0


@pytest.mark.heavy
def test_what_the_bucket_does_not_take_is_tried_again(kept, monkeypatch, capsys) -> None:
    """The run goes on; at the end it must be taken."""
    keep, calls = kept.keep, []

    def failing(*, last=False):
        calls.append(last)
        if len(calls) == 1 or failing_last:
            raise OSError(5, "Input/output error")
        keep(last=last)

    monkeypatch.setattr(kept, "keep", failing)
    wait = [sys.executable, "-c", "import time; time.sleep(0.5)"]
    failing_last = False
    assert run_kept(wait, kept, 0.1) == 0
    assert len(calls) > 2 and calls[-1]
    said = capsys.readouterr().err
    assert said.count("job: not kept, tried again in 0 s: [Errno 5] Input/output error\n") == 1
    failing_last = True
    with pytest.raises(OSError, match="Input/output"):
        run_kept(wait, kept, 10)


@pytest.mark.heavy
def test_an_error_leaves_no_process_behind(kept, monkeypatch) -> None:
    begun = []
    popen = subprocess.Popen

    def remembered(command):
        begun.append(popen(command))
        return begun[-1]

    def broken(*, last=False):
        raise RuntimeError

    monkeypatch.setattr(subprocess, "Popen", remembered)
    monkeypatch.setattr(kept, "keep", broken)
    with pytest.raises(RuntimeError):
        run_kept([sys.executable, "-c", "import time; time.sleep(600)"], kept, 0.1)
    assert begun[0].returncode == -signal.SIGTERM


@pytest.mark.heavy
def test_a_signal_reaches_the_run_while_files_are_copied(kept, monkeypatch) -> None:
    times = []

    def slow(*, last=False):
        if not times:
            os.kill(os.getpid(), signal.SIGTERM)
            times.append(processes[0].wait(timeout=60))  # before the copy has ended

    processes = []
    popen = subprocess.Popen

    def remembered(command):
        processes.append(popen(command))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", remembered)
    monkeypatch.setattr(kept, "keep", slow)
    assert run_kept([sys.executable, "-c", "import time; time.sleep(600)"], kept, 0.1) == 143
    assert times == [-signal.SIGTERM]


def test_a_state_that_is_dropped_meanwhile_is_looked_at_anew(kept, monkeypatch) -> None:
    for step in (1, 2):
        write(kept.folder / "states" / f"step-{step}" / "complete.json", "{}", step)
    copy = job_folder.copy_digested

    def dropping(source, target):
        shutil.rmtree(kept.folder / "states" / "step-1", ignore_errors=True)
        return copy(source, target)

    monkeypatch.setattr(job_folder, "copy_digested", dropping)
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
