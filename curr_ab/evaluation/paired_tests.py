"""Tests of two models that were fitted and tested on the same folds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curr_ab.extras import needs_extra

Floats = npt.NDArray[np.float64]
Swaps = npt.NDArray[np.bool_]
CONFIDENCE = 0.95


class FoldTest(NamedTuple):
    """The mean difference over folds with its interval, and how probable one as large is by chance."""

    difference: float
    low: float
    high: float
    p: float


def corrected_t(differences: Sequence[float], tested_by_fitted: float) -> FoldTest:
    """Nadeau and Bengio's corrected resampled t-test.

    Folds share most of what their models are fitted on, so that their differences are correlated. The
    plain test overlooks that; this one adds the ratio of tested to fitted examples to the variance.
    """
    with needs_extra("finetune"):
        from scipy.stats import t as student
    num_folds = len(differences)
    if num_folds < 2:
        raise ValueError("a test over folds needs at least two of them")
    mean = float(np.mean(differences))
    error = math.sqrt(float(np.var(differences, ddof=1)) * (1 / num_folds + tested_by_fitted))
    if error == 0:
        return FoldTest(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    reach = error * float(student.ppf((1 + CONFIDENCE) / 2, num_folds - 1))
    p = 2 * float(student.sf(abs(mean) / error, num_folds - 1))
    return FoldTest(mean, mean - reach, mean + reach, p)


def exact_mcnemar(first_right: Swaps, second_right: Swaps) -> float:
    """How probable it is that the two differ so unequally on the examples that only one gets right."""
    with needs_extra("finetune"):
        from scipy.stats import binomtest
    only_first = int((first_right & ~second_right).sum())
    only_second = int((~first_right & second_right).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def permutation_p(difference: Callable[[Swaps], float], num_units: int, draws: int, seed: int) -> float:
    """How often swapping the two models' predictions of random units makes a difference as large.

    `difference` takes which units are swapped [units]. Units are what is independent: pairs, or donors.
    """
    generator = np.random.default_rng(seed)
    seen = abs(difference(np.zeros(num_units, bool)))
    # Sums in another order differ in their last digits.
    at_least = seen * (1 - 1e-9)
    larger = sum(abs(difference(generator.random(num_units) < 0.5)) >= at_least for _ in range(draws))
    return (1 + larger) / (1 + draws)
