"""`recall`: the share of those of a class that are predicted to be."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import recall_score


class Recall(evaluate.Metric):
    """The share of those of a class that are predicted to be."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            inputs_description=(
                "predictions and references: numbers of classes; average: binary (class 1), macro or micro"
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions: Any, references: Any, average: str = "binary") -> dict[str, float]:
        # Where a class is never predicted 0 / 0 counts as 0.
        value = recall_score(references, predictions, average=average, zero_division=0)
        return {"recall": float(value)}
