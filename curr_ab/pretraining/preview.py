"""Text of `pretrain --dry-run`: the plan, and the time and memory that its run takes."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch

from curr_ab.data.shards import TokenDataset
from curr_ab.family import num_gpus
from curr_ab.modeling import CurrAbConfig, CurrAbForMaskedLM
from curr_ab.number_types import training_precision
from curr_ab.pretraining.batches import unpaired_fraction
from curr_ab.pretraining.model import build_config, num_parameters, pairs_at_once
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.scaling.compute import TOKENS_PER_PAIR
from curr_ab.training.costs import (
    GIB,
    choose_attention,
    expected_time,
    training_flops_per_token,
)


def preview(plan: PretrainingPlan) -> str:
    """The text; devices are those of this machine and of the launch, and no weights are made."""
    import yaml

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = training_precision(plan.precision)
    plan = replace(plan, precision=precision.name)
    pairs = pairs_at_once(plan, device)
    config = build_config(plan)
    with torch.device("meta"):
        model = CurrAbForMaskedLM(config)
    parameters = num_parameters(config)
    dataset = TokenDataset(plan.data, "train", plan.training_subset, plan.draw)
    length = dataset.num_tokens / len(dataset)
    sampled_steps = np.linspace(0, plan.steps - 1, num=min(plan.steps, 1000)).astype(int)
    single = float(np.mean([unpaired_fraction(plan, int(step)) for step in sampled_steps]))
    seen = plan.steps * plan.pairs_per_step
    tokens = seen * length
    if plan.unpaired_data is not None:
        unpaired = TokenDataset(plan.unpaired_data, "train")
        unpaired_length = unpaired.num_tokens / len(unpaired)
        tokens = seen * ((1 - single) * length + single * unpaired_length)
    flops = tokens * training_flops_per_token(config, dataset.squared_length)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    share = -(-plan.pairs_per_step // processes)
    dropout = config.attention_probs_dropout_prob
    activations = activation_bytes(plan, config, length, pairs) / GIB
    memory = [
        f"  {'one process, DDP' if count == 1 else f'FSDP2 over {count}':<17} "
        f"{sharded_state_bytes(model, count) / GIB:.2f} + {activations:.2f}"
        for count in (1, 2, 4, 8)
    ]
    lines = [
        yaml.safe_dump(plan.to_dict(), sort_keys=False).rstrip(),
        "",
        f"parameters       {parameters:,}",
        f"training pairs   {len(dataset):,} (subset {plan.training_subset})",
        f"epochs           {seen * (1 - single) / len(dataset):,.1f}",
        f"tokens           {tokens:.3e}",
        f"operations       {flops:.3e} floating-point",
        f"GPUs             {num_gpus(parameters)} for a model of this size",
        f"batch            {processes} process(es) x {-(-share // pairs)} part(s) of at most {pairs} pairs",
        f"products         {precision.name}: {precision.reason}",
        f"attention        {choose_attention(plan.attention, plan.precision, device, dropout)}",
        f"checkpoints      {len(plan.checkpoint_at)}",
        "",
        "memory of a device, GiB: weights, gradients, AdamW's moments in fp32, then activations, roughly;",
        "not counted: DDP's buckets (as much as the gradients), the layers that FSDP2 has gathered",
        *memory,
        "",
        f"time             {expected_time(flops, plan.precision, parameters, processes)}",
    ]
    return "\n".join(lines)


def step_costs(plan: PretrainingPlan) -> tuple[float, int]:
    """Operations of a step, and parameters, before the data are there: with the usual length of pairs."""
    config = build_config(replace(plan, init_from=None))
    tokens = plan.pairs_per_step * TOKENS_PER_PAIR
    flops = tokens * training_flops_per_token(config, TOKENS_PER_PAIR)
    return flops, num_parameters(config)


def sharded_state_bytes(model: torch.nn.Module, num_processes: int) -> int:
    """Weights, gradients and AdamW's two moments, in fp32, on the process that holds most of them.

    FSDP2 cuts every parameter along its first dimension into equal pieces, the last of which may be short.
    """
    total = 0
    for parameter in model.parameters():
        rows = -(-parameter.shape[0] // num_processes)
        copies = 4 if parameter.requires_grad else 1
        total += 4 * copies * rows * (parameter.numel() // parameter.shape[0])
    return total


def activation_bytes(plan: PretrainingPlan, config: CurrAbConfig, length: float, pairs: int) -> int:
    """Rough size of what the backward pass keeps, with an attention that does not keep its weights."""
    bytes_each = 4 if plan.precision == "fp32" else 2
    # Norms, queries, keys, values, context, projections, both halves of the feed-forward block, residuals.
    kept = 1 if plan.activation_checkpointing else 10 + 2 * config.intermediate_size // config.hidden_size
    return int(pairs * length * config.num_hidden_layers * config.hidden_size * kept * bytes_each)
