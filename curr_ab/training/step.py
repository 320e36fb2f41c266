"""One step of an optimiser, of both trainers: the mean loss of a whole batch, however it is divided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from curr_ab.training.optimizers import set_learning_rate

MicroBatch = TypeVar("MicroBatch")


class Diverged(ValueError):
    """The loss or the gradient is no longer a number."""


def optimizer_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    micro_batches: Iterable[MicroBatch],
    summed_loss: Callable[[MicroBatch], Tensor],
    *,
    num_micro_batches: int,
    total_weight: float,
    num_processes: int,
    counts: bool = True,
    learning_rate: float,
    max_gradient_norm: float,
    randomness: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Summed loss of this process's micro-batches, and the length of the gradient; neither is waited for.

    `total_weight` is that of the targets in all of the `num_processes` that divide the batch. A process that
    repeats the work of another takes part, but does not count.
    """
    # Dropout follows from seed, step and rank, so no random state has to be saved, and none can be lost.
    torch.manual_seed(int(randomness.integers(1 << 62)))
    set_learning_rate(optimizers, learning_rate)
    # DDP and FSDP average gradients over processes; the mean over targets wants their sum.
    scale = counts * num_processes / total_weight
    loss_sum = torch.zeros((), device=accelerator.device)
    for number, micro_batch in enumerate(micro_batches, start=1):
        # Gradients are exchanged once, after the last micro-batch.
        with accelerator.no_sync(model) if number < num_micro_batches else nullcontext():
            loss = summed_loss(micro_batch)
            accelerator.backward(loss * scale)
        loss_sum += loss.detach() * counts
    gradient_norm: Tensor = accelerator.clip_grad_norm_(model.parameters(), max_gradient_norm)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss_sum, gradient_norm
