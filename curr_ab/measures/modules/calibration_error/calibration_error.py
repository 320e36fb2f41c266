"""`calibration_error`: how far the confidence in the predicted class is from its accuracy."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np


class CalibrationError(evaluate.Metric):
    """How far the confidence in the predicted class is from its accuracy: the mean over bins."""

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

    def _compute(self, predictions: Any, references: Any, bins: int = 15) -> dict[str, float]:
        probabilities, labels = np.asarray(predictions), np.asarray(references)
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == labels
        place = np.minimum((confidence * bins).astype(int), bins - 1)
        # |accuracy - confidence| of each bin, weighted by its share: a sum of differences, divided by all.
        gaps = np.bincount(place, weights=right - confidence, minlength=bins)
        return {"calibration_error": float(np.abs(gaps).sum() / len(labels))}
