"""Micro-batches filled up to three shapes at most, so that a GPU can replay what it has recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

from curr_ab.data.tokens import CLS
from curr_ab.training.packed_rows import TokenBatch

_NO_ANSWER = -100  # cross-entropy leaves it out
_SPARE = 1.01  # more than the largest that was sampled, so that few need the shape that holds everything
_MULTIPLE = 64  # tokens and answers come in these; matrix products are fastest so


class Shape(NamedTuple):
    """Sizes of a filled micro-batch; no record, filling or not, is longer than `longest`."""

    num_tokens: int
    num_records: int
    num_answers: int
    longest: int

    def holds(self, batch: TokenBatch) -> bool:
        """Whether the batch fits, with at least one token for each record of filling."""
        num_filling = self.num_records - _num_records(batch)
        room = self.num_tokens - batch.num_tokens
        return 0 < num_filling <= room and len(batch.targets) <= self.num_answers


def fixed_shapes(sampled: Sequence[TokenBatch], longest: int) -> tuple[Shape, ...]:
    """A shape for the smaller of these packed batches, one for all of them, one for whatever may come.

    `longest` is the number of tokens of the longest record that may come.
    """
    num_records = max(_num_records(batch) for batch in sampled)
    sizes = np.sort([batch.num_tokens for batch in sampled])
    # The size up to which the smaller shape serves: that with which the sample is filled least.
    totals = [number * size + (len(sizes) - number) * sizes[-1] for number, size in enumerate(sizes, start=1)]
    shapes = []
    for size in (int(sizes[np.argmin(totals)]), int(sizes[-1])):
        most = max(len(batch.targets) for batch in sampled if batch.num_tokens <= size)
        shapes.append(_shape(int(_SPARE * size), num_records, int(_SPARE * most), longest))
    everything = num_records * longest
    shapes.append(_shape(everything, num_records, everything, longest))
    return tuple(dict.fromkeys(shapes))


def filled(batch: TokenBatch, shapes: Sequence[Shape]) -> TokenBatch:
    """The batch in the first shape that holds it; filling comes last, and the loss leaves it out."""
    shape = next(shape for shape in shapes if shape.holds(batch))
    inputs = batch.model_inputs
    num_filling = shape.num_records - _num_records(batch)
    room = shape.num_tokens - batch.num_tokens
    lengths = torch.full((num_filling,), room // num_filling)
    lengths[: room % num_filling] += 1
    ends = batch.num_tokens + lengths.cumsum(0)
    positions = torch.cat([torch.arange(length) for length in lengths.tolist()])
    boundaries = torch.cat([inputs["cu_seq_lens_q"], ends.to(torch.int32)])
    more_answers = [0, shape.num_answers - len(batch.targets)]
    model_inputs = {
        "input_ids": pad(inputs["input_ids"], [0, room], value=CLS),
        "position_ids": torch.cat([inputs["position_ids"], positions[None]], dim=1),
        "output_positions": pad(inputs["output_positions"], more_answers, value=shape.num_tokens - 1),
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": shape.longest,
        "max_length_k": shape.longest,
    }
    return replace(
        batch, model_inputs=model_inputs, targets=pad(batch.targets, more_answers, value=_NO_ANSWER)
    )


def _num_records(batch: TokenBatch) -> int:
    return len(batch.model_inputs["cu_seq_lens_q"]) - 1


def _shape(most_tokens: int, most_records: int, most_answers: int, longest: int) -> Shape:
    """The shape for so many tokens, records and answers."""
    # Enough records of filling for a batch of hardly a token, and none of them longer than others.
    num_filling = -(-(most_tokens + _MULTIPLE) // (longest - 1))
    # A batch with one record less, as some have, needs one more of filling.
    num_tokens = _rounded_up(most_tokens + num_filling + 1)
    return Shape(num_tokens, most_records + num_filling, _rounded_up(most_answers), longest)


def _rounded_up(number: int) -> int:
    return -(-number // _MULTIPLE) * _MULTIPLE
