"""Optimisers, the learning rate of every step, and what is exempt from weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from curr_ab.pretraining.plan import PretrainingPlan


def learning_rate(plan: PretrainingPlan, step: int) -> float:
    """Of the step counted from 0; as in transformers' schedules the first step of a warm-up has rate 0."""
    if step < plan.warmup_steps:
        return plan.peak_learning_rate * step / plan.warmup_steps
    progress = (step - plan.warmup_steps) / max(1, plan.steps - plan.warmup_steps)
    match plan.schedule:
        case "linear":
            return plan.peak_learning_rate * (1 - progress)
        case "cosine":
            return plan.peak_learning_rate * (1 + math.cos(math.pi * progress)) / 2
        case "constant":
            return plan.peak_learning_rate


def build_optimizers(model: nn.Module, plan: PretrainingPlan) -> list[torch.optim.Optimizer]:
    """One optimiser, or two where Muon takes the layers' matrices and AdamW the rest."""
    muon: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []  # biases and norms: without weight decay, as in transformers' Trainer
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if plan.optimizer == "muon" and parameter.dim() == 2 and ".layer." in name:
            muon.append(parameter)
        else:
            (decayed if parameter.dim() > 1 else others).append(parameter)
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=plan.peak_learning_rate,
        betas=(plan.adam_beta1, plan.adam_beta2),
        eps=plan.adam_epsilon,
        fused=True,
    )
    if not muon:
        return [adamw]
    # Its updates are as long as AdamW's, so that one learning rate serves both.
    adjusted = torch.optim.Muon(
        muon, lr=plan.peak_learning_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [adamw, adjusted]


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """The same for every parameter."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
