"""The optimiser step of a plan: its loss, its learning rate, its optimisers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from curr_ab.pretraining.batches import StepBatches
from curr_ab.pretraining.muon import Muon
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.randomness import random_stream
from curr_ab.training.packed_rows import TokenBatch
from curr_ab.training.step import optimizer_step, parameter_groups, scheduled_rate


def training_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    plan: PretrainingPlan,
    step: int,
    batches: StepBatches,
) -> tuple[Tensor, Tensor]:
    """Summed loss of this process's share, and the length of the gradient."""
    return optimizer_step(
        accelerator,
        model,
        optimizers,
        batches.micro_batches,
        lambda batch: summed_loss(model, batch.to(accelerator.device)),
        num_micro_batches=len(batches.micro_batches),
        total_weight=max(1, batches.num_targets),
        num_processes=accelerator.num_processes,
        keep_gradients=plan.replays,
        learning_rate=learning_rate(plan, step),
        max_gradient_norm=plan.max_gradient_norm,
        randomness=random_stream(plan.seed, "dropout", step, accelerator.process_index),
    )


def summed_loss(model: nn.Module, batch: TokenBatch) -> Tensor:
    """Cross-entropy of all answers of one row, summed."""
    logits = model(**batch.model_inputs).logits
    return F.cross_entropy(logits.float(), batch.targets, reduction="sum")


def learning_rate(plan: PretrainingPlan, step: int) -> float:
    """Rate of a step, counted from 0."""
    return scheduled_rate(
        step,
        peak=plan.peak_learning_rate,
        num_steps=plan.steps,
        warmup_steps=plan.warmup_steps,
        schedule=plan.schedule,
        decay_steps=plan.decay_steps,
    )


def build_optimizers(model: nn.Module, plan: PretrainingPlan) -> list[torch.optim.Optimizer]:
    """One optimiser, or two where Muon takes the layers' matrices and AdamW the rest."""
    muon: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        matrix_of_layer = parameter.requires_grad and parameter.dim() == 2 and ".layer." in name
        (muon if plan.optimizer == "muon" and matrix_of_layer else others).append(parameter)
    adamw = torch.optim.AdamW(
        parameter_groups(others, plan.weight_decay),
        lr=plan.peak_learning_rate,
        betas=(plan.adam_beta1, plan.adam_beta2),
        eps=plan.adam_epsilon,
        fused=True,
    )
    if not muon:
        return [adamw]
    kind = Muon if plan.precision == "fp32" else torch.optim.Muon
    # Its updates are as long as AdamW's, so that one learning rate serves both.
    adjusted = kind(
        muon, lr=plan.peak_learning_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [adamw, adjusted]
