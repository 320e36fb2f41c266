"""The best penalty of a regression on one set of features, by predictions of rows that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from curr_ab.measures.metrics import Floats
from curr_ab.probes.inner_folds import Numbers
from curr_ab.probes.logistic import LogisticPath, fit_logistic
from curr_ab.probes.ridge import Ridge
from curr_ab.probes.rotation import Rotation, rotate
from curr_ab.randomness import random_stream

# For each feature, whose variance is 1: from hardly any freedom to hardly any shrinking.
STRENGTHS = tuple(10.0 ** (power / 2) for power in range(4, -9, -1))
_WITHOUT_FOLDS = 1.0
_PATIENCE = 3  # so many weaker strengths that serve no output better end the path
# On more rows the best strength hardly depends; residues are many.
_MOST_ROWS = 6_000


@dataclass(frozen=True, eq=False)
class Best:
    """The strength [outputs] that explains most of what was left out, and the share of it [outputs]."""

    strengths: Floats
    scores: Floats


class NumberFit:
    """Ridge regressions of numbers [rows, outputs] that are known of the same rows."""

    def __init__(
        self, values: npt.NDArray[Any], labels: Floats, weights: Floats, folds: Numbers, seed: int
    ) -> None:
        self.values, self.labels, self.weights, self.folds, self.seed = values, labels, weights, folds, seed

    @cached_property
    def ridge(self) -> Ridge:
        return Ridge(rotate(self.values, self.weights), self.labels, self.weights)

    @cached_property
    def best(self) -> Best:
        rows = _sample(len(self.labels), self.seed)
        if rows is None:
            ridge, folds = self.ridge, self.folds
        else:
            rotation = rotate(self.values[rows], self.weights[rows])
            ridge, folds = Ridge(rotation, self.labels[rows], self.weights[rows]), self.folds[rows]
        return _best(
            lambda strength: ridge.explained(strength, folds), ridge.rotation, self.labels.shape[1], folds
        )

    def fit(self, strength: float | None) -> tuple[Floats, Floats]:
        """Weights [width, outputs] and bias for raw features, at the best strength or this one."""
        strengths = self.best.strengths if strength is None else np.full(self.labels.shape[1], strength)
        return self.ridge.rotation.raw(*self.ridge.fit(strengths))


class ClassFit:
    """A logistic regression of classes [rows]; of two classes its output is the log-odds of the second."""

    def __init__(
        self,
        values: npt.NDArray[Any],
        labels: Numbers,
        weights: Floats,
        folds: Numbers,
        seed: int,
        num_classes: int,
    ) -> None:
        self.values, self.labels, self.weights, self.folds = values, labels, weights, folds
        self.seed, self.num_classes = seed, num_classes

    @cached_property
    def rotation(self) -> Rotation:
        return rotate(self.values, self.weights)

    @cached_property
    def best(self) -> Best:
        rows = _sample(len(self.labels), self.seed)
        chosen = slice(None) if rows is None else rows
        weights, folds = self.weights[chosen], self.folds[chosen]
        rotation = self.rotation if rows is None else rotate(self.values[rows], weights)
        path = LogisticPath(rotation.scores, self.labels[chosen], weights, self.num_classes, folds)
        return _best(lambda strength: np.array([path.explained(strength)]), rotation, 1, folds)

    def fit(self, strength: float | None) -> tuple[Floats, Floats]:
        """Weights [width, outputs] and bias for raw features, at the best strength or this one."""
        strength = float(self.best.strengths[0]) if strength is None else strength
        found = fit_logistic(self.rotation.scores, self.labels, self.weights, self.num_classes, strength)
        if self.num_classes > 2:
            return self.rotation.raw(found.weights, found.bias)
        return self.rotation.raw(found.weights[:, 1:] - found.weights[:, :1], found.bias[1:] - found.bias[:1])


def _sample(num_rows: int, seed: int) -> Numbers | None:
    """Rows to choose by; None for all."""
    if num_rows <= _MOST_ROWS:
        return None
    return np.sort(random_stream(seed, "rows to choose by").permutation(num_rows)[:_MOST_ROWS])


def _best(explained: Callable[[float], Floats], rotation: Rotation, num_outputs: int, folds: Numbers) -> Best:
    scale = float(rotation.num_features)
    if len(np.unique(folds)) < 2:
        return Best(np.full(num_outputs, _WITHOUT_FOLDS * scale), np.zeros(num_outputs))
    best = Best(np.full(num_outputs, STRENGTHS[0] * scale), np.full(num_outputs, -np.inf))
    num_worse = 0
    for strength in STRENGTHS:
        scores = explained(strength * scale)
        better = scores > best.scores
        best.strengths[better], best.scores[better] = strength * scale, scores[better]
        num_worse = 0 if better.any() else num_worse + 1
        if num_worse == _PATIENCE:
            break
    return best
