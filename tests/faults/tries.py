"""One command, started in a process of its own, and what a fault does to it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

NOBODY = 65534
LONGEST_S = 600
# What the clock decides: parts of JSON files that equal runs may differ in, and files that only tell of it.
CLOCK = ("second", "minute", "hour", "time", "date", "memory", "version", "created", "throughput", "speed")
TELLS = (".log", ".png", ".svg", ".html", ".md", ".lock", ".arrow_stream")


@dataclass
class Ended:
    """How a command ended, what it said, and who and what it left."""

    status: int
    said: str
    orphans: int = 0
    temporary: list[str] = field(default_factory=list)

    @property
    def is_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.said

    @property
    def lines(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("curr-ab: ")]


def family(pid: int) -> list[psutil.Process]:
    """All processes of the command's session, with those whose parent is gone."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(one.pid) == pid and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def run(
    arguments: list[str],
    scratch: Path,
    disturb: Callable[[int], None] | None = None,
    *,
    user: int | None = None,
) -> Ended:
    """The command in a fork that has the libraries already, so that faults meet its work, not the imports."""
    said, temporary = scratch / "said", scratch / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    temporary.chmod(0o777)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _become(arguments, said, temporary, user)
    started = time.monotonic()
    if disturb:
        disturb(pid)
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() - started > LONGEST_S:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.005)
    left = family(pid)
    _, left = psutil.wait_procs(left, timeout=30) if left else ([], [])
    for one in left:
        one.kill()
    files = [path.name for path in temporary.iterdir()]
    return Ended(
        os.waitstatus_to_exitcode(ended[1]), said.read_text(errors="replace"), len(left), sorted(files)
    )


def _become(arguments: list[str], said: Path, temporary: Path, user: int | None) -> None:
    """In the fork: be the command, and never return."""
    status = 1
    try:
        os.setsid()
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ["TMPDIR"] = str(temporary)
        tempfile.tempdir = None
        os.chdir(temporary)
        # The workers that it starts would import the harness anew.
        main_module = sys.modules["__main__"]
        main_module.__spec__ = None
        main_module.__dict__.pop("__file__", None)
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        from curr_ab.cli.main import main

        status = main(arguments)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def kill_after(seconds: float, whom: str) -> Callable[[int], None]:
    """SIGKILL to the parent, to one of its workers, or to all, unless the command ends before."""

    def disturb(pid: int) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
            time.sleep(0.002)
        with suppress(ProcessLookupError, psutil.Error):
            if whom == "group":
                os.killpg(pid, signal.SIGKILL)
                return
            workers = [one for one in family(pid) if one.pid != pid]
            if whom == "parent":
                os.kill(pid, signal.SIGKILL)
            elif workers:
                random.choice(workers).kill()

    return disturb


def _without_clock(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: _without_clock(item)
            for key, item in value.items()
            if not any(word in key.lower() for word in CLOCK)
        }
    return [_without_clock(item) for item in value] if isinstance(value, list) else value


def _tensors(data: bytes) -> bytes:
    """Names, types and numbers in the order of the names: a run that went on may write them in another."""
    length = int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    found = b""
    for name in sorted(header):
        start, end = header[name].pop("data_offsets")
        found += f"{name} {header[name]}".encode() + numbers[start:end]
    return found


def contents(out: Path) -> dict[str, str]:
    """Each file of a result with the digest of what must be equal in equal runs."""
    found = {}
    for path in sorted([out] if out.is_file() else out.rglob("*")):
        name = str(path.relative_to(out.parent))
        # The marker of a saved state has digests that cover the seconds; its tensors are compared themselves.
        if path.is_dir() or path.suffix in TELLS or path.name.startswith(".") or path.name == "complete.json":
            continue
        data = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            texts = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
            data = json.dumps([_without_clock(json.loads(text)) for text in texts]).encode()
        if path.suffix == ".safetensors":
            data = _tensors(data)
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary names that stand beside or in the result after the run that ended well."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*.tmp*"))


class SmallDisk:
    """A disk of so many bytes, and of more when asked."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            check=True,
            capture_output=True,
        )

    def grow(self) -> None:
        subprocess.run(["mount", "-o", "remount,size=512m", str(self.folder)], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
