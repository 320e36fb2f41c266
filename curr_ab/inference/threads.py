"""Independent calls on the cores of a CPU, one thread each: small matrices are not worth sharing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Value = TypeVar("Value")


def map_over_threads(
    function: Callable[[Item], Value], items: Iterable[Item], device: torch.device
) -> Iterator[Value]:
    """`function` of each item, in order, without gradients; a few items ahead of the caller.

    On a CPU as many items run at once as torch has threads; a GPU takes one after the other.
    """

    def call(item: Item) -> Value:
        with torch.inference_mode():  # holds for one thread only
            return function(item)

    num_threads = torch.get_num_threads()
    if device.type != "cpu" or num_threads == 1:
        for item in items:
            yield call(item)
        return
    waiting: deque[Future[Value]] = deque()
    pool = ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)  # MKL has one number for all threads
