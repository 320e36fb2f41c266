"""FLOPs of a training run, of the paper's schedule, of GPU hours."""

from __future__ import annotations

from curr_ab.family import TrainingPlan
from curr_ab.training.costs import PEAK_FLOPS, named_peak

# Pairs have 227 to 260 tokens with their special tokens.
TOKENS_PER_PAIR = 240
# Share of the peak that a good training loop reaches at 650M parameters on pairs; small models reach half.
UTILIZATION = 0.4


def training_flops(parameters: float, tokens: float) -> float:
    """Six operations for each parameter and token: forward, and backward twice that."""
    return 6 * parameters * tokens


def paper_tokens() -> float:
    """The tokens that each of the 15 members has processed."""
    plan = TrainingPlan()
    return float(plan.steps * plan.pairs_per_step * TOKENS_PER_PAIR)


def gpu_flops(hours: float, gpu: str, utilization: float = UTILIZATION) -> float:
    """The operations that `hours` of one GPU buy, at this share of its peak."""
    peak = named_peak(gpu)
    if peak is None:
        raise ValueError(
            f"gpu must be one of {', '.join(PEAK_FLOPS)}; got {gpu!r}: choose one, or give FLOPs"
        )
    if not 0 < utilization <= 1:
        raise ValueError(f"utilization must be a share of the peak, above 0 and at most 1; got {utilization}")
    return hours * 3600 * peak * utilization
