"""Losses of single answers, [answers] or [answers, columns], that no library has in this form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_HOLD = 1e-3  # on squared thresholds: classes that a line parts would have none


def ordinal_places(num_classes: int) -> Tensor:
    """Where classes in order lie on a line: one apart, around 0."""
    return torch.arange(num_classes, dtype=torch.float64) - (num_classes - 1) / 2


def ordinal_scores(logits: Tensor) -> Tensor:
    """The place on that line which the logits [answers, classes] point at."""
    places = ordinal_places(logits.shape[1]).to(logits)
    return logits @ places / (places @ places)


@dataclass(frozen=True)
class Thresholds:
    """Logits of classes in order by the place on the line: `slope * place of the class * place + bias`.

    That is a classifier of one direction, whose neighbouring classes differ by equal steps of log-odds, so it
    needs far fewer examples than one with a direction for each class; and its softmax is any other's.
    """

    slope: float
    biases: Tensor  # [classes]

    @property
    def matrix(self) -> Tensor:
        """The same as a linear map of logits [classes, classes], before the biases are added."""
        places = ordinal_places(len(self.biases))
        return self.slope * torch.outer(places, places) / (places @ places)


def fit_thresholds(scores: Tensor, labels: Tensor, weights: Tensor, num_classes: int) -> Thresholds:
    """The thresholds with the least log loss on these answers, held back a little from certainty."""
    places, scores = ordinal_places(num_classes), scores.double()
    parameters = torch.zeros(1 + num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = parameters[0] * scores[:, None] * places + parameters[1:]
        losses = F.cross_entropy(logits, labels, reduction="none") * weights
        total = losses.sum() / weights.sum() + _HOLD * parameters.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = parameters.detach()
    return Thresholds(float(found[0]), found[1:])


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
