"""Files and folders appear whole; digests; the lock of a folder."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from curr_ab.files import (
    claimed,
    claimed_together,
    file_digest,
    remove_folder,
    remove_leftovers,
    replacing,
    replacing_folder,
    scratch_folder,
    write_json,
)

# Killed at its n-th step: the names a folder goes through, one after the other.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from curr_ab.files import replacing_folder
left = int(sys.argv[2])
def counted(function):
    def run(*args, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return run
for module, name in ((os, "rename"), (os, "mkdir"), (os, "unlink"), (os, "rmdir")):
    setattr(module, name, counted(getattr(module, name)))
with replacing_folder(Path(sys.argv[1])) as new:
    for name in "abc":
        (new / name).write_text("new")
"""
HOLDER = """
import sys, time
from pathlib import Path
from curr_ab.files import claimed
with claimed(Path(sys.argv[1]), "works in", wait=sys.argv[2] == "waits for"):
    print("holds", flush=True)
    time.sleep(60)
"""


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file"
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half") / 0
    assert list(path.parent.iterdir()) == []
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert content(path.parent) == {"file": "whole"}


def test_a_folder_takes_the_place_of_another(tmp_path):
    folder = tmp_path / "deep" / "folder"
    for text in ("first", "second"):
        with replacing_folder(folder) as new:
            (new / text).write_text(text)
        assert content(folder) == {text: text}
    with pytest.raises(ZeroDivisionError), replacing_folder(folder) as new:
        (new / "third").write_text("half") / 0
    assert content(folder) == {"second": "second"}
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_a_link_to_a_folder_stays_one(tmp_path):
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    with replacing_folder(tmp_path / "link") as new:
        (new / "file").write_text("new")
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "disk" / "real") == {"file": "new"}


@pytest.mark.parametrize("there", [False, True])
def test_a_killed_run_leaves_no_half_of_a_folder(tmp_path, there):
    """Killed at each step in turn, it leaves the old one, the new one, or none; the next run tidies up."""
    folder, step = tmp_path / "folder", 0
    while True:
        step += 1
        for path in tmp_path.iterdir():
            remove_folder(path)
        if there:
            folder.mkdir()
            for name in "abc":
                (folder / name).write_text("old")
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(step)], check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        if folder.exists():
            assert content(folder) in (dict.fromkeys("abc", "old"), dict.fromkeys("abc", "new"))
        with replacing_folder(folder) as new:
            (new / "later").write_text("later")
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert step > (6 if there else 2)


def test_the_other_processes_learn_the_name_and_leave_the_folder_alone(tmp_path):
    with replacing_folder(tmp_path / "folder") as new:
        (new / "mine").write_text("mine")
        with replacing_folder(tmp_path / "folder", made_here=False) as same:
            assert same == new
            (same / "other").write_text("other")
        assert not (tmp_path / "folder").exists()
    assert content(tmp_path / "folder") == {"mine": "mine", "other": "other"}


def test_leftovers_go_and_nothing_else_does(tmp_path):
    (tmp_path / "run" / ".state.tmp").mkdir(parents=True)
    (tmp_path / "run" / ".state.tmp" / "file").write_text("")
    for name in ("kept", ".hidden", "some.tmp", ".log.77.tmp"):
        (tmp_path / "run" / name).write_text("")
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"run", "kept", ".hidden", "some.tmp"}


