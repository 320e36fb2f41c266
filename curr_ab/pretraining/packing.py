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
    ordered = records[np.argsort(lengths[records], kind="stable")]
    for chosen in np.array_split(ordered, num_batches):
        yield _row(task, ends[chosen] - lengths[chosen], lengths[chosen])


def _row(
    task: Task,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> PackedBatch:
    boundaries = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(boundaries[-1]) - np.repeat(boundaries[:-1], lengths)
    source = positions + np.repeat(starts, lengths)
    predicted = np.flatnonzero(task.predicted[source])
    cu_seq_lens = torch.from_numpy(boundaries.astype(np.int32))
    longest = int(lengths.max())
    model_inputs = {
        "input_ids": torch.from_numpy(task.inputs[source].astype(np.int64))[None],
        "position_ids": torch.from_numpy(positions)[None],
        "output_positions": torch.from_numpy(predicted),
        "cu_seq_lens_q": cu_seq_lens,
        "cu_seq_lens_k": cu_seq_lens,
        "max_length_q": longest,
        "max_length_k": longest,
    }
    answers_at = source[predicted]
    targets = torch.from_numpy(task.targets[answers_at].astype(np.int64))
    return PackedBatch(model_inputs, targets, answers_at, int(boundaries[-1]))
