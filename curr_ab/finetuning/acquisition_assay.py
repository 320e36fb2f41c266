"""An assay on which rounds are tried out: features and labels of all its pairs, and regressions on some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curr_ab.finetuning.acquisition_plan import AcquisitionPlan, RoundsPlan
from curr_ab.finetuning.examples import read_examples
from curr_ab.finetuning.label_counts import weight_table
from curr_ab.finetuning.model import find_base
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.uncertainty_neighbours import residues_of
from curr_ab.measures.metrics import Floats, Labels, measure
from curr_ab.measures.repertoires import Residues
from curr_ab.options import OptionError, unknown
from curr_ab.probes.inner_folds import inner_folds
from curr_ab.probes.regression import fit_regression
from curr_ab.probes.sequence_features import BASELINES, Pair, sequence_features
from curr_ab.probes.strengths import ClassFit, NumberFit
from curr_ab.words import Target

MOST_DRAWS = 100  # of pairs until there are two labels among them


@dataclass(frozen=True, kw_only=True)
class Assay:
    """All pairs of an assay as features, with what was measured."""

    features: Floats
    labels: Labels  # numbers, or indices of classes
    target: Target
    num_classes: int
    wanted: int  # the class that is wanted; 0 of numbers
    sign: float  # -1 where low values are wanted
    residues: Residues
    weights: Floats | None = None  # of the pairs in the regressions; None: alike
    notes: tuple[str, ...] = ()  # what the user should know of how the assay was read

    @property
    def values(self) -> Floats:
        """What is to be as high as can be: the number, or 1 for the class that is wanted."""
        found = self.labels if self.target == "number" else self.labels == self.wanted
        return np.asarray(self.sign * found, np.float64)

    @property
    def found_name(self) -> str:
        """The name of what a round has found."""
        return "best number found" if self.target == "number" else "wanted pairs found"

    @property
    def score_name(self) -> str:
        """The metric on what is never measured."""
        return "spearman" if self.target == "number" else "auroc"

    def found(self, measured: Labels) -> float:
        """The best number so far, or how many pairs of the class there are."""
        values = self.values[measured]
        return float(self.sign * values.max() if self.target == "number" else np.abs(values).sum())

    def draws(self, measured: Labels, count: int, randomness: np.random.Generator) -> Floats:
        """Predictions [members, pairs] of regressions on bootstrapped pairs."""
        strength = self._strength(measured)  # once: with it, a member takes a tenth of the time
        predictions = []
        for _ in range(count):
            drawn = self._drawn(measured, randomness)
            regression = fit_regression(
                self.features[drawn],
                self.labels[drawn],
                weights=self._weights(drawn),
                target=self.target,
                num_classes=self.num_classes,
                strength=strength,
            )
            predicted = regression.predict(self.features)
            predictions.append(predicted if self.target == "number" else predicted[:, self.wanted])
        return self.sign * np.stack(predictions)

    def _strength(self, measured: Labels) -> float:
        """The penalty that serves best inside what is measured."""
        values, labels, weights = self.features[measured], self.labels[measured], self._weights(measured)
        if self.target == "number":
            folds = inner_folds(np.zeros(len(labels), np.int64), None, 0)
            return float(NumberFit(values, labels[:, None], weights, folds, 0).best.strengths[0])
        folds = inner_folds(labels, None, 0)
        return float(ClassFit(values, labels, weights, folds, 0, self.num_classes).best.strengths[0])

    def _weights(self, rows: Labels) -> Floats:
        return np.ones(len(rows)) if self.weights is None else self.weights[rows]

    def _drawn(self, measured: Labels, randomness: np.random.Generator) -> Labels:
        for _ in range(MOST_DRAWS):
            drawn = randomness.choice(measured, len(measured))
            if len(np.unique(self.labels[drawn])) > 1:
                break
        return drawn

    def score(self, predicted: Floats, part: Labels) -> float:
        """How well these pairs are ranked; NaN where its labels leave that undefined."""
        labels, predicted = self.labels[part], predicted[part] * self.sign
        if len(np.unique(labels)) < 2:
            return float("nan")
        if self.target == "number":
            return measure("number", labels, predicted)["spearman"]
        truth = (labels == self.wanted).astype(int)
        if len(np.unique(truth)) < 2:
            return float("nan")
        shares = np.stack([1 - predicted, predicted], axis=1)
        return measure("classes", truth, shares, ("other", "wanted"))["auroc"]


def read_assay(
    recipe: Recipe, model: str | Path, data: Any, plan: RoundsPlan, acquisition: AcquisitionPlan
) -> Assay:
    """The assay of a table by the recipe's columns, as features of the member or of residues alone."""
    if recipe.target == "residues":
        raise ValueError("rounds are tried out for numbers and classes of pairs; take a recipe of those")
    if recipe.label_columns:
        raise OptionError("label_columns must be none for rounds, which are of one label", "label_columns")
    label = acquisition.label
    if recipe.target == "number" and label is not None:
        raise OptionError(f"label must be left out for a number; got {label!r}", "label")
    if label is not None and label not in recipe.labels:
        raise OptionError(unknown("label", label, recipe.labels), "label")
    examples = read_examples(replace(recipe, folds=1), data)
    items = [example for example in examples if not any(example.bounds)]
    notes = [*examples.notes]
    if bounded := len(examples) - len(items):
        notes.append(f"rounds leave the {bounded:,} bounds out: what they hide cannot be found")
    if len(items) < 2:
        raise ValueError("the assay must have numbers that are no bounds; it has fewer than two: give others")
    pairs = [example.chains for example in items]
    num_classes, weights = len(recipe.labels), weight_table(items, recipe)
    return Assay(
        features=_features(plan.features, model, pairs),
        labels=np.array([example.label for example in items]),
        target=recipe.target,
        num_classes=num_classes,
        wanted=recipe.labels.index(label) if label is not None else max(0, num_classes - 1),
        sign=1.0 if acquisition.goal == "high" else -1.0,
        residues=residues_of(pairs),
        weights=weights if (weights != 1).any() else None,
        notes=tuple(notes),
    )


def _features(name: str, model: str | Path, pairs: Sequence[Pair]) -> Floats:
    if name in BASELINES:
        return sequence_features(name, pairs)
    from curr_ab.checkpoints import load
    from curr_ab.probes.feature_names import MEMBER_FEATURES
    from curr_ab.probes.member_features import member_features

    if name not in MEMBER_FEATURES:
        raise OptionError(unknown("features", name, (*MEMBER_FEATURES, *BASELINES)), "features")
    loaded, tokenizer = load(find_base(model).source)
    return np.asarray(member_features(loaded, tokenizer, pairs, (name,))[name], np.float64)
