"""What training costs: FLOPs of a run, of the paper's schedule, of GPU hours."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from curr_ab.family import TrainingPlan

# Pairs have 227 to 260 tokens with their special tokens.
TOKENS_PER_PAIR = 240
# Peak of dense bf16 matrix products, in FLOP/s, from the manufacturer's data sheets.
GPU_PEAK_FLOPS: Mapping[str, float] = MappingProxyType({"a100": 312e12, "h100": 989e12, "h200": 989e12})
# Share of the peak that a good training loop reaches at 650M parameters on pairs; small models reach half.
UTILISATION = 0.4


def training_flops(parameters: float, tokens: float) -> float:
    """Six operations for each parameter and token: forward, and backward twice that."""
    return 6 * parameters * tokens


def paper_tokens() -> float:
    """The tokens that each of the 15 members has processed."""
    plan = TrainingPlan()
    return float(plan.steps * plan.pairs_per_step * TOKENS_PER_PAIR)


def gpu_flops(hours: float, gpu: str, utilisation: float = UTILISATION) -> float:
    """The operations that `hours` of one GPU buy."""
    if gpu.lower() not in GPU_PEAK_FLOPS:
        raise ValueError(f"unknown GPU {gpu!r}; known are {', '.join(GPU_PEAK_FLOPS)}, or give FLOPs")
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation is a share of the peak, above 0 and at most 1, not {utilisation}")
    return hours * 3600 * GPU_PEAK_FLOPS[gpu.lower()] * utilisation
