"""Tasks that several processes, on one machine or many, claim one by one in a folder that all of them see."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from curr_ab.share import Share
from curr_ab.workers import Result, Task, Workers

LOST_AFTER = 60.0  # seconds without a sign of life, after which a task is anybody's
_SIGNS = 6  # of life in that time
_PAUSES = 0.1, 5.0  # seconds between two looks at the folder: the first, and doubled each time the last


class SharedWork:
    """Stages of a piece of work; every share runs all of them, each with the same tasks.

    A task is claimed by a file that only one can create, and which is renamed when the task is done. Its time
    is renewed while its owner lives; one that grows old is removed. Should the owner have been slow and not
    lost, a task is done twice, which must be harmless: tasks leave whole files, equal whoever writes them,
    and take from these what was done before.
    """

    def __init__(self, folder: Path, share: Share, workers: Workers) -> None:
        self._folder, self._share, self._workers = folder, share, workers
        self._held: set[Path] = set()
        self._signs: dict[Path, tuple[int, float]] = {}  # the time of a claim, and when it was new here
        self._stop = threading.Event()
        self._signs_of_life = threading.Thread(target=self._give_signs, daemon=True)

    def __enter__(self) -> SharedWork:
        self._signs_of_life.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._signs_of_life.join()
        for claim in self._held:
            claim.unlink(missing_ok=True)

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task], title: str) -> list[Result]:
        """Results in the order of the tasks, once the shares have done all of them.

        A process begins with its own share, and goes on with what nobody has begun.
        """
        folder = self._folder / title.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        results: dict[int, Result] = {}
        left = self._own_first(len(tasks))
        pause = _PAUSES[0]
        with self._workers.bar(len(tasks), title) as bar:
            while left:
                names = set(os.listdir(folder))
                for place in [place for place in left if _done(folder, place).name in names]:
                    results[place] = function(tasks[place])  # from disk
                    bar.update()
                taken: list[int] = []
                free = self._claimed(folder, [p for p in left if p not in results], names, taken)
                chosen = (tasks[place] for place in free)
                for number, result in self._ended(function, chosen, alone=len(tasks) == 1):
                    results[taken[number]] = result
                    self._finish(folder, taken[number])
                    bar.update()
                num_left, left = len(left), [place for place in left if place not in results]
                if left:
                    bar.set_postfix_str("other shares are at work")
                    pause = _PAUSES[0] if len(left) < num_left else min(2 * pause, _PAUSES[1])
                    time.sleep(pause)
                    self._drop_lost(folder, left, say=not bar.disable)
            bar.set_postfix_str("")
        return [results[place] for place in range(len(tasks))]

    def _ended(
        self, function: Callable[[Task], Result], tasks: Iterator[Task], *, alone: bool
    ) -> Iterator[tuple[int, Result]]:
        if alone:  # in this process, to which it need not travel
            return enumerate(map(function, tasks))
        return self._workers.completed(function, tasks, ahead=1)  # what waits here nobody else does

    def _own_first(self, num_tasks: int) -> list[int]:
        start = self._share.index * num_tasks // self._share.count  # the others begin elsewhere
        places = [*range(start, num_tasks), *range(start)]
        return sorted(places, key=lambda place: not self._share.takes(place))

    def _claimed(
        self, folder: Path, places: Sequence[int], names: set[str], taken: list[int]
    ) -> Iterator[int]:
        """Those of the places that are this process's from now on; they are added to `taken`."""
        for place in places:
            claim = _claim(folder, place)
            if claim.name in names:
                continue
            with suppress(FileExistsError), claim.open("x") as file:
                self._held.add(claim)
                taken.append(place)
                file.write(socket.gethostname())
            if claim in self._held:
                yield place

    def _finish(self, folder: Path, place: int) -> None:
        claim = _claim(folder, place)
        self._held.discard(claim)
        try:
            claim.replace(_done(folder, place))
        except FileNotFoundError:  # somebody thought this process lost
            _done(folder, place).touch()

    def _give_signs(self) -> None:
        while not self._stop.wait(LOST_AFTER / _SIGNS):
            for claim in tuple(self._held):
                with suppress(OSError):
                    os.utime(claim)

    def _drop_lost(self, folder: Path, places: Iterable[int], *, say: bool) -> None:
        """Remove claims that have not been renewed for long by the clock of this process.

        Clocks of machines differ, so that the time in the claim is compared with nothing but itself.
        """
        for claim in (_claim(folder, place) for place in places):
            now = time.monotonic()
            try:
                with claim.open() as file:  # opened, because network file systems answer `stat` from memory
                    owner, renewed = file.read(), os.fstat(file.fileno()).st_mtime_ns
            except OSError:  # it has just gone
                continue
            known, since = self._signs.get(claim, (0, now))
            if renewed != known:
                self._signs[claim] = renewed, now
            elif now - since > LOST_AFTER:
                if say:
                    lost = f"a share on {owner} has given no sign of life for {LOST_AFTER:.0f} seconds"
                    print(f"{lost}; others take over its task", file=sys.stderr)
                claim.unlink(missing_ok=True)


def _claim(folder: Path, place: int) -> Path:
    return folder / f"{place}.claim"


def _done(folder: Path, place: int) -> Path:
    return folder / f"{place}.done"
