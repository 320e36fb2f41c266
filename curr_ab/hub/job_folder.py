"""The folder of a run inside a job: on the machine's own disk, and kept in a mounted bucket as it grows.

A mounted bucket has no locks, its files cannot be appended to, and a killed machine leaves some half-written.
So the run has a disk, and what it leaves is copied: whole files, then an index that says which of them count.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from curr_ab.files import file_digest

SETTINGS = "CURR_AB_SETTINGS"  # variable that holds the text of the settings' file
_INDEXES = ("kept-0.json", "kept-1.json")  # written in turn: while one is half-written, the other counts
_SECOND = "kept-second/"  # holds the new copy of a file while the index names the old one
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class KeptFile:
    """A copy that the index names; a file that was written over is kept in turn in two places."""

    place: str
    size: int
    sha256: str


Status = tuple[int, int]  # size, and time in nanoseconds


class KeptFolder:
    """A folder, and the one that holds its copy."""

    def __init__(self, folder: Path, kept: Path) -> None:
        self.folder, self.kept = folder, kept
        self._number, self._index = self._newest_index()
        self._copied: dict[str, tuple[Status, KeptFile]] = {}  # also what no index names yet
        self._dropped: set[str] = set()  # places that no index names any more

    def restore(self) -> int:
        """Copy what an earlier attempt has kept, if it is as it was; return the number of files."""
        if not self._number:
            left = (path.relative_to(self.kept).as_posix() for path in self.kept.rglob("*") if path.is_file())
            if others := sorted(set(left) - set(_INDEXES)):
                raise ValueError(
                    f"{self.kept} must be empty or have the index of an earlier attempt; got {others[0]} and "
                    "no index: name a new folder as out, or remove what is there"
                )
            self._write_index({})  # before any file: what a lost machine leaves is known as ours
        for name, file in self._index.items():
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            found = None
            with suppress(FileNotFoundError):
                found = copy_digested(self.kept / file.place, target)
            if found != (file.size, file.sha256):
                got = "none" if found is None else "another file"
                raise ValueError(
                    f"{self.kept} must hold {file.place}, which its index names; got {got}: name a new "
                    "folder as out"
                )
            status = target.stat()
            self._copied[name] = ((status.st_size, status.st_mtime_ns), file)
        return len(self._index)

    def keep(self, *, last: bool = False) -> None:
        """Copy what is new, write down what there is, then drop what is gone.

        The `last` time every file gets its own name, for whoever copies the folder from the bucket.
        """
        while (found := self._copy_new()) is None:  # the run has dropped a state meanwhile
            pass
        self._record({name: self._copied[name][1] for name in sorted(found)})
        moved = {name: file for name, file in self._index.items() if file.place != name}
        if last and moved:
            for name in moved:
                self._copied[name] = (found[name], self._copy(name, name))
            self._record({name: self._copied[name][1] for name in self._index})

    def _record(self, files: dict[str, KeptFile]) -> None:
        """Write the index of these, then drop what it does not name."""
        if files != self._index or not self._number:
            self._dropped |= {file.place for file in self._index.values()}
            self._write_index(files)
        self._copied = {name: copied for name, copied in self._copied.items() if name in files}
        for place in sorted(self._dropped - {file.place for file in files.values()}):
            (self.kept / place).unlink(missing_ok=True)
            with suppress(OSError):  # others are still in it, or the mount has no folders
                (self.kept / place).parent.rmdir()
        self._dropped.clear()

    def _write_index(self, files: dict[str, KeptFile]) -> None:
        number = self._number + 1
        index = {"number": number, "files": {name: asdict(file) for name, file in files.items()}}
        (self.kept / _INDEXES[number % 2]).write_text(json.dumps(index), encoding="utf-8")
        self._number, self._index = number, files

    def _copy_new(self) -> dict[str, Status] | None:
        """Copy what is new of the files that are there now, which come back; None where one has gone."""
        found = self._files()
        # The oldest first: what says that a folder is complete is the last of its files.
        for name in sorted(found, key=lambda name: found[name][1]):
            if name in self._copied and self._copied[name][0] == found[name]:
                continue
            indexed = self._index.get(name)
            try:
                same_size = indexed is not None and indexed.size == found[name][0]
                if indexed and same_size and file_digest(self.folder / name) == indexed.sha256:
                    self._copied[name] = (found[name], indexed)  # written anew, and the same
                    continue
                # Never over the copy that the index names: the machine may be lost in the middle.
                place = _SECOND + name if indexed and indexed.place == name else name
                self._copied[name] = (found[name], self._copy(name, place))
            except FileNotFoundError:
                if (self.folder / name).exists():
                    raise  # it is the bucket's folder that has gone
                return None
        return found

    def _copy(self, name: str, place: str) -> KeptFile:
        target = self.kept / place
        target.parent.mkdir(parents=True, exist_ok=True)
        return KeptFile(place, *copy_digested(self.folder / name, target))

    def _files(self) -> dict[str, Status]:
        """Size and time of every whole file, by its name in the folder."""
        found = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder)
            if any(part.startswith(".") for part in name.parts):  # locks, and what is not whole yet
                continue
            with suppress(FileNotFoundError):
                status = path.stat()
                if path.is_file():
                    found[name.as_posix()] = (status.st_size, status.st_mtime_ns)
        return found

    def _newest_index(self) -> tuple[int, dict[str, KeptFile]]:
        """Number and files of the newest whole index; 0 and none where there is no index yet."""
        newest: tuple[int, dict[str, KeptFile]] = (0, {})
        for name in _INDEXES:
            with suppress(FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
                index = json.loads((self.kept / name).read_text(encoding="utf-8"))
                files = {name: KeptFile(**file) for name, file in index["files"].items()}
                newest = max(newest, (int(index["number"]), files), key=lambda one: one[0])
        return newest


def copy_digested(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file, which may grow meanwhile; return size and SHA-256 of what was written."""
    size, digest = 0, hashlib.sha256()
    with source.open("rb") as old, target.open("wb") as new:
        while chunk := old.read(_CHUNK):
            new.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def run_kept(command: Sequence[str], kept: KeptFolder, seconds: float) -> int:
    """Run the command and keep its folder, so often and at the end; return its status, as a shell has it.

    A wish to stop is passed on: the run saves its state, which is kept as well. What the bucket does not take
    now is tried again later, and must be taken at the end.
    """
    with _running(command) as process:
        due = time.monotonic() + seconds
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=min(1.0, seconds))
            if time.monotonic() >= due:
                try:
                    kept.keep()
                except OSError as error:
                    words = " ".join(str(error).split())
                    print(f"job: not kept, tried again in {seconds:.0f} s: {words}", file=sys.stderr)
                due = time.monotonic() + seconds
    kept.keep(last=True)
    status = process.returncode
    return 128 - status if status < 0 else status


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The process of the command, which gets the signals at once and does not outlive the block."""
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        process = subprocess.Popen(command)
        for number in early:
            process.send_signal(number)
        yield process
    finally:
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """The process of a job: bring what it needs to the disk, then run the command and keep its folder."""
    parser = argparse.ArgumentParser(usage="%(prog)s KEPT FOLDER OPTIONS -- COMMAND")
    parser.add_argument("kept", type=Path, help="Folder in the mounted bucket")
    parser.add_argument("folder", type=Path, help="Folder of the run on the disk")
    parser.add_argument("--settings", type=Path, help=f"File that is written with the text in {SETTINGS}")
    parser.add_argument("--copy", nargs=2, type=Path, action="append", default=[], metavar=("FROM", "TO"))
    parser.add_argument("--prepare", nargs=2, type=Path, action="append", default=[], metavar=("FROM", "TO"))
    parser.add_argument("--seconds", type=float, default=60.0, help="Time between two copies")
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--")
    given, command = parser.parse_args(words[:end]), words[end + 1 :]
    try:
        if given.settings:
            given.settings.parent.mkdir(parents=True, exist_ok=True)
            given.settings.write_text(os.environ[SETTINGS], encoding="utf-8")
        for source, target in [*given.copy, *given.prepare]:
            if not source.exists():
                raise ValueError(f"{source} must be on the mounted volume; got nothing there")
            if [source, target] in given.copy:
                shutil.copytree(source, target, dirs_exist_ok=True)
                continue
            words = ["data", "prepare", str(source), "--out", str(target), "--quiet"]
            if status := subprocess.run([sys.executable, "-m", "curr_ab", *words], check=False).returncode:
                return status
        kept = KeptFolder(given.folder, given.kept)
        given.folder.mkdir(parents=True, exist_ok=True)
        given.kept.mkdir(parents=True, exist_ok=True)
        number = kept.restore()
        print(f"job: {number} files of an earlier attempt" if number else "job: begins anew", file=sys.stderr)
        return run_kept(command, kept, given.seconds)
    except (ValueError, OSError) as error:
        print(f"job: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
