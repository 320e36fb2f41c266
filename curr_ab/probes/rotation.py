"""Features scaled to equal spread and rotated to their principal axes, of which there are few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curr_ab.measures.metrics import Floats

# Of the largest variance along an axis: what is less is rounding, for the axes are those of squares.
_LEAST = 1e-10
_ALL_THE_SAME = 1e-6  # a spread of this share of the largest value is rounding, too, in float32


@dataclass(frozen=True, eq=False)
class Rotation:
    """The way from raw features to scores on principal axes; nothing that a linear model can use is lost."""

    mean: Floats  # [width]
    scale: Floats  # [width] standard deviations; infinite where all values are the same
    axes: Floats  # [width, axes]
    scores: Floats  # [rows, axes], of mean 0
    lengths: Floats  # [axes] of the scores, each row multiplied by the root of its weight

    @property
    def num_features(self) -> int:
        """The number of features that differ at all, which is the sum of all variances."""
        return max(1, int(np.isfinite(self.scale).sum()))

    def raw(self, weights: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Weights [width, outputs] and bias for raw features, of those [axes, outputs] for scores."""
        turned: Floats = (self.axes @ weights) / self.scale[:, None]
        return turned, bias - self.mean @ turned


def rotate(values: npt.NDArray[Any], weights: Floats) -> Rotation:
    """The rotation of these rows, none of which has the weight 0."""
    exact = np.asarray(values, np.float64)
    mean = np.average(exact, axis=0, weights=weights)
    scaled = exact - mean
    scale = np.sqrt(np.average(np.square(scaled), axis=0, weights=weights))
    scale[scale <= _ALL_THE_SAME * np.abs(exact).max(axis=0)] = np.inf
    root = np.sqrt(weights)[:, None]
    scaled *= root / scale
    by_rows = len(scaled) <= scaled.shape[1]
    squares, vectors = np.linalg.eigh(scaled @ scaled.T if by_rows else scaled.T @ scaled)
    kept = squares > _LEAST * max(squares.max(initial=0), 1.0)
    lengths, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    if by_rows:
        return Rotation(mean, scale, scaled.T @ (vectors / lengths), vectors * lengths / root, lengths)
    return Rotation(mean, scale, vectors, scaled @ vectors / root, lengths)
