"""One optimiser step: the gradient of the mean loss of a whole batch, however it is divided."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from curr_ab.pretraining.batches import StepBatches
from curr_ab.pretraining.optimizing import learning_rate, set_learning_rate
from curr_ab.pretraining.packing import TokenBatch
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.pretraining.sampling import random_stream


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
