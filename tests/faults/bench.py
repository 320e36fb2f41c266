"""Tries of all commands: their inputs, what an undisturbed run leaves, and the log."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

import torch

# Before the forks, which inherit them.
import curr_ab.cli.main  # noqa: F401
from curr_ab import CurrAbForMaskedLM, CurrAbTokenizer  # noqa: F401

from .commands import COMMANDS, Command, make_inputs
from .table import KINDS, summary
from .tries import NOBODY, Ended, SmallDisk, contents, kill_after, leftovers, run


class Bench:
    """Inputs, the results of undisturbed runs, and the log of tries."""

    def __init__(self, folder: Path, log: Path, seed: int | None) -> None:
        self.folder, self.log, self.random = folder, log, random.Random(seed)
        self.inputs = folder / "inputs"
        if not (self.inputs / "whole").exists():
            shutil.rmtree(self.inputs, ignore_errors=True)
            make_inputs(self.inputs)
            (self.inputs / "whole").touch()
        self.references: dict[str, tuple[dict[str, str], float, int]] = {}

    def reference(self, name: str) -> tuple[dict[str, str], float, int]:
        """What an undisturbed run leaves, its seconds and its bytes."""
        if name not in self.references:
            folder = self._empty("reference")
            started = time.monotonic()
            ended = self._run(name, folder)
            if ended.status:
                raise SystemExit(f"{name} does not run undisturbed: {ended.said}")
            seconds = time.monotonic() - started
            out = folder / COMMANDS[name].name
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            self.references[name] = contents(out), seconds, size
        return self.references[name]

    def try_once(self, name: str, kind: str) -> dict[str, object]:
        """One try, in the log as one line: `outcome` is equal, or what was found, with what was said."""
        wanted, seconds, size = self.reference(name)
        entry: dict[str, object] = {"command": name, "fault": kind}
        if kind == "full disk":
            found = self._full_disk(name, size, entry)
        elif kind == "closed folder":
            found = self._closed_folder(name, entry)
        else:
            found = self._kill(name, kind, seconds, entry)
        if found is not None:
            entry |= self._judge(name, found, wanted)
        with self.log.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        return entry

    def _empty(self, name: str) -> Path:
        # Always the same path: results may name their folder.
        folder = self.folder / "place"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.scratch = self.folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        return folder

    def _run(self, name: str, folder: Path, *more: object, user: int | None = None) -> Ended:
        disturb = more[0] if more else None
        return run(COMMANDS[name].arguments(self.inputs, folder), self.scratch, disturb, user=user)  # type: ignore

    def _kill(self, name: str, kind: str, seconds: float, entry: dict[str, object]) -> Path | None:
        """Kill up to five times, then let it end; a try is a kill that hit."""
        folder = self._empty(name)
        whom = kind.removeprefix("kill ")
        hits = 0
        for _ in range(5):
            ended = self._run(name, folder, kill_after(self.random.random() * seconds, whom))
            self._count(entry, ended)
            if ended.status == 0:
                break
            hits += 1
            if not (ended.status < 0 or (whom == "worker" and ended.status == 2 and len(ended.lines) == 1)):
                entry |= {"outcome": "badly said", "said": ended.said[-500:]}
        entry["tries"] = hits
        if ended.status:
            ended = self._run(name, folder)
            self._count(entry, ended)
        if ended.status:
            entry |= {"outcome": "lost", "said": ended.said[-500:]}
            return None
        return folder

    def _full_disk(self, name: str, size: int, entry: dict[str, object]) -> Path | None:
        folder = self._empty(name)
        entry["bytes"] = room = self.random.randrange(4096, max(8192, int(size * 1.1)))
        disk = SmallDisk(folder, room)
        try:
            ended = self._run(name, folder)
            self._count(entry, ended)
            entry["tries"] = int(ended.status != 0)
            if ended.status:
                line = ended.lines[-1] if ended.lines else ""
                if ended.status < 0 or not line or str(folder) not in line or "space" not in line:
                    entry |= {"outcome": "badly said", "status": ended.status, "said": ended.said[-500:]}
                disk.grow()
                ended = self._run(name, folder)
                self._count(entry, ended)
                if ended.status:
                    entry |= {"outcome": "lost", "said": ended.said[-500:]}
                    return None
            kept = self.folder / "kept"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept)
        finally:
            disk.close()
        shutil.rmtree(folder)
        kept.rename(folder)
        return folder

    def _closed_folder(self, name: str, entry: dict[str, object]) -> Path | None:
        folder = self._empty(name)
        folder.chmod(0o555)
        ended = self._run(name, folder, user=NOBODY)
        self._count(entry, ended)
        said = ended.status == 2 and len(ended.lines) == 1 and str(folder) in ended.lines[0]
        entry |= {"tries": 1, "outcome": "one line" if said else "badly said"}
        if not said:
            entry["said"] = ended.said[-500:]
        folder.chmod(0o755)
        return None

    @staticmethod
    def _count(entry: dict[str, object], ended: Ended) -> None:
        for what, number in (
            ("tracebacks", int(ended.is_traceback)),
            ("orphans", ended.orphans),
            ("temporary", len(ended.temporary)),
        ):
            entry[what] = int(entry.get(what, 0)) + number  # type: ignore[call-overload]
        if ended.temporary:
            entry["names"] = ended.temporary[:5]
        if ended.is_traceback:
            entry["said"] = ended.said[-800:]

    @staticmethod
    def _judge(name: str, folder: Path, wanted: dict[str, str]) -> dict[str, object]:
        got = contents(folder / COMMANDS[name].name)
        differs = sorted(key for key in wanted | got if wanted.get(key) != got.get(key))
        found: dict[str, object] = {"leftovers": leftovers(folder)} if leftovers(folder) else {}
        if differs:
            return found | {"outcome": "wrong", "differs": differs[:10]}
        return found


def kinds_of(command: Command) -> list[str]:
    return [kind for kind in KINDS if kind != "kill worker" or command.has_workers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument(
        "--log", type=Path, default=Path("faults.jsonl"), help="what was tried; it goes on there"
    )
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), metavar="COMMAND")
    parser.add_argument("--faults", nargs="+", choices=KINDS, default=list(KINDS), metavar="FAULT")
    parser.add_argument("--folder", type=Path, help="inputs and results; a temporary folder if not given")
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = (args.folder or Path(tempfile.mkdtemp(prefix="faults"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder, args.log, args.seed)
    until = time.monotonic() + 60 * args.minutes
    try:
        while time.monotonic() < until:
            # The cell that was tried least: an hour that is cut short has tried everything.
            counts = summary(args.log)
            cells = [(name, kind) for name in args.commands for kind in kinds_of(COMMANDS[name])]
            cells = [cell for cell in cells if cell[1] in args.faults]
            fewest = min(counts[cell]["tries"] for cell in cells)
            name, kind = next(cell for cell in cells if counts[cell]["tries"] == fewest)
            entry = bench.try_once(name, kind)
            print(json.dumps(entry), flush=True)
    finally:
        if not args.folder:
            shutil.rmtree(folder, ignore_errors=True)
    print_figures(args.log)


def print_figures(log: Path) -> None:
    """Faults by kind, survived, lost."""
    for kind in KINDS:
        cells = [one for (_, of), one in summary(log).items() if of == kind]
        tries, bad = sum(one["tries"] for one in cells), sum(one["bad"] for one in cells)
        print(f"{kind}: {tries} faults, {tries - bad} survived, {bad} not")
