"""Optimisers and learning rates of both trainers."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """The same for every parameter."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
