"""One step of both trainers: parameter groups, the learning rate, the mean loss of a whole batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

MicroBatch = TypeVar("MicroBatch")


class Diverged(ValueError):
    """Raised when the loss or the gradient is not a number any more."""


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """The trainable ones; biases and norms are without weight decay, as in transformers' Trainer."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]  # an empty one cannot be restored from a state


def scheduled_rate(
    step: int,
    *,
    peak: float,
    num_steps: int,
    warmup_steps: int,
    schedule: str = "linear",
    decay_steps: int = 0,
) -> float:
    """Learning rate of a step, counted from 0; as in transformers' schedules, a warm-up begins at rate 0.

    In its last `decay_steps` a constant rate falls to 0.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    match schedule:
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * (1 + math.cos(math.pi * progress)) / 2
        case "constant":
            return peak * min(1.0, (num_steps - step) / decay_steps) if decay_steps else peak
    raise ValueError(f"schedule must be linear, cosine or constant; got {schedule!r}")


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Give every parameter the same rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


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
    keep_gradients: bool = False,
    learning_rate: float,
    max_gradient_norm: float,
    randomness: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Summed loss of this process's micro-batches, and the length of the gradient; neither is waited for.

    `total_weight` is that of the targets in all of the `num_processes` that divide the batch. A process that
    repeats the work of another takes part, but does not count. `keep_gradients` holds them at one place in
    memory: what replays a recorded graph overwrites gradients of its own before the next micro-batch adds to
    them.
    """
    # Dropout follows from seed, step and rank, so no random state has to be saved, and none can be lost.
    torch.manual_seed(int(randomness.integers(1 << 62)))
    set_learning_rate(optimizers, learning_rate)
    # DDP and FSDP average gradients over processes; the mean over targets wants their sum.
    scale = counts * num_processes / total_weight
    if keep_gradients:
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
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
        optimizer.zero_grad(set_to_none=not keep_gradients)
    return loss_sum, gradient_norm
