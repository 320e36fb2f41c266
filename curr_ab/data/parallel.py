"""The same function over many tasks, in several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def end_with_parent() -> None:
    """Workers of a killed run would wait for work for ever: the pool keeps its pipes open on their side."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


class Workers:
    """Processes that are started when they are first of use and serve every stage."""

    def __init__(self, processes: int, *, progress: bool) -> None:
        if processes < 1:
            raise ValueError(f"{processes} processes cannot work")
        self._processes, self._progress = processes, progress
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _submit(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> dict[Future[Result], int]:
        if self._pool is None:
            # Spawned, not forked: pyarrow runs threads, and a fork of a threaded process may hang.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, context, initializer=end_with_parent)
        return {self._pool.submit(function, task): number for number, task in enumerate(tasks)}

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task], title: str) -> list[Result]:
        """Results in the order of the tasks; the first error ends the run."""
        from tqdm import tqdm

        results: dict[int, Result] = {}
        with tqdm(total=len(tasks), desc=title, disable=not self._progress) as bar:
            if self._processes == 1 or len(tasks) <= 1:
                for number, task in enumerate(tasks):
                    results[number] = function(task)
                    bar.update()
            else:
                futures = self._submit(function, tasks)
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    bar.update()
        return [results[number] for number in range(len(tasks))]
