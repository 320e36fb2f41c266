"""Regressions beside every method: a probe of the member, baselines that need no model, and a mere guess."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curr_ab.finetuning.batches import answers_of
from curr_ab.finetuning.choice import blended
from curr_ab.finetuning.examples import Examples, Indices, family_numbers
from curr_ab.finetuning.folds import families_of
from curr_ab.finetuning.label_counts import exact_table, label_table, weight_table
from curr_ab.finetuning.recipe import Recipe
from curr_ab.measures.metrics import Flags, Floats, Labels
from curr_ab.probes.regression import Regression, choose_regression
from curr_ab.probes.residue_windows import RESIDUE_WINDOWS, residue_windows
from curr_ab.probes.sequence_features import BASELINES, sequence_features
from curr_ab.words import UNKNOWN_LABEL, Target


@dataclass(frozen=True)
class Answers:
    """What regressions learn: a row for each pair, or for each residue."""

    labels: Labels  # [answers] or [answers, columns] classes, -100 where unknown, or numbers
    groups: Labels  # [answers] numbers of the families that folds hold apart
    ends: Indices  # [examples] where the answers of each example end
    target: Target
    num_classes: int
    balanced: bool
    seed: int
    weights: Floats | None = None  # [answers]
    exact: Flags | None = None  # as labels: False for a bound; None where there is none

    def of(self, examples: Indices) -> Indices:
        """The answers of these examples."""
        return answers_of(examples, self.ends)

    def examples_of(self, examples: Indices) -> Indices:
        """The example of each of these answers."""
        return np.repeat(examples, np.diff(self.ends, prepend=0)[examples])

    @property
    def firsts(self) -> Indices:
        """The first answer of each example."""
        return np.concatenate([[0], self.ends[:-1]])

    @property
    def known(self) -> Labels:
        """True where a label is known."""
        return np.asarray(np.isfinite(self.labels) & (self.labels != UNKNOWN_LABEL))

    @property
    def measured(self) -> Labels:
        """True where scores and losses are taken: a bound says nothing of how far a prediction is off."""
        return self.known if self.exact is None else np.asarray(self.known & self.exact)


class Scored(NamedTuple):
    """A regression on one set of features, and the share that it explains of what inner folds left out."""

    regression: Regression
    score: float


@dataclass
class Contenders:
    """Regressions on every set of features, for one training part after the other."""

    answers: Answers
    member: Mapping[str, npt.NDArray[Any]]  # [answers, width] by the name of the set
    sequence: Mapping[str, npt.NDArray[Any]]
    _fitted: dict[tuple[bytes, str], Scored] = field(default_factory=dict)

    @property
    def features(self) -> Mapping[str, npt.NDArray[Any]]:
        """All sets."""
        return ChainMap(dict(self.member), dict(self.sequence))

    def scored(self, name: str, train: Indices) -> Scored:
        """The regression on one set of features; strengths are chosen inside the training part."""
        key = train.tobytes(), name
        if key not in self._fitted:
            rows = self.answers.of(train)
            choice = choose_regression(
                {name: self.features[name][rows]},
                self.answers.labels[rows],
                target=self.answers.target,
                num_classes=self.answers.num_classes,
                groups=self.answers.groups[rows].tolist(),
                weights=None if self.answers.weights is None else self.answers.weights[rows],
                balanced=self.answers.balanced,
                seed=self.answers.seed,
            )
            self._fitted[key] = Scored(choice.regression, choice.scores[name])
        return self._fitted[key]

    def scores(self, train: Indices) -> dict[str, float]:
        """Scores of all sets, by folds inside the training part."""
        return {name: self.scored(name, train).score for name in self.features}

    def best_of_member(self, train: Indices) -> str:
        """The member's set that served best inside the training part."""
        return max(self.member, key=lambda name: self.scored(name, train).score)

    def predict(self, names: tuple[str, ...], train: Indices, test: Indices) -> Floats:
        """Predictions for the answers of a test part, by the mean of the regressions on these sets."""
        rows = self.answers.of(test)
        features = np.concatenate([self.features[name][rows] for name in names], axis=1)
        return self.blend(names, train).predict(features)

    def blend(self, names: tuple[str, ...], train: Indices) -> Regression:
        """The mean of the regressions on these sets, as one on all of them side by side."""
        return blended([self.scored(name, train).regression for name in names])

    def guess(self, train: Indices, test: Indices) -> Floats:
        """The share of each class in the training part, or the mean of its numbers; each column's own."""
        rows, num_answers = self.answers.of(train), len(self.answers.of(test))
        labels, known = self.answers.labels[rows], self.answers.known[rows]
        if labels.ndim > 1:  # of two classes, 0 and 1, the mean is the share of the second
            return np.tile(np.where(known, labels, 0).sum(axis=0) / known.sum(axis=0), (num_answers, 1))
        if not self.answers.num_classes:
            return np.full(num_answers, labels[known].mean())
        counts = np.bincount(labels[known].astype(np.int64), minlength=self.answers.num_classes)
        return np.tile(counts / counts.sum(), (num_answers, 1))

    def forget(self) -> None:
        """Leave no regression in memory."""
        self._fitted.clear()


def make_contenders(
    recipe: Recipe, examples: Examples, ends: Indices, member: Mapping[str, npt.NDArray[Any]]
) -> Contenders:
    """The member's features of these examples, and what stands beside them without a model."""
    pairs = [example.chains for example in examples]
    answers = answers_for(recipe, examples, ends)
    if recipe.target == "residues":
        return Contenders(answers, member, {RESIDUE_WINDOWS: residue_windows(pairs)})
    sequence = {name: sequence_features(name, pairs) for name in BASELINES}
    return Contenders(answers, member, sequence)


def answers_for(recipe: Recipe, examples: Examples, ends: Indices) -> Answers:
    """What regressions learn of these examples; `ends` are where the answers of each end."""
    families = inner_families(recipe, examples)
    return Answers(
        label_table(examples.items, recipe).astype(np.float64),
        np.repeat(families, np.diff(ends, prepend=0)),
        ends,
        recipe.target,
        len(recipe.labels),
        recipe.class_weights == "balanced",
        recipe.seed,
        weight_table(examples.items, recipe),
        exact_table(examples.items, recipe),
    )


def inner_families(recipe: Recipe, examples: Examples) -> Indices:
    """What folds inside a training part hold apart: the groups, and equal pairs whatever the scheme."""
    families = families_of(examples, recipe)
    if families is None:
        families = family_numbers(range(len(examples)), (item.chains for item in examples))
    return families
