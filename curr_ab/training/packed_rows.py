"""Records as rows that the model takes: end to end in one row, or padded where a kernel needs that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from curr_ab.data.tokens import PAD
from curr_ab.training.tasks import Task


def to_device(inputs: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Keyword arguments of a model with their tensors on a device."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
    }


@dataclass(frozen=True)
class TokenBatch:
    """Inputs of a model, and its K targets."""

    model_inputs: dict[str, Any]
    targets: torch.Tensor  # [K]
    answers_at: npt.NDArray[np.int64]  # [K] the same positions among the task's tokens
    num_tokens: int

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on a device."""
        targets = self.targets.to(device, non_blocking=True)
        return replace(self, model_inputs=to_device(self.model_inputs, device), targets=targets)


def pack(
    task: Task,
    ends: npt.NDArray[np.int64],
    records: npt.NDArray[np.int64],
    num_batches: int,
    pad: bool = False,
) -> Iterator[TokenBatch]:
    """These records of the task in `num_batches` batches; records of like length share a batch."""
    lengths = np.diff(ends, prepend=0)
    records = records[np.argsort(lengths[records], kind="stable")]
    lengths = lengths[records]
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    # All rows end to end at first: a few large operations instead of many small ones.
    positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
    source = positions + np.repeat(ends[records] - lengths, lengths)
    input_ids = torch.from_numpy(task.inputs[source].astype(np.int64))
    position_ids = torch.from_numpy(positions)
    predicted = np.flatnonzero(task.predicted[source])
    answers_at = source[predicted]
    targets = torch.from_numpy(task.targets[answers_at].astype(np.int64))
    last = np.cumsum([len(part) for part in np.array_split(records, num_batches)])
    for first_record, end_record in zip([0, *last[:-1]], last, strict=True):
        first, end = int(bounds[first_record]), int(bounds[end_record])
        first_answer, end_answer = np.searchsorted(predicted, (first, end))
        cu_seq_lens = torch.from_numpy((bounds[first_record : end_record + 1] - first).astype(np.int32))
        longest = int(lengths[end_record - 1])
        model_inputs = {
            "input_ids": input_ids[None, first:end],
            "position_ids": position_ids[None, first:end],
            "output_positions": torch.from_numpy(predicted[first_answer:end_answer] - first),
            "cu_seq_lens_q": cu_seq_lens,
            "cu_seq_lens_k": cu_seq_lens,
            "max_length_q": longest,
            "max_length_k": longest,
        }
        chosen = slice(first_answer, end_answer)
        batch = TokenBatch(model_inputs, targets[chosen], answers_at[chosen], end - first)
        yield padded(batch) if pad else batch


def padded(batch: TokenBatch) -> TokenBatch:
    """One record in each row; records of a row were of like length, so there is little padding."""
    inputs = batch.model_inputs
    bounds = inputs["cu_seq_lens_q"].long()
    lengths = bounds.diff()
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    cell = row * inputs["max_length_q"] + inputs["position_ids"][0]
    shape = (len(lengths), inputs["max_length_q"])
    input_ids = torch.full(shape, PAD)
    input_ids.view(-1)[cell] = inputs["input_ids"][0]
    attention_mask = torch.arange(shape[1]) < lengths[:, None]
    model_inputs = {
        "input_ids": input_ids,
        "attention_mask": attention_mask.long(),
        "output_positions": cell[inputs["output_positions"]],
    }
    return TokenBatch(model_inputs, batch.targets, batch.answers_at, batch.num_tokens)
