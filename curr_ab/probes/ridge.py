"""Ridge regression in closed form: all strengths, and predictions without a fold, from one rotation."""

from __future__ import annotations

import numpy as np

from curr_ab.measures.metrics import Floats
from curr_ab.probes.inner_folds import Numbers
from curr_ab.probes.rotation import Rotation


class Ridge:
    """Numbers [rows, outputs] on rotated features, each row with a weight; the bias is not shrunk."""

    def __init__(self, rotation: Rotation, numbers: Floats, weights: Floats) -> None:
        self.rotation, self.root = rotation, np.sqrt(weights)[:, None]
        self.mean = np.average(numbers, axis=0, weights=weights)
        self.numbers = self.root * (numbers - self.mean)
        self.left = self.root * rotation.scores / rotation.lengths  # [rows, axes] orthonormal
        self.turned = self.left.T @ self.numbers
        self.variance = np.square(self.numbers).sum(axis=0)  # of each output, times the sum of weights

    def fit(self, strength: Floats) -> tuple[Floats, Floats]:
        """Weights [axes, outputs] and bias, with a strength for each output."""
        lengths = self.rotation.lengths[:, None]
        return lengths / (lengths**2 + strength) * self.turned, self.mean

    def explained(self, strength: float, folds: Numbers) -> Floats:
        """Share of each output's variance that is explained where every row is predicted without its fold.

        For a linear smoother the residuals of rows that were left out are those of the whole fit, divided by
        one minus the rows' own part of the hat matrix. So nothing is fitted again.
        """
        kept = self.rotation.lengths**2 / (self.rotation.lengths**2 + strength)
        residuals = self.numbers - self.left @ (kept[:, None] * self.turned)
        lost = np.zeros_like(self.variance)
        for fold in np.unique(folds):
            rows = folds == fold
            own, root = self.left[rows], self.root[rows]
            hat = (own * kept) @ own.T + root @ root.T / np.square(self.root).sum()
            lost += np.square(np.linalg.solve(np.eye(len(hat)) - hat, residuals[rows])).sum(axis=0)
        return np.asarray(1 - lost / np.maximum(self.variance, 1e-300))
