"""Batches of token sequences, sorted by length, cut by a number of tokens, and run on threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Value = TypeVar("Value")
BatchLayout = Literal["equal", "padded", "packed"]
# Caches of CPUs hold about this much; a GPU wants more work at once.
TOKENS_PER_BATCH = {"cpu": 2_000, "cuda": 32_768}


class SequenceBatch(NamedTuple):
    """Rows of tokens for one pass of the model, and where each sequence of the window lies in them."""

    input_ids: Tensor  # [B, S]
    position_ids: Tensor | None  # [1, S], restarting at 0, where several sequences share the row
    members: list[int]  # which sequences of the window
    starts: list[int]  # where each begins in the rows laid end to end

    def take(self, states: Tensor, member: int, length: int) -> Tensor:
        """The states of one sequence out of those of the batch [B, S, ...]."""
        return states.flatten(0, 1)[self.starts[member] : self.starts[member] + length]


def budget(device: torch.device, tokens_per_batch: int | None) -> int:
    """The number of tokens in a batch: the one asked for, or what suits the device."""
    if tokens_per_batch is not None and tokens_per_batch < 1:
        raise ValueError(f"tokens_per_batch must be at least 1; got {tokens_per_batch}")
    return tokens_per_batch or TOKENS_PER_BATCH.get(device.type, TOKENS_PER_BATCH["cuda"])


def map_batches(
    function: Callable[[SequenceBatch], Sequence[Value]],
    sequences: Sequence[Tensor],
    model: Any,
    *,
    tokens_per_batch: int | None = None,
    layout: BatchLayout | None = None,
) -> list[Value]:
    """The values of all sequences in order; `function` returns those of the members of a batch.

    They do not depend on the layout, only the speed does. `equal` puts sequences of the same length together,
    which needs no mask and is the fastest on CPUs; `padded` is for GPUs, where sorting keeps the padding
    small; `packed` makes one row of each batch.
    """
    values: dict[int, Value] = {}

    def run(batch: SequenceBatch) -> tuple[list[int], Sequence[Value]]:
        return batch.members, function(batch)

    layout = layout or ("equal" if model.device.type == "cpu" else "padded")
    limit = budget(model.device, tokens_per_batch)
    batches = _batches(sequences, model.device, model.config.pad_token_id, limit, layout)
    for members, computed in map_over_threads(run, batches, model.device):
        values.update(zip(members, computed, strict=True))
    return [values[member] for member in range(len(sequences))]


def _batches(
    sequences: Sequence[Tensor], device: torch.device, pad_id: int, limit: int, layout: BatchLayout
) -> Iterator[SequenceBatch]:
    order = sorted(range(len(sequences)), key=lambda member: -len(sequences[member]))
    members: list[int] = []
    for member in order:
        longest = len(sequences[members[0]]) if members else 0
        full = (len(members) + 1) * longest > limit
        if members and (full or (layout == "equal" and len(sequences[member]) != longest)):
            yield _batch(sequences, members, device, pad_id, layout)
            members = []
        members.append(member)
    if members:
        yield _batch(sequences, members, device, pad_id, layout)


def _batch(
    sequences: Sequence[Tensor], members: list[int], device: torch.device, pad_id: int, layout: BatchLayout
) -> SequenceBatch:
    rows = [sequences[member] for member in members]
    if layout == "packed":
        lengths = torch.tensor([0, *map(len, rows)])
        positions = torch.cat([torch.arange(len(row)) for row in rows])[None].to(device)
        starts = lengths.cumsum(0)[:-1].tolist()
        return SequenceBatch(torch.cat(rows)[None].to(device), positions, members, starts)
    input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    width = input_ids.shape[1]
    return SequenceBatch(input_ids.to(device), None, members, list(range(0, len(rows) * width, width)))


def map_over_threads(
    function: Callable[[Item], Value], items: Iterable[Item], device: torch.device
) -> Iterator[Value]:
    """`function` of each item, in order, without gradients; a few items ahead of the caller.

    On a CPU as many items run at once as torch has threads, one thread each: small matrices are not worth
    sharing. A GPU takes one item after the other.
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
