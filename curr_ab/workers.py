"""The same function over many tasks, in several processes, with a progress bar."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import wait
from typing import TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

Task = TypeVar("Task")
Result = TypeVar("Result")
Item = TypeVar("Item")
_WORTH_A_POOL = 4.0  # seconds of work; starting processes takes one or two
_CHUNKS_PER_WORKER = 16  # enough to keep all busy and the bar moving, few enough to cost nothing


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


def one_thread() -> AbstractContextManager[object]:
    """One BLAS thread: on some hundred numbers several wait for each other: up to 10 x the time."""
    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def _start_worker() -> None:
    # A limit reaches only what is loaded; numpy and scipy bring a BLAS each, and a fresh process has neither.
    importlib.import_module("scipy.optimize")
    one_thread()


def map_chunks(
    function: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    *,
    workers: int,
    progress: bool,
    label: str,
) -> list[Result]:
    """`function` over chunks of `items`, in order; the result does not depend on the number of workers."""
    size = max(1, -(-len(items) // (workers * _CHUNKS_PER_WORKER)))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    results: list[Result] = []
    with tqdm(total=len(items), desc=label, disable=not progress, leave=False) as bar, ExitStack() as stack:

        def collect(done: Iterable[Sequence[Result]]) -> None:
            for chunk in done:
                results.extend(chunk)
                bar.update(len(chunk))

        stack.enter_context(one_thread())
        began = time.perf_counter()
        collect(map(function, chunks[:1]))
        rest = (time.perf_counter() - began) * (len(chunks) - 1)
        if workers == 1 or rest < _WORTH_A_POOL:
            collect(map(function, chunks[1:]))
        else:
            # Spawned, not forked: forking a process that has threads (torch, BLAS) may hang.
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, spawn, initializer=_start_worker))
            collect(pool.map(function, chunks[1:]))
    return results
