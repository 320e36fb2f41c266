"""Records end to end in one row, as the model takes them: no padding, nothing computed for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from curr_ab.pretraining.masking import Task


@dataclass(frozen=True)
class PackedBatch:
    """One packed row and the answers; T tokens, K of them predicted, n records."""

    model_inputs: dict[str, Any]
    targets: torch.Tensor  # [K]
    answers_at: npt.NDArray[np.int64]  # [K] the same positions among the task's tokens
    num_tokens: int

    def to(self, device: torch.device) -> PackedBatch:
        """The same on a device, without waiting for it."""
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in self.model_inputs.items()
        }
        return PackedBatch(
            moved, self.targets.to(device, non_blocking=True), self.answers_at, self.num_tokens
        )


def pack(
    task: Task, ends: npt.NDArray[np.int64], records: npt.NDArray[np.int64], num_batches: int
) -> Iterator[PackedBatch]:
    """These records of the task as `num_batches` rows; records of like length share a row."""
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
        yield PackedBatch(model_inputs, targets[chosen], answers_at[chosen], end - first)
