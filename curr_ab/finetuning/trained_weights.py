"""What a fit has trained, gathered from all processes and put into a model of one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from curr_ab.finetuning.adapting import HEAD, build_model
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.right_answers import RightAnswers

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that are not frozen, by their names in an unwrapped model; every process must ask."""
    weights: dict[str, Any] = get_model_state_dict(model, options=_WHOLE)
    return weights


def model_with(weights: dict[str, Tensor], recipe: Recipe, source: str, right: RightAnswers) -> Any:
    """The recipe's model with these weights, on one process; numbers are in the units of the data."""
    model = build_model(recipe, source)
    _, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained <= weights.keys(), trained - weights.keys()
    if right.are_numbers:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if f".{HEAD}." in f".{name}" and name.endswith(("out_proj.weight", "out_proj.bias")):
                    parameter.mul_(right.deviation)
                    if name.endswith("bias"):
                        parameter.add_(right.mean)
    return model.eval()
