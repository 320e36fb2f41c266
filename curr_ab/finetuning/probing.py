"""The linear probe: a regression on what the frozen base says of a pair; it leaves no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from curr_ab.extras import needs_extra
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.recipe import Recipe

# Strong enough for a few hundred examples of a thousand features each, which are scaled to the same spread.
CLASSES_REGULARIZATION = 0.01
NUMBER_REGULARIZATIONS = np.logspace(-2, 4, 13)  # the best on the training part, by leaving one out


def probe(recipe: Recipe, features: Tensor, labels: npt.NDArray[Any], fold: Fold) -> npt.NDArray[np.float64]:
    """Predictions for the test part: the probability of each class, or a number."""
    with needs_extra("finetune"):
        from sklearn.linear_model import LogisticRegression, RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    known = features.double().cpu().numpy()
    if recipe.target == "number":
        model: Any = make_pipeline(StandardScaler(), RidgeCV(NUMBER_REGULARIZATIONS))
        return np.asarray(model.fit(known[fold.train], labels[fold.train]).predict(known[fold.test]))
    weights = "balanced" if recipe.class_weights == "balanced" else None
    regression = LogisticRegression(C=CLASSES_REGULARIZATION, max_iter=5_000, class_weight=weights)
    model = make_pipeline(StandardScaler(), regression)
    return np.asarray(model.fit(known[fold.train], labels[fold.train]).predict_proba(known[fold.test]))
