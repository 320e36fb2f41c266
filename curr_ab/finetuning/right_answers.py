"""What is right for every answer of the model, how much it counts, and what logits mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from curr_ab.finetuning.examples import Example
from curr_ab.finetuning.labelled_batches import Indices
from curr_ab.finetuning.labels import UNKNOWN_RESIDUE
from curr_ab.finetuning.recipe import Recipe


@dataclass(frozen=True)
class RightAnswers:
    """Of one fold; numbers are learnt in units of the training part's standard deviation, from its mean."""

    labels: Tensor  # [A] classes or numbers
    weights: Tensor  # [A] 0 where nothing is known
    num_outputs: int
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def are_numbers(self) -> bool:
        return self.labels.is_floating_point()

    def weight(self, answers: Indices) -> float:
        """What these answers count together."""
        return float(self.weights[answers].sum(dtype=torch.float64))

    def loss_sum(self, logits: Tensor, answers: Indices) -> Tensor:
        """Weighted loss of these answers, summed."""
        labels, weights = (each[answers].to(logits.device) for each in (self.labels, self.weights))
        if self.are_numbers:
            losses = F.mse_loss(logits.float().squeeze(-1), labels, reduction="none")
        else:
            losses = F.cross_entropy(logits.float(), labels, reduction="none")
        return (losses * weights).sum()

    def meaning(self, logits: Tensor) -> npt.NDArray[np.float64]:
        """Numbers [A] in the units of the data, or the probability of each class [A, C]."""
        exact = logits.double().cpu()
        if self.are_numbers:
            return np.asarray(exact.squeeze(-1) * self.deviation + self.mean)
        return np.asarray(exact.softmax(dim=-1))


def right_answers(examples: Iterable[Example], recipe: Recipe, training: Indices) -> RightAnswers:
    """Of all examples; `training` are the answers from which weights and units are taken."""
    if recipe.target == "number":
        numbers = np.array([one.label for one in examples], np.float64)
        mean, deviation = float(numbers[training].mean()), float(numbers[training].std())
        deviation = deviation or 1.0  # all the same: the mean is right
        scaled = torch.from_numpy((numbers - mean) / deviation).float()
        return RightAnswers(scaled, torch.ones(len(scaled)), 1, mean, deviation)
    if recipe.target == "residues":
        classes = np.concatenate([np.asarray(one.label, np.int64) for one in examples])
    else:
        classes = np.array([one.label for one in examples], np.int64)
    known = classes != UNKNOWN_RESIDUE
    weights = known.astype(np.float32)
    if recipe.class_weights == "balanced":
        counts = np.bincount(classes[training][known[training]], minlength=len(recipe.labels))
        weights[known] = (counts.sum() / (len(counts) * np.maximum(counts, 1)))[classes[known]]
    labels = torch.from_numpy(np.where(known, classes, 0))
    return RightAnswers(labels, torch.from_numpy(weights), len(recipe.labels))
