"""The folder of a run inside a job: on the machine's own disk, and kept in a mounted bucket as it grows.

A mounted bucket has no locks, its files cannot be appended to, and a killed machine leaves some half-written.
So the run has a disk, and what it leaves is copied: whole files, then an index that says which of them count.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from curr_ab.training.stop import StopRequest

SETTINGS = "CURR_AB_SETTINGS"  # variable that holds the text of the settings' file
_INDEXES = ("kept-0.json", "kept-1.json")  # written in turn: while one is half-written, the other counts
_SMALL = 1 << 20  # bytes up to which a file that was written anew is compared before it is copied


class KeptFolder:
    """A folder, and the one that holds its copy."""

    def __init__(self, folder: Path, kept: Path) -> None:
        self.folder, self.kept = folder, kept
        self._number, self._names = self._newest_index()
        self._copied: dict[str, tuple[int, int]] = {}

    def restore(self) -> int:
        """Copy what an earlier attempt has kept; return the number of files."""
        for name in self._names:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (self.kept / name).is_file():
                raise ValueError(
                    f"{self.kept} must hold {name}, which its index names; got none: name a new folder as out"
                )
            shutil.copyfile(self.kept / name, target)
        return len(self._names)

    def keep(self) -> None:
        """Copy what is new, write down what there is, then drop what is gone."""
        while (found := self._copy_new()) is None:  # the run has dropped a state meanwhile
            pass
        before, self._names = self._names, sorted(found)
        if self._names != before or not self._number:
            self._number += 1
            index = {"number": self._number, "files": self._names}
            (self.kept / _INDEXES[self._number % 2]).write_text(json.dumps(index), encoding="utf-8")
        for name in set(before) - set(found):
            self._copied.pop(name, None)
            (self.kept / name).unlink(missing_ok=True)
            with suppress(OSError):  # others are still in it, or the mount has no folders
                (self.kept / name).parent.rmdir()

    def _copy_new(self) -> dict[str, tuple[int, int]] | None:
        """Copy what is new of the files that are there now, which come back; None where one has gone."""
        found = self._files()
        # The oldest first: what says that a folder is complete is the last of its files.
        for name in sorted(found, key=lambda name: found[name][1]):
            if self._copied.get(name) == found[name]:
                continue
            try:
                self._copy(name)
            except FileNotFoundError:
                if (self.folder / name).exists():
                    raise  # it is the bucket's folder that has gone
                return None
            self._copied[name] = found[name]
        return found

    def _copy(self, name: str) -> None:
        source, target = self.folder / name, self.kept / name
        target.parent.mkdir(parents=True, exist_ok=True)
        is_small = source.stat().st_size < _SMALL
        if not (is_small and target.is_file() and filecmp.cmp(source, target, shallow=False)):
            shutil.copyfile(source, target)

    def _files(self) -> dict[str, tuple[int, int]]:
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

    def _newest_index(self) -> tuple[int, list[str]]:
        """Number and names of the newest whole index; 0 and none where there is no index yet."""
        newest: tuple[int, list[str]] = (0, [])
        for name in _INDEXES:
            with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
                index = json.loads((self.kept / name).read_text(encoding="utf-8"))
                newest = max(newest, (int(index["number"]), list(index["files"])))
        return newest


def run_kept(command: Sequence[str], kept: KeptFolder, seconds: float) -> int:
    """Run the command and keep its folder, so often and at the end; return its status, as a shell has it.

    A wish to stop is passed on: the run saves its state, which is kept as well.
    """
    is_told = False
    with StopRequest() as stop:
        process = subprocess.Popen(command)
        due = time.monotonic() + seconds
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=min(1.0, seconds))
            if stop.signal_number and not is_told:
                process.send_signal(stop.signal_number)
                is_told = True
            if time.monotonic() >= due:
                kept.keep()
                due = time.monotonic() + seconds
    kept.keep()
    status = process.returncode
    return 128 - status if status < 0 else status


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
