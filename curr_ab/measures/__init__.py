"""Measures of models, for training and evaluation: losses, metrics, statistics, figures of folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.measures.fold_figures import draw_figures
    from curr_ab.measures.fold_predictions import read_run
    from curr_ab.measures.metrics import MODULES, measure
    from curr_ab.measures.statistics import corrected_t, exact_mcnemar, mean_and_standard_error, permutation_p

_LAZY = {
    "MODULES": "metrics",
    "corrected_t": "statistics",
    "draw_figures": "fold_figures",
    "exact_mcnemar": "statistics",
    "mean_and_standard_error": "statistics",
    "measure": "metrics",
    "permutation_p": "statistics",
    "read_run": "fold_predictions",
}
__all__ = [
    "MODULES",
    "corrected_t",
    "draw_figures",
    "exact_mcnemar",
    "mean_and_standard_error",
    "measure",
    "permutation_p",
    "read_run",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY)
