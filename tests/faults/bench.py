"""Tries of all commands: their inputs, what an undisturbed run leaves, and the log."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from support.local_hub import LocalHub

# Before the forks, which inherit them.
import curr_ab.cli.main  # noqa: F401
from curr_ab import CurrAbForMaskedLM, CurrAbTokenizer  # noqa: F401

from .commands import COMMANDS, KINDS, Command, kinds_of, make_inputs
from .table import summary
from .tries import (
    NOBODY,
    Ended,
    SmallDisk,
    after_stops,
    contents,
    disturb_after,
    leaves,
    leftovers,
    may_mount,
    run,
)


@dataclass
class Reference:
    """What undisturbed runs leave, in how many seconds, and the bytes that they take."""

    contents: dict[str, object]
    by_itself: frozenset[str]  # what differed between two of them
    seconds: float
    size: int


class Bench:
    """Inputs, the results of undisturbed runs, and the log of tries."""

    def __init__(self, folder: Path, log: Path, hub: LocalHub, seed: int | None) -> None:
        self.folder, self.log, self.hub, self.random = folder, log, hub, random.Random(seed)
        self.inputs, self.scratch, self.place = folder / "inputs", folder / "scratch", folder / "place"
        self.scratch.mkdir(exist_ok=True)
        if not (self.inputs / "whole").exists():
            shutil.rmtree(self.inputs, ignore_errors=True)
            make_inputs(self.inputs, self.scratch)
            (self.inputs / "whole").touch()
        # What `verify` finds there; of what `publish` brings nothing is there.
        words = COMMANDS["publish"].words.replace("8M-F", "8M-H")
        ended = run(Command(words).arguments(self.inputs, folder), self.scratch)
        if ended.status:
            raise SystemExit(f"{words}: {ended.said}")
        hub.keep()
        self.references: dict[str, Reference] = {}

    def reference(self, name: str) -> Reference:
        """Two undisturbed runs: what differs between them differs by itself."""
        if name not in self.references:
            found, seconds = [], []
            for _ in range(2):
                self._empty()
                started = time.monotonic()
                ended = self._run(name)
                seconds.append(time.monotonic() - started)
                if ended.status or ended.temporary or ended.orphans or leftovers(self.place):
                    raise SystemExit(f"{name} does not run undisturbed: {ended} {leftovers(self.place)}")
                found.append(self._contents(name))
            one, other = found
            differ = frozenset(key for key in one | other if one.get(key) != other.get(key))
            size = sum(path.stat().st_size for path in self.place.rglob("*") if path.is_file())
            self.references[name] = Reference(one, differ, min(seconds), size)
        return self.references[name]

    def try_once(self, name: str, kind: str) -> dict[str, object]:
        """One try, in the log as one line: `outcome` is equal, or what was found, with what was said."""
        wanted = self.reference(name)
        entry: dict[str, object] = {"command": name, "fault": kind}
        self._empty()
        if kind == "closed folder":
            self._closed_folder(name, entry)
        elif self._full_disk(name, wanted, entry) if kind == "full disk" else self._kill(name, kind, entry):
            entry |= self._judge(name, wanted, int(str(entry["tries"])) if kind == "stop" else 0)
        with self.log.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        return entry

    def _empty(self) -> None:
        # Always the same path: results may name their folder.
        if os.path.ismount(self.place):  # of a harness that was killed
            SmallDisk.close(self.place)
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.rmtree(self.scratch / "tmp", ignore_errors=True)
        self.place.mkdir()
        self.hub.forget()

    def _run(
        self, name: str, disturb: Callable[[int], int] | None = None, *, user: int | None = None
    ) -> Ended:
        return run(COMMANDS[name].arguments(self.inputs, self.place), self.scratch, disturb, user=user)

    def _contents(self, name: str) -> dict[str, object]:
        if COMMANDS[name].writes:
            return contents(self.place / COMMANDS[name].name)
        state = self.hub.state()
        return leaves({what: state[what] for what in ("repos", "collections")}, "hub")

    def _kill(self, name: str, kind: str, entry: dict[str, object]) -> bool:
        """Kill up to five times, then let it end; a try is a kill that hit."""
        whom, wanted, hits = kind.removeprefix("kill "), self.reference(name), 0
        for _ in range(5):
            started = time.monotonic()
            ended = self._run(name, disturb_after(self.random.random() * wanted.seconds, whom))
            self._count(entry, ended)
            if _is_done(name, ended):  # before its end was known, the machine may have been slower
                wanted.seconds = min(wanted.seconds, time.monotonic() - started)
                break
            hits += 1
            if not _well_said(ended, whom):
                entry |= {"outcome": "badly said", "status": ended.status, "said": ended.said[-800:]}
        entry["tries"] = hits
        return _is_done(name, ended) or self._ends(name, entry)

    def _ends(self, name: str, entry: dict[str, object]) -> bool:
        """True where the command that is given again ends well."""
        ended = self._run(name)
        self._count(entry, ended)
        if not _is_done(name, ended):
            entry |= {"outcome": "lost", "status": ended.status, "said": ended.said[-800:]}
            return False
        return True

    def _full_disk(self, name: str, wanted: Reference, entry: dict[str, object]) -> bool:
        entry["bytes"] = room = self.random.randrange(4096, max(8192, int(wanted.size * 1.1)))
        disk = SmallDisk(self.place, room)
        kept = self.folder / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        try:
            ended = self._run(name)
            self._count(entry, ended)
            entry["tries"] = int(ended.status != 0)
            if ended.status:
                line = ended.lines[-1] if ended.lines else ""
                if ended.status < 0 or str(self.place) not in line or "space" not in line:
                    entry |= {"outcome": "badly said", "status": ended.status, "said": ended.said[-800:]}
                disk.grow()
                if not self._ends(name, entry):
                    return False
            shutil.copytree(self.place, kept)
        finally:
            disk.close(self.place)
        shutil.rmtree(self.place)
        kept.rename(self.place)
        return True

    def _closed_folder(self, name: str, entry: dict[str, object]) -> None:
        self.place.chmod(0o555)
        ended = self._run(name, user=None if os.getuid() else NOBODY)
        self._count(entry, ended)
        said = ended.status == 2 and len(ended.lines) == 1 and str(self.place) in ended.lines[0]
        entry |= {"tries": 1, "outcome": "one line" if said else "badly said"}
        if not said:
            entry |= {"status": ended.status, "said": ended.said[-800:]}
        self.place.chmod(0o755)

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

    def _judge(self, name: str, wanted: Reference, stops: int = 0) -> dict[str, object]:
        got = after_stops(self._contents(name), wanted.contents, stops)
        keys = (wanted.contents | got).keys() - wanted.by_itself
        differs = sorted(key for key in keys if wanted.contents.get(key) != got.get(key))
        left = leftovers(self.place)
        found: dict[str, object] = {"leftovers": left} if left else {}
        return found | ({"outcome": "wrong", "differs": differs[:10]} if differs else {})


def _is_done(name: str, ended: Ended) -> bool:
    """It ended well, or a killed one had made all that it then refuses to make again."""
    return ended.status == 0 or (COMMANDS[name].makes_new and "not empty; remove it" in ended.said)


def _well_said(ended: Ended, whom: str) -> bool:
    """A killed command says nothing; one that was stopped, or whose worker was killed, has one line."""
    if whom == "stop":
        stopped = [line for line in ended.said.splitlines() if "stopped" in line]
        return ended.status == 128 + ended.signal_number and len(stopped) == 1
    if whom == "worker":
        told = [line for line in ended.said.splitlines() if "out of memory?" in line]
        return ended.status > 0 and len(told) == 1
    return ended.status == -signal.SIGKILL


def possible(faults: Sequence[str], folder: Path) -> list[str]:
    """The faults that can be tried here; one that cannot is named."""
    if "full disk" not in faults or may_mount(folder / "small"):
        return list(faults)
    print("full disk: left out, as no disk can be mounted here")
    return [kind for kind in faults if kind != "full disk"]


def main(hub: LocalHub) -> None:
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
    faults = possible(args.faults, folder)
    try:
        bench = Bench(folder, args.log, hub, args.seed)
        until = time.monotonic() + 60 * args.minutes
        while time.monotonic() < until:
            # The cell that was tried least: an hour that is cut short has tried everything.
            counts = summary(args.log)
            cells = [(name, kind) for name in args.commands for kind in kinds_of(COMMANDS[name])]
            cells = [cell for cell in cells if cell[1] in faults]
            entry = bench.try_once(
                *min(cells, key=lambda cell: max(counts[cell]["tries"], counts[cell]["runs"]))
            )
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
