"""`auroc`: the area under the ROC curve; of several classes, the mean of each against the rest."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import roc_auc_score


class AUROC(evaluate.Metric):
    """The area under the ROC curve; of several classes, the mean of each against the rest."""

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
            if len(np.unique(labels == number)) < 2:
                raise ValueError(
                    f"auroc is not defined: all or none of the {len(labels)} are of class {number}"
                )
            areas.append(roc_auc_score(labels == number, probabilities[:, number]))
        return {"auroc": float(np.mean(areas))}
