"""Losses of single answers, [answers] or [answers, columns], that no library has in this form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cumulative_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of classes in order: the log loss of `at most class k`, summed over all k but the last.

    The probabilities are those of the softmax, so what is trained is a classifier like any other, and its
    cumulative probabilities are in order by themselves; far misses cost more than near ones.
    """
    logs = logits.log_softmax(-1)
    at_most = logs.logcumsumexp(-1)[:, :-1]
    above = logs.flip(-1).logcumsumexp(-1).flip(-1)[:, 1:]
    places = torch.arange(at_most.shape[1], device=labels.device)
    return -torch.where(labels[:, None] <= places, at_most, above).sum(-1)


def reached(predicted: Tensor, labels: Tensor, bounds: Tensor) -> Tensor:
    """The labels that a loss compares with: a prediction on the right side of a bound is right as it is."""
    right = ((bounds > 0) & (predicted > labels)) | ((bounds < 0) & (predicted < labels))
    return torch.where(right, predicted.detach(), labels)


def ranking_losses(predicted: Tensor, labels: Tensor, bounds: Tensor, weights: Tensor) -> Tensor:
    """Mean log loss of the order of each answer and all others whose order with it is known [answers].

    Of answers without a weight nothing is known, and of a bound the order with what lies beyond it.
    """
    lowest = labels.masked_fill(bounds < 0, -torch.inf)
    highest = labels.masked_fill(bounds > 0, torch.inf)
    # One is above another where all that it may be is; a bound itself is not reached.
    above = lowest[:, None] > highest[None, :]
    above |= (lowest[:, None] == highest[None, :]) & ((bounds[:, None] > 0) | (bounds[None, :] < 0))
    above &= (weights[:, None] > 0) & (weights[None, :] > 0)
    losses = F.softplus(predicted[None, :] - predicted[:, None]) * above
    counts = above.sum(1) + above.sum(0)
    return (losses.sum(1) + losses.sum(0)) / counts.clamp(min=1)
