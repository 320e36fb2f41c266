"""`spearman`: Spearman's correlation of predictions and measurements, by their ranks."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import spearmanr


class Spearman(evaluate.Metric):
    """Spearman's correlation of predictions and measurements, by their ranks."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            inputs_description="predictions and references: numbers",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("float64"),
                    "references": datasets.Value("float64"),
                }
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        if len(np.unique(references)) < 2:
            raise ValueError(f"spearman is not defined: all {len(references)} measurements are equal")
        # Predictions that are all equal say nothing: 0, as mcc has it.
        constant = len(np.unique(predictions)) < 2
        return {"spearman": 0.0 if constant else float(spearmanr(predictions, references).statistic)}
