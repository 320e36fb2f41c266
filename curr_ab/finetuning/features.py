"""Features that a head sees of every pair, computed once where the base is frozen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from curr_ab.finetuning.batches import Part, TokenRows, shares_of
from curr_ab.finetuning.examples import Indices
from curr_ab.finetuning.lower_layers import StateRows
from curr_ab.modeling import CurrAbForSequenceClassification
from curr_ab.training.packed_rows import to_device
from curr_ab.training.processes import Group


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
    rows: TokenRows | StateRows,
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