def test_a_digest_is_that_of_the_bytes(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    assert file_digest(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_json_has_the_same_bytes_everywhere(tmp_path):
    write_json(tmp_path / "file", {"b": "ü", "a": 1})
    assert (tmp_path / "file").read_bytes() == b'{\n "a": 1,\n "b": "\\u00fc"\n}\n'


@contextmanager
def holding(folder, doing="works in"):
    """A process that says when it holds the folder, and is killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(folder), doing]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            yield holder.stdout
        finally:
            holder.kill()


@pytest.mark.heavy
def test_a_folder_is_held_by_one_process_until_that_ends(tmp_path):
    with holding(tmp_path) as holder:
        assert holder.readline() == "holds\n"
        message = f"another process works in {tmp_path}; wait for it or stop it"
        with pytest.raises(ValueError, match=message), claimed(tmp_path, "works in"):
            pass
    for _ in range(2):  # it is let go without an end, too
        with claimed(tmp_path, "works in"):
            pass


@pytest.mark.heavy
def test_who_waits_goes_on_when_the_holder_has_ended(tmp_path):
    with holding(tmp_path) as first:
        assert first.readline() == "holds\n"
        waiting = ExitStack()
        second = waiting.enter_context(holding(tmp_path, "waits for"))
    with waiting:
        assert second.readline() == "holds\n"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_that_cannot_lock_is_refused(tmp_path, monkeypatch, number):
    """Not held by a mark, which a killed process would leave behind."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    message = r"cannot be locked \(.*\); choose a folder on another disk"
    with pytest.raises(ValueError, match=message), claimed(tmp_path, "works in"):
        pass


def test_holders_together_are_first_and_last_once(tmp_path):
    """And nobody who wants the folder alone comes between them."""
    said = []

    def together(name):
        first, last = partial(said.append, f"{name} first"), partial(said.append, f"{name} last")
        return claimed_together(tmp_path, "prepares in", first=first, last=last)

    with together("a"):
        alone = claimed(tmp_path, "prepares in")
        with together("b"), pytest.raises(ValueError, match="another process prepares in"), alone:
            raise AssertionError("it was alone")
        with pytest.raises(LookupError), together("c"):
            raise LookupError
        assert said == ["a first"]
    assert said == ["a first", "a last"]
    with pytest.raises(LookupError), together("d"):
        raise LookupError
    assert said == ["a first", "a last", "d first"]
    with claimed(tmp_path, "prepares in"):  # all of them are gone
        pass


def test_holders_together_wait_for_who_is_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("curr_ab.files._PATIENCE", 0.5)
    nothing = {"first": lambda: None, "last": lambda: None}
    with claimed(tmp_path, "prepares in"):
        began = time.monotonic()
        with (
            pytest.raises(ValueError, match=r"another process prepares in .*; wait for it or stop it"),
            claimed_together(tmp_path, "prepares in", **nothing),
        ):
            raise AssertionError("they were together")
        assert time.monotonic() - began > 0.5


def test_a_lock_that_went_with_its_folder_is_none(tmp_path, monkeypatch):
    """The last one may remove the folder after another has opened the lock in it."""
    real, folder = os.fstat, tmp_path / "work"

    def remove_first(number):
        monkeypatch.setattr(os, "fstat", real)
        shutil.rmtree(folder)
        return real(number)

    folder.mkdir()
    monkeypatch.setattr(os, "fstat", remove_first)
    with claimed_together(folder, "prepares in", first=(folder / "begun").touch, last=lambda: None):
        assert (folder / "begun").exists() and (folder / ".lock").exists()


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """A name may be on the disk before its blocks: a power cut then leaves holes under a whole name."""
    steps = []
    fsync, rename = os.fsync, os.rename

    def counted(descriptor):
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2])
        fsync(descriptor)

    def renamed(source, target, **options):
        steps.append("named")
        rename(source, target, **options)

    monkeypatch.setattr(os, "fsync", counted)
    monkeypatch.setattr(os, "rename", renamed)
    with replacing_folder(tmp_path / "state") as new:
        (new / "inner").mkdir()
        (new / "inner" / "shard").write_text("x")
        (new / "marker").write_text("x")
    assert set(steps[: steps.index("named")]) == {"shard", "inner", "marker", ".state.tmp"}
    steps.clear()
    with replacing_folder(tmp_path / "fast", on_disk=False) as new:
        (new / "marker").write_text("x")
    assert steps == ["named"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), RuntimeError("I/O: No space left")]
)
@pytest.mark.parametrize("placing", [replacing, replacing_folder])
def test_a_full_disk_is_named_whichever_library_meets_it(tmp_path, placing, error):
    with pytest.raises(OSError, match=f"no space is left in {tmp_path}") as caught, placing(tmp_path / "new"):
        raise error
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("placing", "told"),
    [
        (partial(replacing_folder, size=5_000), "new takes about 5 kB, 2 kB more"),
        (replacing_folder, "new takes more"),
        (replacing, "new takes more"),
    ],
)
def test_a_full_disk_says_what_is_free_without_the_half_and_what_is_missing(
    placing, told, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)

    def fill():
        with placing(tmp_path / "new") as new:
            (new / "file" if new.is_dir() else new).write_bytes(bytes(2_000))
            raise OSError(errno.ENOSPC, "No space left")

    with pytest.raises(OSError, match=rf"\(3 kB are free, and {told}\); make room"):
        fill()


def test_a_lock_that_is_a_link_harms_nothing(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ValueError, match="folder cannot be locked"), claimed(tmp_path / "folder", "works in"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_quota_is_not_said_to_be_a_full_disk(tmp_path):
    with (
        pytest.raises(OSError, match="your quota there is used up") as caught,
        replacing_folder(tmp_path / "outer") as outer,
        replacing(outer / "inner"),
    ):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert "MB are free" not in str(caught.value) and caught.value.errno == errno.EDQUOT


def test_the_scratch_of_a_killed_process_goes_with_the_next_and_no_other_does(tmp_path):
    program = (
        "import os, signal, sys; from curr_ab.files import scratch_folder\n"
        "with scratch_folder('curr-ab-', sys.argv[1]) as folder:\n"
        "    (folder / 'file').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=False)
    (left,) = tmp_path.iterdir()
    (tmp_path / "curr-ab-of-somebody").mkdir()
    with scratch_folder("curr-ab-", tmp_path) as first, scratch_folder("curr-ab-", tmp_path) as second:
        assert not left.exists() and first.is_dir() and second.is_dir() and first != second
    assert [path.name for path in tmp_path.iterdir()] == ["curr-ab-of-somebody"]


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600)])
def test_others_may_read_what_the_umask_lets_them(umask, rights, tmp_path):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "file.safetensors") as temporary:
            save_file({"a": torch.zeros(2)}, temporary)
        with replacing_folder(tmp_path / "folder") as folder:
            save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
    finally:
        os.umask(before)
    found = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.safetensors")}
    assert found == {rights}
