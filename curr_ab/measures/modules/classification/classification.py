"""`classification`: metrics of predicted classes, for the library `evaluate`; a configuration each."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from .core import AVERAGED, OF_CHOICES, OF_PROBABILITIES, score

DESCRIPTION = """\
Metrics of predicted classes: accuracy, mcc, precision, recall, f1, auroc, aupr and calibration_error.
Load one by its name, or all of them without a name."""
INPUTS = """
Args:
    predictions: number of the class of each item; for auroc, aupr, calibration_error and for all metrics
        together, the probabilities of its classes. Class 1 is the positive one of two.
    references: number of the true class of each item; items with -100 are left out.
    average: of precision, recall and f1: "binary" (the default for two classes), "macro" (for more) or
        "micro".
"""
UNKNOWN_LABEL = -100
METRICS = (*OF_CHOICES, *AVERAGED, *OF_PROBABILITIES)


class Classification(evaluate.Metric):
    """All metrics of classes, or that of the configuration."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in ("default", *METRICS):
            raise ValueError(f"the configuration must be one of {', '.join(METRICS)}; got {self.config_name}")
        number, label = datasets.Value("float64"), datasets.Value("int64")
        of_choices = self.config_name in (*OF_CHOICES, *AVERAGED)
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": label if of_choices else datasets.Sequence(number), "references": label}
            ),
        )

    def _compute(self, predictions: Any, references: Any, average: str | None = None) -> dict[str, float]:
        labels, predicted = np.asarray(references), np.asarray(predictions)
        labels, predicted = labels[labels != UNKNOWN_LABEL], predicted[labels != UNKNOWN_LABEL]
        if not len(labels):
            raise ValueError("references must hold a known class; got none, or only -100")
        chosen = predicted.argmax(axis=-1) if predicted.ndim > 1 else predicted
        num_classes = predicted.shape[1] if predicted.ndim > 1 else max(1, labels.max(), chosen.max()) + 1
        if min(labels.min(), chosen.min()) < 0 or labels.max() >= num_classes:
            raise ValueError(f"classes must be numbers from 0 to {num_classes - 1}; got others")
        names = METRICS if self.config_name == "default" else (self.config_name,)
        if average is not None and not AVERAGED.keys() & set(names):
            raise ValueError(f"average is an option of {', '.join(AVERAGED)}; {names[0]} has none")
        average = average or ("binary" if num_classes == 2 else "macro")
        return {
            name: float(
                score(
                    name,
                    labels,
                    predicted if name in OF_PROBABILITIES else chosen,
                    num_classes=num_classes,
                    average=average,
                )
            )
            for name in names
        }
