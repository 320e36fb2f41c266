"""Text of `pretrain --dry-run`: the plan, and the time and memory that its run takes."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch

from curr_ab.data.shards import TokenDataset
from curr_ab.modeling import CurrAbConfig, CurrAbForMaskedLM
from curr_ab.pretraining.batches import unpaired_fraction
from curr_ab.pretraining.model import build_config
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.training.attention import choose_attention
from curr_ab.training.costs import GIB, default_micro_batch, expected_time, training_flops_per_token


def preview(plan: PretrainingPlan) -> str:
    """The text; devices are those of this machine and of the launch."""
    import yaml

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pairs = plan.pairs_per_micro_batch or default_micro_batch(device)
    config = build_config(plan)
    estimate = estimate_run(plan, pairs)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    share = -(-plan.pairs_per_step // processes)
    dropout = config.attention_probs_dropout_prob
    lines = [
        yaml.safe_dump(plan.to_dict(), sort_keys=False).rstrip(),
        "",
        f"parameters       {estimate.num_parameters:,}",
        f"training pairs   {estimate.num_pairs:,} (subset {plan.training_subset})",
        f"epochs           {estimate.epochs:,.1f}",
        f"tokens           {estimate.tokens:.3e}",
        f"operations       {estimate.flops:.3e} floating-point",
        f"batch            {processes} process(es) x {-(-share // pairs)} part(s) of at most {pairs} pairs",
        f"attention        {choose_attention(plan.attention, plan.precision, device, dropout)}",
        f"checkpoints      {len(plan.checkpoint_at)}",
        "",
        "memory of a device, GiB: weights, gradients, AdamW's moments in fp32, then activations, roughly;",
        "not counted: DDP's buckets (as much as the gradients), the layers that FSDP2 has gathered",
    ]
    for count, state in estimate.state_bytes.items():
        name = "one process, DDP" if count == 1 else f"FSDP2 over {count}"
        lines.append(f"  {name:<17} {state / GIB:.2f} + {estimate.activation_bytes / GIB:.2f}")
    time = expected_time(estimate.flops, plan.precision, estimate.num_parameters, processes)
    return "\n".join([*lines, "", f"time             {time}"])


@dataclass(frozen=True)
class RunEstimate:
    """Costs of a whole run; memory is that of one device."""

    num_parameters: int
    num_pairs: int
    tokens: float
    epochs: float
    flops: float
    state_bytes: dict[int, int]  # by the number of processes that share the state under FSDP2
    activation_bytes: int


def estimate_run(plan: PretrainingPlan, pairs_per_micro_batch: int) -> RunEstimate:
    """From the prepared data and the shape alone; no weights are made."""
    config = build_config(plan)
    with torch.device("meta"):
        model = CurrAbForMaskedLM(config)
    dataset = TokenDataset(plan.data, "train", plan.training_subset)
    lengths = dataset.lengths().astype(np.float64)
    single = _mean_unpaired_fraction(plan)
    seen = plan.steps * plan.pairs_per_step
    tokens = seen * float(lengths.mean())
    squared = float(np.square(lengths).sum() / lengths.sum())
    if plan.unpaired_data is not None:
        unpaired = TokenDataset(plan.unpaired_data, "train").lengths().astype(np.float64)
        tokens = seen * ((1 - single) * float(lengths.mean()) + single * float(unpaired.mean()))
    return RunEstimate(
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_pairs=len(dataset),
        tokens=tokens,
        epochs=seen * (1 - single) / len(dataset),
        flops=tokens * training_flops_per_token(config, squared),
        state_bytes={n: sharded_state_bytes(model, n) for n in (1, 2, 4, 8)},
        activation_bytes=activation_bytes(plan, config, float(lengths.mean()), pairs_per_micro_batch),
    )


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


def _mean_unpaired_fraction(plan: PretrainingPlan) -> float:
    steps = np.linspace(0, plan.steps - 1, num=min(plan.steps, 1000)).astype(int)
    return float(np.mean([unpaired_fraction(plan, int(step)) for step in steps]))
