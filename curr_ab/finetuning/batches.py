"""Examples as packed rows without padding, and the batches of a step: a function of seed, fold and epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from curr_ab.data.tokens import encode_pairs
from curr_ab.finetuning.examples import Indices
from curr_ab.finetuning.labelled_pairs import Example
from curr_ab.finetuning.recipe import Recipe
from curr_ab.randomness import random_stream
from curr_ab.training.packed_rows import pack
from curr_ab.training.processes import Group
from curr_ab.training.tasks import Task, is_residue
from curr_ab.words import UNKNOWN_LABEL

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
    """Targets of one fold; numbers are in standard deviations of the training part, from its mean."""

    labels: Tensor  # [A] classes or numbers
    weights: Tensor  # [A] 0 where nothing is known
    num_outputs: int
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def are_numbers(self) -> bool:
        return self.labels.is_floating_point()

    def weight(self, answers: Indices) -> float:
        """Sum of the weights of these answers."""
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
    """Targets of all examples; `training` are the answers from which weights and units are taken."""
    if recipe.target == "number":
        numbers = np.array([example.label for example in examples], np.float64)
        mean, deviation = float(numbers[training].mean()), float(numbers[training].std())
        deviation = deviation or 1.0  # all the same: the mean is right
        scaled = torch.from_numpy((numbers - mean) / deviation).float()
        return RightAnswers(scaled, torch.ones(len(scaled)), 1, mean, deviation)
    if recipe.target == "residues":
        classes = np.concatenate([np.asarray(example.label, np.int64) for example in examples])
    else:
        classes = np.array([example.label for example in examples], np.int64)
    known = classes != UNKNOWN_LABEL
    weights = known.astype(np.float32)
    if recipe.class_weights == "balanced":
        counts = np.bincount(classes[training][known[training]], minlength=len(recipe.labels))
        weights[known] = (counts.sum() / (len(counts) * np.maximum(counts, 1)))[classes[known]]
    labels = torch.from_numpy(np.where(known, classes, 0))
    return RightAnswers(labels, torch.from_numpy(weights), len(recipe.labels))
