"""The start of a head at a probe's solution: from there on, training has only to improve on it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from curr_ab.finetuning.recipe import Recipe
from curr_ab.measures.metrics import Floats
from curr_ab.modeling.modeling_curr_ab import CurrAbClassificationHead
from curr_ab.probes.regression import fit_regression

# Largest hidden value of the training part: up to here tanh is a straight line within 3 %.
_MOST_HIDDEN = 0.3


def probe_solution(
    model: nn.Module,
    recipe: Recipe,
    features: Tensor,
    answers: npt.NDArray[Any],
    groups: Sequence[Hashable] | None = None,
    weights: npt.NDArray[Any] | None = None,
) -> dict[str, Tensor]:
    """Weights of the model's head, by their names, with which it answers as a linear probe of the features.

    `features` [examples, width], `answers` and their `weights` are those of a training part; numbers are as
    they are learnt, and a bound is the number that it is.
    """
    values = features.double().cpu().numpy()
    regression = fit_regression(
        values,
        answers,
        target=recipe.target,
        num_classes=len(recipe.labels),
        groups=groups,
        weights=weights,
        balanced=recipe.class_weights == "balanced",
        seed=recipe.seed,
    )
    slopes, bias = regression.weights, regression.bias
    if regression.num_classes == 2:  # one output, the log-odds of the second class
        slopes, bias = np.hstack([-slopes / 2, slopes / 2]), np.concatenate([-bias / 2, bias / 2])
    name, head = _head_of(model)
    return {f"{name}.{key}": value for key, value in _as_head(head, slopes, bias, values).items()}


def _head_of(model: nn.Module) -> tuple[str, CurrAbClassificationHead]:
    """The head that is trained; PEFT keeps a copy of the one that it was made of."""
    (found,) = (
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, CurrAbClassificationHead) and "original_module" not in name
    )
    return found


def _as_head(
    head: CurrAbClassificationHead, weights: Floats, bias: Floats, values: Floats
) -> dict[str, Tensor]:
    """Weights with which `out_proj(tanh(dense(x)))` is the linear function, as far out as `values` are.

    Each output has a hidden unit, small enough that tanh is a straight line; the other units stay as they
    are, and count once training lets them.
    """
    center, number = values.mean(axis=0), weights.shape[1]
    if number > len(head.dense.weight):
        raise ValueError(
            f"labels must be at most {len(head.dense.weight)} for a head that starts at a probe; "
            f"got {number}: set start to random"
        )
    scale = _MOST_HIDDEN / max(float(np.abs((values - center) @ weights).max()), 1e-6)
    started = {name: value.detach().clone() for name, value in head.state_dict().items()}
    started["dense.weight"][:number] = torch.from_numpy(scale * weights.T)
    started["dense.bias"][:number] = torch.from_numpy(-scale * (center @ weights))
    started["out_proj.weight"].zero_()
    started["out_proj.weight"][:, :number] = torch.eye(number) / scale
    started["out_proj.bias"].copy_(torch.from_numpy(bias + center @ weights))
    return started
