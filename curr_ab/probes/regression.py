"""Ridge and logistic regressions on features, their strength and their features chosen by inner folds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curr_ab.measures.metrics import Flags, Floats
from curr_ab.probes.inner_folds import Numbers, inner_folds
from curr_ab.probes.strengths import ClassFit, NumberFit
from curr_ab.words import UNKNOWN_LABEL, Target


@dataclass(frozen=True, eq=False)
class Regression:
    """A linear model on raw features; centring and scaling are part of its weights."""

    weights: Floats  # [width, outputs]; two classes have one output, the log-odds of the second
    bias: Floats  # [outputs]
    num_classes: int  # 0 for numbers

    def predict(self, values: npt.NDArray[Any]) -> Floats:
        """Probabilities [rows, classes], or numbers [rows], of several outputs [rows, outputs]."""
        outputs: Floats = np.asarray(values, np.float64) @ self.weights + self.bias
        if not self.num_classes:
            return outputs[:, 0] if outputs.shape[1] == 1 else outputs
        if self.num_classes == 2:
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def to_tensors(self) -> dict[str, Floats]:
        """Arrays for a safetensors file."""
        return {"weights": np.ascontiguousarray(self.weights), "bias": np.ascontiguousarray(self.bias)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]], num_classes: int) -> Regression:
        """The regression that `to_tensors` gave."""
        weights, bias = (np.asarray(tensors.get(name, ()), np.float64) for name in ("weights", "bias"))
        num_outputs = {0: len(bias), 2: 1}.get(num_classes, num_classes)
        if weights.ndim != 2 or not weights.shape[1] == len(bias) == num_outputs > 0:
            raise ValueError(
                f"a regression's tensors must be weights [width, {num_outputs}] and bias [{num_outputs}]; "
                f"got the shapes {list(weights.shape)} and {list(bias.shape)}; copy the file again"
            )
        return cls(weights, bias, num_classes)


@dataclass(frozen=True, eq=False)
class Choice:
    """A regression on those of several sets of features that served best inside the training part."""

    regression: Regression
    features: str
    scores: Mapping[str, float]  # share of variance or entropy explained of rows left out; 0 is the mean's


def fit_regression(
    values: npt.NDArray[Any],
    labels: npt.NDArray[Any] | Sequence[Any],
    *,
    target: Target,
    num_classes: int = 0,
    groups: Sequence[Hashable] | None = None,
    weights: npt.NDArray[Any] | None = None,
    balanced: bool = False,
    seed: int = 0,
    strength: float | None = None,
) -> Regression:
    """The regression on these features [rows, width], its strength chosen by folds that hold groups apart.

    `labels` are classes, -100 where unknown, or numbers, [rows] or [rows, outputs], NaN where unknown.
    `strength` is the penalty on squared weights of features of unit variance, where it is not to be chosen.
    """
    training = _Training.of(labels, target, num_classes, groups, weights, balanced, seed)
    return training.fits(values).regression(strength)


def choose_regression(
    features: Mapping[str, npt.NDArray[Any]],
    labels: npt.NDArray[Any] | Sequence[Any],
    *,
    target: Target,
    num_classes: int = 0,
    groups: Sequence[Hashable] | None = None,
    weights: npt.NDArray[Any] | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> Choice:
    """The regression on the features that predict best what inner folds leave out.

    Where nothing can be left out, as of a single group, the first features are taken, strongly shrunk.
    """
    if not features:
        raise ValueError("features must be one set or more by name; got none")
    training = _Training.of(labels, target, num_classes, groups, weights, balanced, seed)
    scores: dict[str, float] = {}
    best: tuple[str, _Fits] | None = None
    for name, values in features.items():
        fits = training.fits(values)
        scores[name] = fits.score
        if best is None or fits.score > scores[best[0]]:
            best = name, fits
    assert best is not None
    return Choice(best[1].regression(None), best[0], scores)


@dataclass(frozen=True, eq=False)
class _Training:
    """Labels of a training part, checked, and the folds inside it."""

    labels: npt.NDArray[Any]  # [rows, outputs]
    known: Flags  # [rows, outputs]
    weights: Floats
    folds: Numbers
    num_classes: int
    seed: int

    @classmethod
    def of(
        cls,
        given: Any,
        target: Target,
        num_classes: int,
        groups: Sequence[Hashable] | None,
        given_weights: Any,
        balanced: bool,
        seed: int,
    ) -> _Training:
        labels: npt.NDArray[Any]
        num_rows = len(given)
        weights = np.ones(num_rows) if given_weights is None else np.asarray(given_weights, np.float64)
        for name, others in {"weights": weights, "groups": groups}.items():
            if others is not None and len(others) != num_rows:
                raise ValueError(f"{name} must be one for each of {num_rows} labels; got {len(others)}")
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError("weights must be finite and not negative; correct them")
        if target == "number":
            num_classes, classes = 0, np.zeros(num_rows, np.int64)
            labels = np.asarray(given, np.float64).reshape(num_rows, -1)
            known = np.isfinite(labels) & (weights > 0)[:, None]
        else:
            labels = np.asarray(given, np.int64)[:, None]
            known = (labels != UNKNOWN_LABEL) & (weights > 0)[:, None]
            classes = np.where(known, labels, 0)[:, 0]
            low, high = int(classes.min(initial=0)), int(classes.max(initial=0))
            if num_classes < 2 or low < 0 or high >= num_classes:
                raise ValueError(
                    f"labels must be classes from 0 to num_classes - 1, two or more, or {UNKNOWN_LABEL}; "
                    f"got {low} to {high}, and num_classes {num_classes}"
                )
            if balanced:
                sums = np.bincount(classes[known[:, 0]], weights[known[:, 0]], num_classes)
                weights = weights * (sums.sum() / (num_classes * np.maximum(sums, 1e-12)))[classes]
        if not known.any(axis=0).all():
            raise ValueError("labels must be known of a row or more of each output; got none")
        return cls(labels, known, weights, inner_folds(classes, groups, seed), num_classes, seed)

    def fits(self, values: npt.NDArray[Any]) -> _Fits:
        """Fits on these features."""
        if values.ndim != 2 or len(values) != len(self.labels):
            raise ValueError(
                f"features must be a row for each of {len(self.labels)} labels; got {list(values.shape)}"
            )
        if not (finite := np.isfinite(values).all(axis=1)).all():
            raise ValueError(
                f"features must be finite; those of row {int(finite.argmin()) + 1} are not: leave it out"
            )
        return _Fits(tuple(self._by_rows(values)), values.shape[1], self.labels.shape[1], self.num_classes)

    def _by_rows(self, values: npt.NDArray[Any]) -> Iterator[tuple[list[int], NumberFit | ClassFit]]:
        """Outputs that are known of the same rows, and their fit."""
        alike: dict[bytes, list[int]] = {}
        for output, known in enumerate(self.known.T):
            alike.setdefault(known.tobytes(), []).append(output)
        for outputs in alike.values():
            rows = self.known[:, outputs[0]]
            own = values if rows.all() else values[rows]
            weights, folds = self.weights[rows], self.folds[rows]
            if self.num_classes:
                labels = self.labels[rows, 0]
                yield outputs, ClassFit(own, labels, weights, folds, self.seed, self.num_classes)
            else:
                yield outputs, NumberFit(own, self.labels[rows][:, outputs], weights, folds, self.seed)


@dataclass(frozen=True, eq=False)
class _Fits:
    """Fits on one set of features, together of all outputs."""

    parts: tuple[tuple[list[int], NumberFit | ClassFit], ...]
    width: int
    num_columns: int  # of labels
    num_classes: int

    @property
    def score(self) -> float:
        """Share of variance or entropy that is explained, the mean over outputs."""
        return float(np.mean(np.concatenate([fit.best.scores for _, fit in self.parts])))

    def regression(self, strength: float | None) -> Regression:
        """The fit on all rows, at the best strength or this one."""
        num_outputs = self.num_classes if self.num_classes > 2 else self.num_columns
        weights, bias = np.zeros((self.width, num_outputs)), np.zeros(num_outputs)
        for outputs, fit in self.parts:
            at = slice(None) if self.num_classes else outputs
            weights[:, at], bias[at] = fit.fit(strength)
        return Regression(weights, bias, self.num_classes)
