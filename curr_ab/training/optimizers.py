"""Parameter groups and learning rates of both trainers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """The trainable ones; biases and norms are without weight decay, as in transformers' Trainer."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [one for one in trained if one.dim() > 1], "weight_decay": weight_decay},
        {"params": [one for one in trained if one.dim() <= 1], "weight_decay": 0.0},
    ]


def scheduled_rate(
    step: int, *, peak: float, num_steps: int, warmup_steps: int, schedule: str = "linear"
) -> float:
    """Learning rate of a step, counted from 0; as in transformers' schedules, a warm-up begins at rate 0."""
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    match schedule:
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * (1 + math.cos(math.pi * progress)) / 2
        case "constant":
            return peak
    raise ValueError(f"schedule must be linear, cosine or constant; got {schedule!r}")


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Give every parameter the same rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
