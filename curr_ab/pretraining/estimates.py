"""What a run will take: tokens, epochs, floating-point operations, memory of each device, time."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch

from curr_ab.data.shards import TokenDataset
from curr_ab.modeling import CurrAbConfig, CurrAbForMaskedLM
from curr_ab.pretraining.building import build_config
from curr_ab.pretraining.curriculum import unpaired_fraction
from curr_ab.pretraining.plan import PretrainingPlan

GIB = 2**30
# Dense bf16 peaks from the makers' data sheets, in operations per second.
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12, "L40S": 362e12, "A10": 125e12}


@dataclass(frozen=True)
class RunEstimate:
    """Of a whole run; memory is that of one device."""

    num_parameters: int
    num_pairs: int
    tokens: float
    epochs: float
    flops: float
    state_bytes: dict[int, int]  # by the number of processes that share the state under FSDP2
    activation_bytes: int


def training_flops_per_token(config: CurrAbConfig, squared_length: float) -> float:
    """Forward and backward; `squared_length` is the sum of squared lengths over the sum of lengths."""
    layers, width = config.num_hidden_layers, config.hidden_size
    matrices = 6 * (4 * width * width + 2 * width * config.intermediate_size)
    return float(layers * (matrices + 12 * squared_length * width))


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
    """Rough: what the backward pass keeps, with an attention that does not keep its weights."""
    bytes_each = 4 if plan.precision == "fp32" else 2
    # Norms, queries, keys, values, context, projections, both halves of the feed-forward block, residuals.
    kept = 1 if plan.activation_checkpointing else 10 + 2 * config.intermediate_size // config.hidden_size
    return int(pairs * length * config.num_hidden_layers * config.hidden_size * kept * bytes_each)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Of the device's matrix units in half precision; None where it is not known."""
    if device.type != "cuda" or precision == "fp32":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for key, peak in PEAK_FLOPS.items() if re.search(rf"\b{key}\b", name)), None)


def _mean_unpaired_fraction(plan: PretrainingPlan) -> float:
    steps = np.linspace(0, plan.steps - 1, num=min(plan.steps, 1000)).astype(int)
    return float(np.mean([unpaired_fraction(plan, int(step)) for step in steps]))
