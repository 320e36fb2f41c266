"""The same work on many items: spread over processes, shown by a progress bar."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNKS_PER_WORKER = 16  # enough to keep all busy and the bar moving, few enough to cost nothing


def one_thread() -> AbstractContextManager[object]:
    """One BLAS thread: on some hundred numbers several wait for each other: up to 10 x the time."""
    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def _start_worker() -> None:
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
    # Spawned, not forked: forking a process that has threads (torch, BLAS) may hang.
    spawn = multiprocessing.get_context("spawn")
    pool = (
        ProcessPoolExecutor(workers, spawn, initializer=_start_worker)
        if workers > 1 and len(chunks) > 1
        else None
    )
    results: list[Result] = []
    with pool or one_thread(), tqdm(total=len(items), desc=label, disable=not progress, leave=False) as bar:
        done: Iterator[Sequence[Result]] = (pool.map if pool else map)(function, chunks)
        for chunk in done:
            results.extend(chunk)
            bar.update(len(chunk))
    return results
