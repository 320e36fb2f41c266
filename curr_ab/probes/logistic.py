"""Logistic regression on rotated features, each strength from the solution of a stronger one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from curr_ab.extras import needs_extra
from curr_ab.measures.metrics import Floats
from curr_ab.probes.inner_folds import Numbers

_ABSENT = -20.0  # bias of a class that no row has
_SMALLEST = 1e-6  # probability of what is right: one error of a sure model is not to outweigh all else
# Gradients for each unit of weight at which a fit ends, and one on the way to a choice.
_EXACT, _ROUGH = 1e-9, 1e-4


class Solution(NamedTuple):
    """Weights [axes, classes] and bias [classes] for scores; of two classes the first has zeros."""

    weights: Floats
    bias: Floats

    def log_probabilities(self, scores: Floats) -> Floats:
        """Of each class [rows, classes]."""
        logits = scores @ self.weights + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def fit_logistic(
    scores: Floats,
    classes: Numbers,
    weights: Floats,
    num_classes: int,
    strength: float,
    start: Solution | None = None,
    exact: bool = True,
) -> Solution:
    """A fit of classes [rows] by scores [rows, axes], each row with a weight; the bias is not shrunk.

    Two classes have one set of weights, more have one each. `start` is a solution near by.
    """
    with needs_extra("finetune"):
        from scipy.optimize import minimize

    counts = np.bincount(classes, weights, num_classes)
    present = np.flatnonzero(counts > 0)
    found = Solution(np.zeros((scores.shape[1], num_classes)), np.full(num_classes, _ABSENT))
    if len(present) == 1:
        found.bias[present] = 0
        return found
    free = present[1:] if num_classes == 2 else present  # what is learnt; the first of two is its opposite
    goals = (classes[:, None] == present).astype(np.float64)
    # Where all classes are as likely the curvature along an axis is this: in its units all axes are alike.
    curvature = (len(present) - 1) / len(present) ** 2
    spread = weights @ np.square(scores)
    stretch = np.sqrt(np.append(curvature * spread + strength, curvature * weights.sum()))[:, None]
    total = weights.sum()
    first = len(present) - len(free)

    def loss(flat: Floats) -> tuple[float, Floats]:
        solution = flat.reshape(len(stretch), -1) / stretch
        logits = np.zeros((len(scores), len(present)))
        logits[:, first:] = scores @ solution[:-1] + solution[-1]
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(axis=1, keepdims=True)
        lost = float(weights @ (np.log(sums[:, 0]) - (goals * logits).sum(axis=1)))
        lost += 0.5 * strength * float(np.square(solution[:-1]).sum())
        errors = (weights[:, None] * (powers / sums - goals))[:, first:]
        slope = np.concatenate([scores.T @ errors + strength * solution[:-1], errors.sum(axis=0)[None]])
        return lost / total, (slope / stretch).ravel() / total

    if start is None:
        bias = np.log(counts[present])
        bias = (bias - (bias[0] if first else bias.mean()))[first:]
        begin = np.concatenate([np.zeros((scores.shape[1], len(free))), bias[None]])
    else:
        begin = np.concatenate([start.weights[:, free], start.bias[None, free]])
    limits: Any = {"gtol": (_EXACT if exact else _ROUGH) / np.sqrt(total), "ftol": 0.0 if exact else 1e-8}
    limits |= {"maxiter": 5_000, "maxfun": 10_000, "maxcor": 20}
    first_point: Any = (begin * stretch).ravel()
    result = minimize(loss, first_point, jac=True, method="L-BFGS-B", options=limits)
    solution = result.x.reshape(len(stretch), -1) / stretch
    found.weights[:, free], found.bias[free] = solution[:-1], solution[-1]
    if first:
        found.bias[0] = 0
    return found


class LogisticPath:
    """Fits of the parts without each fold, for a score of unseen rows, from strong to weak."""

    def __init__(
        self, scores: Floats, classes: Numbers, weights: Floats, num_classes: int, folds: Numbers
    ) -> None:
        self.scores, self.classes, self.weights = scores, classes, weights
        self.num_classes, self.folds = num_classes, folds
        self.solutions: dict[int, Solution] = {}
        counts = np.bincount(classes, weights, num_classes)
        shares = counts[counts > 0] / counts.sum()
        self.entropy = max(float(-(shares * np.log(shares)).sum()), 1e-12)

    def explained(self, strength: float) -> float:
        """Share of the classes' entropy that is explained where every row is predicted without its fold."""
        lost = 0.0
        for fold in np.unique(self.folds).tolist():
            kept, left = self.folds != fold, self.folds == fold
            self.solutions[fold] = fit_logistic(
                self.scores[kept],
                self.classes[kept],
                self.weights[kept],
                self.num_classes,
                strength,
                self.solutions.get(fold),
                exact=False,
            )
            shown = self.solutions[fold].log_probabilities(self.scores[left])
            right = shown[np.arange(len(shown)), self.classes[left]]
            lost -= float(self.weights[left] @ np.maximum(right, np.log(_SMALLEST)))
        return 1 - lost / float(self.weights.sum()) / self.entropy
