"""One command, started in a process of its own, and what a fault does to it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

NOBODY = 65534
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LONGEST_S = 600
PATIENCE_S = 30.0  # in which the processes of a command that was killed must end
# What the clock decides: keys of JSON that equal runs may differ in, and files that only tell of it.
CLOCK = ("seconds", "hours", "pairs_per_second", "residue_tokens_per_second", "memory_gib")
TELLS = (".log", ".png", ".svg", ".html", ".md", ".lock", ".arrow_stream")

Line = dict[str, Any]  # of a log, each value under its path


@dataclass
class Ended:
    """How a command ended, what it said, and who and what it left."""

    status: int
    said: str
    orphans: int = 0
    temporary: list[str] = field(default_factory=list)
    signal_number: int = 0  # that was sent to it

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
    disturb: Callable[[int], int] | None = None,
    *,
    user: int | None = None,
) -> Ended:
    """The command in a fork that has the libraries already, so that faults meet its work, not the imports."""
    said, loaded, temporary = scratch / "said", scratch / "loaded", scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o777)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _become(arguments, said, loaded, temporary, user)
    started = time.monotonic()
    try:
        signal_number = disturb(pid) if disturb else 0
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() - started > LONGEST_S:
                os.killpg(pid, signal.SIGKILL)
            time.sleep(0.005)
        left = family(pid)
        _, left = psutil.wait_procs(left, timeout=PATIENCE_S) if left else ([], [])
    finally:
        for one in family(pid):
            one.kill()
    for name in loaded.read_text().split() if loaded.exists() else ():
        if name not in sys.modules:
            with suppress(Exception):  # a part of a module that is none itself
                import_module(name)
    loaded.unlink(missing_ok=True)
    status, text = os.waitstatus_to_exitcode(ended[1]), said.read_text(errors="replace")
    # One that was killed cannot take its files with it; the run that ends must take them.
    files = sorted(path.name for path in temporary.iterdir()) if status >= 0 else []
    return Ended(status, text, len(left), files, signal_number)


def _become(arguments: list[str], said: Path, loaded: Path, temporary: Path, user: int | None) -> None:
    """In the fork: be the command, and never return."""
    status = 1
    try:
        os.setsid()
        for number in STOPS:  # whoever started the harness may have chosen otherwise
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
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
        import curr_ab.workers
        from curr_ab.cli.main import main

        if user is None:  # another may not start our Python
            curr_ab.workers._WORTH_A_POOL = 0.0  # workers for tiny inputs too
        status = main(arguments)
        if user is None:
            loaded.write_text(" ".join(sys.modules))
        multiprocessing.util._exit_function()  # as at the end of a process of its own
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def disturb_after(seconds: float, whom: str) -> Callable[[int], int]:
    """SIGKILL to the parent, to one of its workers, or to all, or a wish to stop, unless it ends before."""

    def disturb(pid: int) -> int:
        until = time.monotonic() + seconds
        while time.monotonic() < until or (whom == "stop" and not _listens(pid)):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return 0
            time.sleep(0.002)
        number = random.choice(STOPS) if whom == "stop" else signal.SIGKILL
        with suppress(ProcessLookupError, psutil.Error):
            if whom == "worker":
                if not (workers := [one for one in family(pid) if one.pid != pid and _works(one)]):
                    return 0
                random.choice(workers).kill()
            elif whom == "parent" or number == signal.SIGTERM:
                os.kill(pid, number)
            else:  # Ctrl-C and a closed terminal reach all of its processes
                os.killpg(pid, number)
        return number

    return disturb


def _listens(pid: int) -> bool:
    """The command has begun, and has not closed what it had open: it obeys signals in its own way."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1) if "SigCgt" in status else False


def _works(process: psutil.Process) -> bool:
    """Not one of those that only look after others and need no memory to speak of."""
    return "resource_tracker" not in " ".join(process.cmdline()) and not process.children()


