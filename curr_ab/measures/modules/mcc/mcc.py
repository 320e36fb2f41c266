"""`mcc`: Matthews' correlation coefficient of predicted and true classes."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import matthews_corrcoef


class MCC(evaluate.Metric):
    """Matthews' correlation coefficient of predicted and true classes."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            inputs_description="predictions and references: numbers of classes",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"mcc": float(matthews_corrcoef(references, predictions))}
