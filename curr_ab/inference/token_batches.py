"""Batches of token sequences, sorted by length, cut by a number of tokens, and run on threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from curr_ab.attention import packs_batches

Item = TypeVar("Item")
Value = TypeVar("Value")
BatchLayout = Literal["equal", "padded", "packed"]
# Caches of CPUs hold about this much; a GPU wants more work at once.
TOKENS_PER_BATCH = {"cpu": 2_000, "cuda": 32_768}


class TokenSequences:
    """Sequences of tokens laid end to end, from which batches are taken without a loop over them."""

    def __init__(self, input_ids: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> None:
        self.input_ids, self.lengths = input_ids, lengths
        self.offsets = np.cumsum(lengths) - lengths  # where each begins

    @classmethod
    def of(cls, sequences: Sequence[Tensor]) -> TokenSequences:
        lengths = np.array([len(one) for one in sequences], np.int64)
        return cls(
            torch.cat(list(sequences)).cpu().numpy() if len(lengths) else np.zeros(0, np.int64), lengths
        )

    def sums(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The sum of each sequence's share of the values [T], one for each token."""
        sums: npt.NDArray[np.int64] = np.add.reduceat(values, self.offsets, dtype=np.int64)
        return sums


class SequenceBatch(NamedTuple):
    """Rows of tokens for one pass of the model, and where each sequence of the window lies in them."""

    model_inputs: dict[str, Any]  # `input_ids` [B, S]; where sequences share a row, where each begins
    members: list[int]  # which sequences of the window
    starts: list[int]  # where each begins in the rows laid end to end
    places: npt.NDArray[np.int64]  # [M, longest], each member's tokens in the window; -1 behind its end

    @property
    def input_ids(self) -> Tensor:
        ids: Tensor = self.model_inputs["input_ids"]
        return ids

    def take(self, states: Tensor, member: int, length: int) -> Tensor:
        """The states of one sequence out of those of the batch [B, S, ...]."""
        return states.flatten(0, 1)[self.starts[member] : self.starts[member] + length]

    def by_member(self, states: Tensor) -> Tensor:
        """The states [M, longest, ...], a row for each member; behind its end they mean nothing."""
        if "position_ids" not in self.model_inputs:
            return states
        inside = torch.from_numpy(np.cumsum(self.places >= 0).reshape(self.places.shape) - 1)
        return states[0, inside.to(states.device)]


def budget(device: torch.device, tokens_per_batch: int | None) -> int:
    """The number of tokens in a batch: the one asked for, or what suits the device."""
    if tokens_per_batch is not None and tokens_per_batch < 1:
        raise ValueError(f"tokens_per_batch must be at least 1; got {tokens_per_batch}")
    return tokens_per_batch or TOKENS_PER_BATCH.get(device.type, TOKENS_PER_BATCH["cuda"])


def map_batches(
    function: Callable[[SequenceBatch], Sequence[Value]],
    sequences: Sequence[Tensor] | TokenSequences,
    model: Any,
    *,
    tokens_per_batch: int | None = None,
    layout: BatchLayout | None = None,
) -> list[Value]:
    """The values of all sequences in order; `function` returns those of the members of a batch.

    They do not depend on the layout, only the speed does. `equal` puts sequences of the same length together,
    which needs no mask and is the fastest on CPUs; `packed` makes one row of each batch, for GPUs with a
    flash kernel; `padded` is for those without one, where sorting keeps the padding small.
    """
    if not isinstance(sequences, TokenSequences):
        sequences = TokenSequences.of(sequences)
    values: dict[int, Value] = {}

    def run(batch: SequenceBatch) -> tuple[list[int], Sequence[Value]]:
        return batch.members, function(batch)

    if layout is None:
        on_gpu: BatchLayout = "packed" if packs_batches(model) else "padded"
        layout = "equal" if model.device.type == "cpu" else on_gpu
    limit = budget(model.device, tokens_per_batch)
    batches = _batches(sequences, model.device, model.config.pad_token_id, limit, layout)
    for members, computed in map_over_threads(run, batches, model.device):
        values.update(zip(members, computed, strict=True))
    return [values[member] for member in range(len(sequences.lengths))]


def _batches(
    sequences: TokenSequences, device: torch.device, pad_id: int, limit: int, layout: BatchLayout
) -> Iterator[SequenceBatch]:
    order = np.argsort(-sequences.lengths, kind="stable")
    lengths = sequences.lengths[order]
    ends = np.flatnonzero(np.diff(lengths)) + 1
    for group in np.split(order, ends) if layout == "equal" else [order]:
        start = 0
        while start < len(group):
            stop = start + max(1, limit // max(1, int(sequences.lengths[group[start]])))
            yield _batch(sequences, group[start:stop], device, pad_id, layout)
            start = stop


def _batch(
    sequences: TokenSequences,
    members: npt.NDArray[np.int64],
    device: torch.device,
    pad_id: int,
    layout: BatchLayout,
) -> SequenceBatch:
    lengths = sequences.lengths[members][:, None]
    columns = np.arange(lengths.max())
    places = sequences.offsets[members][:, None] + columns
    is_token = columns < lengths
    if not (is_equal := bool((lengths == len(columns)).all())):
        places[~is_token] = -1
    if layout == "packed":
        ids = sequences.input_ids[places[is_token]][None].astype(np.int64)
        positions = np.broadcast_to(columns, places.shape)[is_token][None]
        ends = np.cumsum(lengths)
        boundaries = torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)).to(device)
        model_inputs = {
            "input_ids": torch.from_numpy(ids).to(device),
            "position_ids": torch.from_numpy(positions).to(device),
            "cu_seq_lens_q": boundaries,
            "cu_seq_lens_k": boundaries,
            "max_length_q": len(columns),
            "max_length_k": len(columns),
        }
        return SequenceBatch(model_inputs, members.tolist(), (ends - lengths[:, 0]).tolist(), places)
    ids = sequences.input_ids[places].astype(np.int64)
    if not is_equal:
        ids[~is_token] = pad_id
    starts = list(range(0, places.size, places.shape[1]))
    model_inputs = {"input_ids": torch.from_numpy(ids).to(device)}
    return SequenceBatch(model_inputs, members.tolist(), starts, places)


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
