"""States of every token below the first adapter: where the last layers alone are trained, computed once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from curr_ab.finetuning.batches import Part, TokenRows, shares_of
from curr_ab.finetuning.examples import Indices
from curr_ab.finetuning.model import esm_of
from curr_ab.training.packed_rows import to_device
from curr_ab.training.processes import Group

MOST_BYTES = 4 << 30  # of states; what is more is computed in every epoch, with the same results


class StateRows:
    """Examples as tokens, each with its state below the first adapter."""

    def __init__(self, rows: TokenRows, states: Tensor) -> None:
        self.rows, self.states = rows, states  # [tokens of all examples, width]
        self.answer_ends = rows.answer_ends

    def parts(self, examples: Indices, num_parts: int) -> Iterator[Part]:
        """These examples in so many parts."""
        tokens = self.rows.places(examples, num_parts)
        for part, (places, indices) in zip(self.rows.parts(examples, num_parts), tokens, strict=True):
            shape = part.inputs["input_ids"].shape
            states = self.states.new_zeros(shape.numel(), self.states.shape[1])
            states[places] = self.states[torch.from_numpy(indices)]
            yield Part({**part.inputs, "states": states.view(*shape, -1)}, part.answers)


class _Given(nn.Module):
    """States in the place of embeddings."""

    states: Tensor

    def forward(self, *_: Any) -> Tensor:
        return self.states


class _Passed(nn.Module):
    """A layer whose work is done."""

    def forward(self, hidden_states: Tensor, *_: Any) -> tuple[Tensor, None]:
        return hidden_states, None


def go_on_from_states(model: nn.Module, num_layers: int) -> None:
    """Leave the last layers of the model alone, which begins at the `states` among its inputs."""
    esm: Any = esm_of(model)
    given = _Given()
    esm.embeddings = given
    for number in range(len(esm.encoder.layer) - num_layers):
        esm.encoder.layer[number] = _Passed()

    def take(_: nn.Module, args: Any, inputs: dict[str, Any]) -> Any:
        if "states" in inputs:  # the model has taken them where it calls the encoder
            given.states = inputs.pop("states")
        return args, inputs

    for module in (model, esm):
        module.register_forward_pre_hook(take, with_kwargs=True)


def fits_in_memory(rows: TokenRows, width: int) -> bool:
    return int(rows.lengths.sum()) * width * 4 <= MOST_BYTES


def lower_states(
    model: nn.Module,
    rows: TokenRows,
    num_layers: int,
    accelerator: Accelerator,
    group: Group,
    most_at_once: int,
) -> Tensor:
    """States that enter the last layers [tokens of all examples, width], on every process."""
    model.to(accelerator.device).eval()
    esm: Any = esm_of(model)
    first = len(esm.encoder.layer) - num_layers
    everything = np.arange(len(rows.answer_ends))
    shape = (int(rows.lengths.sum()), esm.config.hidden_size)
    states = torch.zeros(shape, device=accelerator.device)
    with torch.no_grad(), accelerator.autocast():
        for share in shares_of(everything, most_at_once, group):
            tokens = rows.places(share.examples, share.num_parts)
            parts = rows.parts(share.examples, share.num_parts)
            for part, (places, indices) in zip(parts, tokens, strict=True):
                inputs = to_device(part.inputs, accelerator.device)
                found = esm(**inputs, output_hidden_states=True).hidden_states[first].flatten(0, 1)
                if share.counts:
                    states[torch.from_numpy(indices)] = found[places].float()
    total: Tensor = accelerator.reduce(states)
    return total
