"""Features that a head sees of every pair, computed once where the base is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from curr_ab.extras import needs_extra
from curr_ab.finetuning.batches import Part, TokenRows, shares_of
from curr_ab.finetuning.examples import Indices
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.labelled_pairs import Example
from curr_ab.finetuning.labels import label_of
from curr_ab.finetuning.recipe import Recipe
from curr_ab.modeling import CurrAbForSequenceClassification
from curr_ab.training.packed_rows import to_device
from curr_ab.training.processes import Group
from curr_ab.words import UNKNOWN_LABEL

# Strong enough for a few hundred examples of a thousand features each, which are scaled to the same spread.
CLASSES_REGULARIZATION = 0.01
NUMBER_REGULARIZATIONS = np.logspace(-2, 4, 13)  # the best on the training part, by leaving one out


class FeatureRows:
    """Features of all examples, in the place of their tokens."""

    def __init__(self, features: Tensor) -> None:
        self.features = features  # [examples, width]
        self.answer_ends: Indices = np.arange(1, len(features) + 1)

    def parts(self, examples: Indices, num_parts: int) -> Iterator[Part]:
        """These examples in so many parts."""
        for chosen in np.array_split(examples, num_parts):
            yield Part({"features": self.features[torch.from_numpy(chosen)]}, chosen)


class HeadOnFeatures(nn.Module):
    """The head of a model, in the place of the model."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.head(features))


def pooled_features(
    model: CurrAbForSequenceClassification,
    rows: TokenRows,
    accelerator: Accelerator,
    group: Group,
    most_at_once: int,
) -> Tensor:
    """Inputs of the head of `model` for each example [examples, width], on every process."""
    device = accelerator.device
    model.to(device).eval()
    width = model.config.hidden_size * (1 + (model.pooling == "mean_per_chain"))
    everything = np.arange(len(rows.answer_ends))
    features = torch.zeros(len(everything), width, device=device)
    with torch.no_grad(), accelerator.autocast():
        for share in shares_of(everything, most_at_once, group):
            for part in rows.parts(share.examples, share.num_parts):
                pooled = _pooled(model, **to_device(part.inputs, device))
                if share.counts:
                    features[torch.from_numpy(part.answers)] = pooled.float()
    total: Tensor = accelerator.reduce(features)
    return total


def _pooled(model: CurrAbForSequenceClassification, **inputs: Any) -> Tensor:
    states = model.esm(**inputs).last_hidden_state
    tokens = inputs["input_ids"]
    layout = model.esm.layout(tokens, inputs.get("attention_mask"), inputs.get("position_ids"))
    return model.pool(states, tokens, None, layout)


def probe(
    recipe: Recipe, features: Tensor, examples: Iterable[Example], fold: Fold
) -> npt.NDArray[np.float64]:
    """Predictions for the test part: the probability of each class, or a number; of several columns, of each.

    A bound counts as the number that it is: a regression on features knows no other.
    """
    examples = list(examples)
    exact = features.double().cpu().numpy()
    weights = np.array([example.weight for example in examples])
    if not recipe.label_columns:
        labels = np.array([example.label for example in examples])
        return _regress(recipe, exact, labels, weights, fold.train, fold.test)
    predictions = []
    for index in range(len(recipe.tasks)):
        of_column = [label_of(example.label, index) for example in examples]
        known = np.array([label is not None and label != UNKNOWN_LABEL for label in of_column])
        train = fold.train[known[fold.train]]
        labels = np.array([label or 0 for label in of_column])
        found = _regress(recipe, exact, labels, weights, train, fold.test)
        predictions.append(found[:, 1] if recipe.target == "classes" else found)
    return np.stack(predictions, axis=1)


def _regress(
    recipe: Recipe,
    exact: npt.NDArray[np.float64],
    labels: npt.NDArray[Any],
    weights: npt.NDArray[np.float64],
    train: Indices,
    test: Indices,
) -> npt.NDArray[np.float64]:
    with needs_extra("finetune"):
        from sklearn.linear_model import LogisticRegression, RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    if recipe.target == "number":
        model: Any = make_pipeline(StandardScaler(), RidgeCV(NUMBER_REGULARIZATIONS))
        given = {} if recipe.weight_column is None else {"ridgecv__sample_weight": weights[train]}
        return np.asarray(model.fit(exact[train], labels[train], **given).predict(exact[test]))
    balance = "balanced" if recipe.class_weights == "balanced" else None
    regression = LogisticRegression(C=CLASSES_REGULARIZATION, max_iter=5_000, class_weight=balance)
    model = make_pipeline(StandardScaler(), regression)
    given = {} if recipe.weight_column is None else {"logisticregression__sample_weight": weights[train]}
    return np.asarray(model.fit(exact[train], labels[train], **given).predict_proba(exact[test]))