def leaves(value: object, name: str) -> dict[str, object]:
    """Every number and text of a JSON value under its path, but for those of the clock."""
    if not isinstance(value, dict | list):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[str, object] = {name: len(value)}
    for key, item in items:
        if key not in CLOCK:
            found |= leaves(item, f"{name}/{key}")
    return found


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


def contents(out: Path) -> dict[str, object]:
    """What must be equal in equal runs: digests of files, and what stands in those of JSON."""
    found: dict[str, object] = {}
    for path in sorted([out] if out.is_file() else out.rglob("*")):
        name = str(path.relative_to(out.parent))
        # The marker of a saved state has digests that cover the seconds; its tensors are compared themselves.
        if path.is_dir() or path.suffix in TELLS or path.name.startswith(".") or path.name == "complete.json":
            continue
        data = path.read_bytes()
        if path.suffix == ".json":
            found |= leaves(json.loads(data), name)
        elif path.suffix == ".jsonl":
            found[name] = [leaves(json.loads(line), "") for line in data.splitlines()]
        else:
            content = _tensors(data) if path.suffix == ".safetensors" else data
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def after_stops(got: dict[str, object], wanted: dict[str, object], stops: int) -> dict[str, object]:
    """The contents after so many stops as an undisturbed run's, where they differ as stops make them differ.

    A pretraining that is asked to stop has a line of its own in the log, and a state of that step, which may
    be among the last ones, those that are kept.
    """
    found = dict(got)
    for name in sorted(got.keys() & wanted.keys()):
        if not name.endswith("log.jsonl"):
            continue
        steps, lines = _without_stops(got[name], wanted[name])  # type: ignore[arg-type]
        if len(steps) > stops:
            continue
        found[name] = lines
        folder = name.removesuffix("log.jsonl") + "states/"
        has, should = ({_state(key, folder) for key in of if key.startswith(folder)} for of in (got, wanted))
        if has != set(sorted(should | steps)[len(should | steps) - len(should) :]):
            found[folder] = sorted(has)
            continue
        found = {key: value for key, value in found.items() if _state(key, folder) not in has - should}
        found |= {key: value for key, value in wanted.items() if _state(key, folder) in should - has}
    return found


def _state(key: str, folder: str) -> str:
    """The state of this folder in which the file lies; empty for others."""
    return key.removeprefix(folder).partition("/")[0] if key.startswith(folder) else ""


def _without_stops(got: list[Line], wanted: list[Line]) -> tuple[set[str], list[Line]]:
    """The states of steps that only stops log, and the lines as if those had been one with the next."""
    whole = {line["/step"]: line for line in wanted if "/gradient_norm" in line}
    states, lines, parts = set(), [], []
    for line in got:
        if "/gradient_norm" not in line:
            lines.append(line)
        elif line["/step"] not in whole:
            parts.append(line)
            states.add(f"step-{line['/step']:08d}")
        else:
            line_of_all = whole[line["/step"]]
            lines.append(line_of_all if _make([*parts, line], line_of_all) else line)
            parts = []
    return states, [*lines, *parts]


def _make(parts: list[Line], whole: Line) -> bool:
    """True where these lines could be one: its means lie between theirs, and its norm is the largest."""
    means = {"/loss", "/unpaired_fraction"} & whole.keys() if len(parts) > 1 else set()
    between = all(
        min(part[mean] for part in parts) - 1e-6 <= whole[mean] <= max(part[mean] for part in parts) + 1e-6
        for mean in means
    )
    joined = {**parts[-1], "/gradient_norm": max(part["/gradient_norm"] for part in parts)}
    return between and joined == {**whole, **{mean: joined[mean] for mean in means}}


def leftovers(folder: Path) -> list[str]:
    """Temporary names that stand beside or in the result after the run that ended well."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*.tmp*"))


class SmallDisk:
    """A disk of so many bytes, and of more when asked; PermissionError where nobody may mount one."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermissionError(done.stderr.strip())

    def grow(self, size: int = 512 << 20) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    @staticmethod
    def close(folder: Path) -> None:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def may_mount(folder: Path) -> bool:
    try:
        SmallDisk(folder, 4096).close(folder)
    except (OSError, PermissionError):
        return False
    return True
