"""Fitness learned from few examples: a ridge regression on pooled embeddings, over seeded training sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.evaluation.fold_statistics import mean_and_standard_error
from curr_ab.extras import needs_extra
from curr_ab.inference.embedding import EmbeddingPlan, embed_window, encoder_of
from curr_ab.inference.records import records_of, windows
from curr_ab.pretraining.sampling import random_stream

Array = npt.NDArray[np.float64]
_WINDOW = 1024
# From next to no shrinkage to nothing but the mean; features have unit variance.
_ALPHAS = np.logspace(-1, 6, 15)


@dataclass(frozen=True)
class FewShot:
    """Rank correlation on the pairs that were not trained on: mean and standard error over training sets."""

    shots: int
    value: float
    standard_error: float | None  # none of a single training set
    num_pairs: int  # that were left to predict


def chain_embeddings(model: Any, tokenizer: Any, pairs: pa.Table) -> Array:
    """The mean over each chain's residues, side by side [pairs, 2 * width]."""
    plan = EmbeddingPlan(parts=("heavy", "light")).resolve(encoder_of(model).config.num_hidden_layers)
    rows = [
        np.concatenate(list(found.values()))
        for window in windows(records_of(pairs), _WINDOW)
        for found in embed_window(encoder_of(model), tokenizer, window, plan)
    ]
    return np.stack(rows).astype(np.float64)


def few_shot(features: Array, fitness: Array, shots: int, repeats: int, seed: int) -> FewShot:
    """Train on `shots` pairs, rank the rest; `repeats` times with other pairs."""
    from scipy.stats import spearmanr

    found = []
    for repeat in range(repeats):
        order = random_stream(seed, "few-shot", shots, repeat).permutation(len(fitness))
        train, rest = order[:shots], order[shots:]
        predicted = _ridge(features[train], fitness[train], features[rest])
        constant = np.ptp(predicted) == 0 or np.ptp(fitness[rest]) == 0  # ranks nothing
        found.append(0.0 if constant else float(spearmanr(predicted, fitness[rest]).statistic))
    return FewShot(shots, *mean_and_standard_error(found), len(fitness) - shots)


def _ridge(features: Array, fitness: Array, others: Array) -> Array:
    """Predictions for `others`; the shrinkage is that of the least error when each example is left out."""
    with needs_extra("finetune"):
        from sklearn.linear_model import RidgeCV

    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1
    fitted = RidgeCV(alphas=_ALPHAS).fit((features - mean) / scale, fitness)
    predicted: Array = fitted.predict((others - mean) / scale)
    return predicted
