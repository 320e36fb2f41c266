"""`aupr`: average precision, the area under the precision-recall curve; of several classes, their mean."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import average_precision_score


class AUPR(evaluate.Metric):
    """Average precision, the area under the precision-recall curve; of several classes, their mean."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            inputs_description="predictions: probabilities of all classes; references: numbers of classes",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        probabilities, labels = np.asarray(predictions), np.asarray(references)
        numbers = range(1, 2) if probabilities.shape[1] == 2 else range(probabilities.shape[1])
        areas = []
        for number in numbers:
            if not (labels == number).any():
                raise ValueError(f"aupr is not defined: none of the {len(labels)} is of class {number}")
            areas.append(average_precision_score(labels == number, probabilities[:, number]))
        return {"aupr": float(np.mean(areas))}
