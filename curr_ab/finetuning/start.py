"""The start of a head at a probe's solution: from there on, training has only to improve on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from curr_ab.finetuning.recipe import Recipe
from curr_ab.modeling.modeling_curr_ab import CurrAbClassificationHead
from curr_ab.probes.regression import fit_regression

# Largest hidden value of the training part: up to here tanh is a straight line within 3 %.
_MOST_HIDDEN = 0.3


def start_head(
    model: nn.Module, recipe: Recipe, features: Tensor, answers: npt.NDArray[Any], groups: Any = None
) -> None:
    """Give the head the weights with which it answers as a linear probe of these features does.

    `features` [examples, width] and `answers` are those of the training part; numbers are as they are learnt.
    """
    values = features.double().cpu().numpy()
    regression = fit_regression(
        values,
        answers,
        target=recipe.target,
        num_classes=len(recipe.labels),
        groups=groups,
        balanced=recipe.class_weights == "balanced",
        seed=recipe.seed,
    )
    weights, bias = logits_of(regression.weights, regression.bias, max(1, len(recipe.labels)))
    write_linear(head_of(model), weights, bias, values)


def head_of(model: nn.Module) -> CurrAbClassificationHead:
    """The head that is trained; PEFT keeps a copy of the one that it was made of."""
    (head,) = (
        module
        for name, module in model.named_modules()
        if isinstance(module, CurrAbClassificationHead) and "original_module" not in name
    )
    return head


def write_linear(
    head: CurrAbClassificationHead,
    weights: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
) -> None:
    """Make `out_proj(tanh(dense(x)))` the linear function, for x as far out as `values` are.

    Each output has a hidden unit, small enough that tanh is a straight line; the other units stay as they
    are, and count once training lets them.
    """
    center = values.mean(axis=0)
    outputs = (values - center) @ weights
    scale = _MOST_HIDDEN / max(float(np.abs(outputs).max()), 1e-6)
    number = weights.shape[1]
    with torch.no_grad():
        head.dense.weight[:number] = torch.from_numpy(scale * weights.T)
        head.dense.bias[:number] = torch.from_numpy(-scale * (center @ weights))
        head.out_proj.weight.zero_()
        head.out_proj.weight[:, :number] = torch.eye(number) / scale
        head.out_proj.bias.copy_(torch.from_numpy(bias + center @ weights))


def logits_of(
    weights: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], num_outputs: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A column for each output: of two classes a regression may know the second alone."""
    weights, bias = weights.reshape(len(weights), -1), np.atleast_1d(bias)
    if weights.shape[1] == num_outputs:
        return weights, bias
    assert num_outputs == 2 and weights.shape[1] == 1, (weights.shape, num_outputs)
    return np.hstack([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
