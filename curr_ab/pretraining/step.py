"""One optimiser step: the gradient of the mean loss of a whole batch, however it is divided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from curr_ab.pretraining.batches import StepBatches
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.randomness import random_stream
from curr_ab.training.optimizers import set_learning_rate
from curr_ab.training.packing import TokenBatch


def training_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    plan: PretrainingPlan,
    step: int,
    batches: StepBatches,
) -> tuple[Tensor, Tensor]:
    """Summed loss of this process's share, and the length of the gradient; neither is waited for."""
    # Dropout follows from seed, step and rank, so no random state has to be saved, and none can be lost.
    torch.manual_seed(
        int(random_stream(plan.seed, "dropout", step, accelerator.process_index).integers(1 << 62))
    )
    set_learning_rate(optimizers, learning_rate(plan, step))
    # DDP and FSDP average gradients over processes; the mean over targets wants their sum.
    scale = accelerator.num_processes / max(1, batches.num_targets)
    loss_sum = torch.zeros((), device=accelerator.device)
    last = len(batches.micro_batches) - 1
    for number, batch in enumerate(batches.micro_batches):
        # Gradients are exchanged once, after the last part.
        with accelerator.no_sync(model) if number < last else nullcontext():
            loss = summed_loss(model, batch.to(accelerator.device))
            accelerator.backward(loss * scale)
        loss_sum += loss.detach()
    gradient_norm = accelerator.clip_grad_norm_(model.parameters(), plan.max_gradient_norm)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss_sum, gradient_norm


def summed_loss(model: nn.Module, batch: TokenBatch) -> Tensor:
    """Cross-entropy of all answers of one row, summed."""
    logits = model(**batch.model_inputs).logits
    return F.cross_entropy(logits.float(), batch.targets, reduction="sum")


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
