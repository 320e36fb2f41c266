"""Examples as packed rows without padding, and the batches of a step: a function of seed, fold and epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from curr_ab.data.tokens import encode_pairs
from curr_ab.finetuning.examples import Indices
from curr_ab.finetuning.label_counts import bound_table, number_table
from curr_ab.finetuning.labelled_pairs import Example
from curr_ab.finetuning.losses import (
    Thresholds,
    fit_thresholds,
    ordinal_places,
    ordinal_scores,
    ranking_losses,
    reached,
)
from curr_ab.finetuning.recipe import Loss, Recipe
from curr_ab.randomness import random_stream
from curr_ab.training.packed_rows import pack
from curr_ab.training.processes import Group
from curr_ab.training.tasks import Task, is_residue
from curr_ab.words import UNKNOWN_LABEL

Floats = npt.NDArray[np.float64]
WINDOW = 64  # parts that are laid out together


class Part(NamedTuple):
    """Examples that the model computes at once; it answers once for each pair, or for each residue."""

    inputs: dict[str, Any]
    answers: Indices  # [A] which of all examples' answers the rows of logits are


class Rows(Protocol):
    """A source of the inputs of examples."""

    answer_ends: Indices  # where the answers of each example end among those of all

    def parts(self, examples: Indices, num_parts: int) -> Iterator[Part]:
        """These examples in so many parts."""


class TokenRows:
    """All examples as tokens; pairs of like length share a packed row."""

    def __init__(self, examples: Sequence[Example], recipe: Recipe, pad: bool = False) -> None:
        heavy = pa.array([example.heavy for example in examples], pa.string())
        light = pa.array([example.light for example in examples], pa.string())
        tokens, offsets = encode_pairs(heavy, light)
        self._ends = offsets[1:]
        self._asks_residues = recipe.target == "residues"
        if self._asks_residues:
            answering = is_residue(tokens)
        else:
            answering = np.zeros(len(tokens), bool)
            answering[offsets[:-1]] = True  # a pair answers once: its first token stands for it
        self._pad = pad
        self._ask(Task(tokens, answering, tokens))

    def _ask(self, task: Task) -> None:
        """Have the model see and answer this."""
        self._task = task
        self._answers_at = np.flatnonzero(task.predicted)
        self.answer_ends: Indices = np.searchsorted(self._answers_at, self._ends)

    @property
    def lengths(self) -> Indices:
        """Tokens of each example."""
        return np.diff(self._ends, prepend=0)

    def parts(self, examples: Indices, num_parts: int) -> Iterator[Part]:
        """These examples in so many rows."""
        for batch in pack(self._task, self._ends, examples, num_parts, self._pad):
            inputs = dict(batch.model_inputs)
            if not self._asks_residues:
                del inputs["output_positions"]
            yield Part(inputs, np.searchsorted(self._answers_at, batch.answers_at))

    def places(self, examples: Indices, num_parts: int) -> Iterator[tuple[Tensor, Indices]]:
        """Where in the rows of each part its tokens stand, and which of all examples' tokens they are."""
        every = replace(self._task, predicted=np.ones_like(self._task.predicted))
        for batch in pack(every, self._ends, examples, num_parts, self._pad):
            yield batch.model_inputs["output_positions"], batch.answers_at


def answers_of(examples: Indices, answer_ends: Indices) -> Indices:
    """The numbers of these examples' answers, one example after the other."""
    starts = np.concatenate([[0], answer_ends[:-1]])
    return np.concatenate([np.arange(starts[index], answer_ends[index]) for index in examples])


class Share(NamedTuple):
    """One process's part of a batch."""

    examples: Indices
    num_parts: int  # the same in every process: a sharded model computes with all of them or not at all
    counts: bool  # False: the process has nothing of its own, and repeats what another computes


