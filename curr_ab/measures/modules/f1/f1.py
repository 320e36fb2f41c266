"""`f1`: the harmonic mean of precision and recall."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import f1_score


class F1(evaluate.Metric):
    """The harmonic mean of precision and recall."""

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
        value = f1_score(references, predictions, average=average, zero_division=0)
        return {"f1": float(value)}
