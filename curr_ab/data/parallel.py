"""The same function over many tasks, in several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def _end_with_parent() -> None:
    """Workers of a killed run would wait for work for ever: the pool keeps its pipes open on their side."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    processes: int,
    title: str,
    progress: bool,
) -> list[Result]:
    """Results in the order of the tasks; the first error ends the run."""
    from tqdm import tqdm

    results: dict[int, Result] = {}
    with tqdm(total=len(tasks), desc=title, disable=not progress, unit="task") as bar:
        if processes == 1 or len(tasks) <= 1:
            for number, task in enumerate(tasks):
                results[number] = function(task)
                bar.update()
        else:
            # Spawned, not forked: pyarrow runs threads, and a fork of a threaded process may hang.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(processes, context, initializer=_end_with_parent) as pool:
                futures = {pool.submit(function, task): number for number, task in enumerate(tasks)}
                try:
                    for future in as_completed(futures):
                        results[futures[future]] = future.result()
                        bar.update()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    return [results[number] for number in range(len(tasks))]
