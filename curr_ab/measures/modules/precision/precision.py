"""`precision`: the share of true ones among those that are predicted to be of a class."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn.metrics import precision_score


class Precision(evaluate.Metric):
    """The share of true ones among those that are predicted to be of a class."""

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
        value = precision_score(references, predictions, average=average, zero_division=0)
        return {"precision": float(value)}
