"""One number for all folds: their mean, and how surely it is known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error over folds; one fold has no standard error.

    Folds share most of their training examples, so that the error of another sample of examples is larger.
    """
    if not values:
        raise ValueError("there is no fold to average over")
    if len(values) == 1:
        return values[0], None
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
