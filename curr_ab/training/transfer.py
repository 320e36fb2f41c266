"""What a step needs on a device: prepared by a thread while the step before runs, and sent as one block."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from curr_ab.training.packed_rows import TokenBatch

Value = TypeVar("Value")
_ALIGNMENT = 16  # bytes; every number type may begin there


def prepared_ahead(prepare: Callable[[int], Value], first: int, end: int) -> Generator[Value, None, None]:
    """`prepare(step)` for each step from `first` to before `end`; a thread is one step ahead.

    A step is a function of its number, so nothing depends on when it was prepared. An error is raised where
    its step is due: the steps before it are taken.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="next-step")
    try:
        waiting = pool.submit(prepare, first) if first < end else None
        for step in range(first, end):
            assert waiting is not None
            value = waiting.result()
            waiting = pool.submit(prepare, step + 1) if step + 1 < end else None
            yield value
    finally:
        pool.shutdown(cancel_futures=True)


def sent(batches: Sequence[TokenBatch], device: torch.device) -> list[TokenBatch]:
    """The batches with their tensors on a device: by one copy, which the caller does not wait for."""
    if device.type == "cpu":
        return list(batches)
    tensors = [tensor for batch in batches for tensor in _tensors(batch)]
    there = iter(unpacked(packed_block(tensors, pinned=device.type == "cuda"), tensors, device))
    out = []
    for batch in batches:
        inputs = {
            name: next(there) if isinstance(value, Tensor) else value
            for name, value in batch.model_inputs.items()
        }
        out.append(replace(batch, model_inputs=inputs, targets=next(there)))
    return out


def _tensors(batch: TokenBatch) -> list[Tensor]:
    return [*(value for value in batch.model_inputs.values() if isinstance(value, Tensor)), batch.targets]


def _places(tensors: Sequence[Tensor]) -> tuple[list[int], int]:
    """Where each tensor begins in the block, and the size of the block."""
    begins, end = [], 0
    for tensor in tensors:
        begins.append(end)
        end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    return begins, end


def packed_block(tensors: Sequence[Tensor], pinned: bool) -> Tensor:
    """All tensors in one piece of memory; a GPU fetches by itself what is pinned."""
    begins, size = _places(tensors)
    block = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
    for begin, tensor in zip(begins, tensors, strict=True):
        block[begin : begin + tensor.nbytes] = tensor.contiguous().view(-1).view(torch.uint8)
    return block


def unpacked(block: Tensor, tensors: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The tensors on the device, as parts of one copy of the block."""
    there = block.to(device, non_blocking=True)
    for begin, tensor in zip(_places(tensors)[0], tensors, strict=True):
        yield there[begin : begin + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
