"""The same work on many items: spread over processes, shown by a progress bar."""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

_WORTH_A_POOL = 4.0  # seconds of work; starting processes takes one or two
_CHUNKS_PER_WORKER = 16  # enough to keep all busy and the bar moving, few enough to cost nothing


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