def share_of(examples: Indices, most_at_once: int, group: Group) -> Share:
    """This process's share of a batch."""
    largest = -(-len(examples) // group.num_processes)
    mine = examples[group.rank :: group.num_processes]
    return Share(mine if len(mine) else examples[:1], -(-largest // most_at_once), len(mine) > 0)


def shares_of(examples: Indices, most_at_once: int, group: Group) -> Iterator[Share]:
    """This process's shares of many examples, a window of batches at a time."""
    size = WINDOW * most_at_once * group.num_processes
    for first in range(0, len(examples), size):
        yield share_of(examples[first : first + size], most_at_once, group)


def epoch_order(recipe: Recipe, fold: int, epoch: int, examples: Indices) -> Indices:
    """These examples as an epoch goes through them."""
    return random_stream(recipe.seed, "order", fold, epoch).permutation(examples)


@dataclass(frozen=True)
class RightAnswers:
    """Targets of one fold; numbers are in standard deviations of the training part, from its mean.

    Several columns are learnt at once as [A, columns]: as many numbers, or the second of two classes or not.
    """

    labels: Tensor  # [A] or [A, columns] classes or numbers
    weights: Tensor  # the same shape; 0 where nothing is known
    num_outputs: int
    mean: Floats = field(default_factory=lambda: np.zeros(1))  # [columns]
    deviation: Floats = field(default_factory=lambda: np.ones(1))
    bounds: Tensor | None = None  # the same shape: 1 where the truth is above the number, -1 below
    loss: Loss = "cross_entropy"
    ranks: Tensor | None = None  # of numbers whose order is learnt: fp32 has not the digits for all of them
    thresholds: Thresholds | None = None  # of classes in order, once the fit is over

    @property
    def are_numbers(self) -> bool:
        return self.labels.is_floating_point()

    def weight(self, answers: Indices) -> float:
        """Sum of the weights of these answers."""
        return float(self.weights[answers].sum(dtype=torch.float64))

    def loss_sum(self, logits: Tensor, answers: Indices) -> Tensor:
        """Weighted loss of these answers, summed."""
        compared = self.labels if self.ranks is None else self.ranks
        labels, weights = (each[answers].to(logits.device) for each in (compared, self.weights))
        logits = logits.float()
        if self.are_numbers:
            bounds = None if self.bounds is None else self.bounds[answers].to(logits.device)
            losses = self._losses_of_numbers(logits.squeeze(-1), labels, bounds, weights)
        elif labels.ndim > 1:
            losses = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        elif self.loss == "ordinal":
            places = ordinal_places(self.num_outputs).to(logits)
            losses = F.mse_loss(ordinal_scores(logits), places[labels], reduction="none")
        else:
            losses = F.cross_entropy(logits, labels, reduction="none")
        return (losses * weights).sum()

    def _losses_of_numbers(
        self, predicted: Tensor, labels: Tensor, bounds: Tensor | None, weights: Tensor
    ) -> Tensor:
        if self.loss == "ranking":
            bounds = torch.zeros_like(labels) if bounds is None else bounds
            tables = (each.reshape(len(labels), -1) for each in (predicted, labels, bounds, weights))
            columns = zip(*(table.unbind(1) for table in tables), strict=True)
            losses = [ranking_losses(*column) for column in columns]
            return torch.stack(losses, dim=1).reshape(labels.shape)
        if bounds is not None:
            labels = reached(predicted, labels, bounds)
        return (F.huber_loss if self.loss == "huber" else F.mse_loss)(predicted, labels, reduction="none")

    def meaning(self, logits: Tensor) -> Floats:
        """Numbers [A] in the units of the data, or a probability for each class or column."""
        exact = logits.double().cpu()
        if self.are_numbers:
            numbers = np.asarray(exact) * self.deviation + self.mean
            return numbers if self.labels.ndim > 1 else numbers[:, 0]
        if self.labels.ndim > 1:
            return np.asarray(exact.sigmoid())
        if self.thresholds is not None:
            exact = exact @ self.thresholds.matrix.T + self.thresholds.biases
        return np.asarray(exact.softmax(dim=-1))

    def finished(self, logits: Tensor, answers: Indices) -> RightAnswers:
        """The same after a fit whose loss leaves something open, by the logits for these training answers.

        A ranking leaves the unit open, and classes in order the thresholds between them.
        """
        if self.loss == "ordinal":
            labels, weights = self.labels[answers], self.weights[answers]
            scores = ordinal_scores(logits.cpu())
            return replace(self, thresholds=fit_thresholds(scores, labels, weights, self.num_outputs))
        return self.in_units(logits, answers) if self.loss == "ranking" else self

    def in_units(self, logits: Tensor, answers: Indices) -> RightAnswers:
        """The same after a ranking: a line through these answers puts scores into the units of the data."""
        shape = len(answers), self.num_outputs
        scores, labels, weights = (
            each.double().cpu().numpy().reshape(shape)
            for each in (logits, self.labels[answers], self.weights[answers])
        )
        mean, deviation = self.mean.copy(), self.deviation.copy()
        for column in range(self.num_outputs):
            score, label, weight = scores[:, column], labels[:, column], weights[:, column]
            middle, height = np.average(score, weights=weight), np.average(label, weights=weight)
            spread = np.average((score - middle) ** 2, weights=weight)
            slope = np.average((score - middle) * (label - height), weights=weight) / max(spread, 1e-12)
            slope = max(slope, 1e-6)  # a line must not turn the order round
            mean[column] += self.deviation[column] * (height - slope * middle)
            deviation[column] *= slope
        return replace(self, mean=mean, deviation=deviation)


def right_answers(examples: Iterable[Example], recipe: Recipe, training: Indices) -> RightAnswers:
    """Targets of all examples; `training` are the answers from which weights and units are taken."""
    examples = list(examples)
    own = np.array([example.weight for example in examples], np.float32)
    if recipe.target == "number":
        return _right_numbers(examples, recipe, training, own)
    if recipe.target == "residues":
        classes = np.concatenate([np.asarray(example.label, np.int64) for example in examples])
        own = np.repeat(own, [example.num_residues for example in examples])
    else:
        classes = np.array([example.label for example in examples], np.int64)
    known = classes != UNKNOWN_LABEL
    weights = known.astype(np.float32)
    if recipe.class_weights == "balanced":
        columns = zip(*(np.atleast_2d(each.T) for each in (classes, known, weights)), strict=True)
        for of_column, is_known, balanced in columns:  # views: what is balanced are the weights
            of_training = of_column[training][is_known[training]]
            counts = np.bincount(of_training, minlength=len(recipe.labels))
            balanced[is_known] = (counts.sum() / (len(counts) * np.maximum(counts, 1)))[of_column[is_known]]
    weights *= own if weights.ndim == 1 else own[:, None]
    labels = torch.from_numpy(np.where(known, classes, 0))
    loss = recipe.loss or "cross_entropy"
    return RightAnswers(labels, torch.from_numpy(weights), len(recipe.outputs), loss=loss)


def _right_numbers(
    examples: Sequence[Example], recipe: Recipe, training: Indices, own: npt.NDArray[np.float32]
) -> RightAnswers:
    numbers, bounds = number_table(examples), bound_table(examples, recipe)
    known = ~np.isnan(numbers)
    mean, deviation = np.zeros(len(recipe.tasks)), np.ones(len(recipe.tasks))
    for column in range(len(recipe.tasks)):
        of_training = numbers[training, column][known[training, column]]
        mean[column] = of_training.mean()
        deviation[column] = of_training.std() or 1.0  # all the same: the mean is right
    labels = torch.from_numpy(np.where(known, (numbers - mean) / deviation, 0)).float()
    weights = torch.from_numpy(known * own[:, None])
    shape = (len(numbers), len(recipe.tasks)) if recipe.label_columns else (len(numbers),)
    return RightAnswers(
        labels.reshape(shape),
        weights.reshape(shape),
        len(recipe.tasks),
        mean,
        deviation,
        torch.from_numpy(bounds).reshape(shape) if bounds.any() else None,
        recipe.loss or "mse",
        _ranks(numbers).reshape(shape) if recipe.loss == "ranking" else None,
    )


def _ranks(numbers: Floats) -> Tensor:
    """Rank of each number in its column; equal ones have the same."""
    columns = [np.unique(column, return_inverse=True)[1].ravel() for column in numbers.T]
    return torch.from_numpy(np.stack(columns, axis=1)).float()
