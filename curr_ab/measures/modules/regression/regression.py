"""`regression`: metrics of predicted numbers, for the library `evaluate`; a configuration each."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from .core import METRICS, refuse_equal, score

DESCRIPTION = """\
Metrics of predicted numbers: spearman, pearson and rmse. Load one by its name, or all without a name."""
INPUTS = """
Args:
    predictions: a number for each item; if all are equal, correlations are 0.
    references: the measured number of each item.
"""


class Regression(evaluate.Metric):
    """All metrics of numbers, or that of the configuration."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in ("default", *METRICS):
            raise ValueError(f"the configuration must be one of {', '.join(METRICS)}; got {self.config_name}")
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        measured, predicted = np.asarray(references), np.asarray(predictions)
        names = METRICS if self.config_name == "default" else (self.config_name,)
        for name in names:
            refuse_equal(name, measured)
        return {name: float(score(name, measured, predicted)) for name in names}
