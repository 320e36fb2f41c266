"""Calibration and conformal reaches out of what a run's folds had not seen; groups are the units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curr_ab.extras import needs_extra
from curr_ab.measures.metrics import Floats, Labels

LEVELS = 1000  # a reach is known at every thousandth
_USUAL = 0.7  # standard deviation of the logarithm of temperatures: most are within a factor of 2 of 1
_LEAST, _MOST = 0.05, 20.0  # temperatures; what is flatter or sharper has learnt nothing, or everything
_TINY = 1e-12
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Items that the models of a run's folds had not seen; an item is a pair, or a residue."""

    labels: Labels  # [items] index of the class, or the number
    predictions: Floats  # [items, classes] or [items]
    units: Labels  # [items] number of the group that the folds held together
    folds: Labels  # [items]

    @property
    def num_units(self) -> int:
        return len(np.unique(self.units))

    def take(self, chosen: Labels) -> HeldOut:
        """These items, by index or by flag."""
        return HeldOut(
            labels=self.labels[chosen],
            predictions=self.predictions[chosen],
            units=self.units[chosen],
            folds=self.folds[chosen],
        )


def fit_temperature(held_out: HeldOut) -> float:
    """The temperature under which the labels are most probable (Guo et al. 2017, arXiv:1706.04599).

    One number cannot change which class is the most probable, and few examples are enough for it. Where a
    handful is all right, ever sharper probabilities would suit them: so a temperature far from 1 takes units
    that show it.
    """
    with needs_extra("finetune"):
        from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        probabilities = tempered(held_out.predictions, float(np.exp(log_temperature)))
        right = probabilities[np.arange(len(probabilities)), held_out.labels]
        surprise = (log_temperature / _USUAL) ** 2 / 2 / held_out.num_units
        return float(-np.log(np.maximum(right, _TINY)).mean() + surprise)

    found = minimize_scalar(loss, bounds=(np.log(_LEAST), np.log(_MOST)), method="bounded")
    return float(np.exp(found.x))


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """Probabilities [..., classes] of logits that are divided by the temperature."""
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), _TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def errors_of(held_out: HeldOut, temperature: float | None) -> Floats:
    """Distance of each prediction from what is right: of numbers, or of the right class from certainty."""
    if temperature is None:
        return np.abs(held_out.predictions - held_out.labels)
    shares = tempered(held_out.predictions, temperature)
    errors: Floats = 1.0 - shares[np.arange(len(shares)), held_out.labels]
    return errors


def reaches(errors: Floats, units: Labels, levels: Sequence[float] | Floats) -> Floats:
    """The error that an item of a new unit stays within, at each level; infinite where units are too few.

    Every unit has the same weight, shared evenly by its items, and so has the unit to come, which may be
    anything: exchangeable units make the levels hold on average, whatever the model and the errors of items
    of one unit have in common (Lee, Barber and Willett 2023, arXiv:2306.06342).
    """
    _, numbers, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = np.argsort(errors, kind="stable")
    weights = 1.0 / (sizes[numbers] * (len(sizes) + 1))
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.asarray(levels) - _ROUNDING)
    return np.append(errors[order], np.inf)[places]


def all_levels() -> Floats:
    """The levels at which reaches are stored: 0.001 ... 0.999."""
    return np.arange(1, LEVELS) / LEVELS


def place_of(level: float) -> int:
    """The place among all levels of the least one that is not below this one."""
    return int(np.ceil(level * LEVELS - _ROUNDING)) - 1


def calibration_error(labels: Labels, probabilities: Floats, num_bins: int = 10) -> float:
    """Mean distance of confidence from the share that is right, over bins of equal width."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, confidence - right, num_bins)
    return float(np.abs(gaps).sum() / len(labels))
