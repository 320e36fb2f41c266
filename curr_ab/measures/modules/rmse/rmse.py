"""`rmse`: the square root of the mean squared difference of predictions and measurements."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np


class RMSE(evaluate.Metric):
    """The square root of the mean squared difference of predictions and measurements."""

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
        differences = np.asarray(predictions) - np.asarray(references)
        return {"rmse": float(np.sqrt(np.mean(differences**2)))}
