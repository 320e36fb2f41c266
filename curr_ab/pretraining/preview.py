"""What `--dry-run` prints: the plan, and what a run of it takes."""

from __future__ import annotations

import os
import time

import torch

from curr_ab.pretraining.attention import choose_attention
from curr_ab.pretraining.building import build_config
from curr_ab.pretraining.estimates import GIB, estimate_run, peak_flops
from curr_ab.pretraining.plan import PretrainingPlan

# What a well-made implementation reaches on an H200 (a roofline estimate, not a measurement), by parameters.
EXPECTED_UTILIZATION = ((20e6, 0.21), (80e6, 0.30), (250e6, 0.38), (500e6, 0.49), (float("inf"), 0.53))


def preview(plan: PretrainingPlan) -> str:
    """The text; devices are those of this machine and of the launch."""
    import yaml

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pairs = plan.pairs_per_micro_batch or default_micro_batch(device)
    config = build_config(plan)
    estimate = estimate_run(plan, pairs)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    rate, source = sustained_flops(device, plan.precision, estimate.num_parameters)
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
    time = duration(estimate.flops / rate / processes)
    lines += ["", f"time             {time} on {processes} device(s), {source}"]
    return "\n".join(lines)


def default_micro_batch(device: torch.device) -> int:
    """Small on a CPU, whose caches are the limit."""
    return 8 if device.type == "cpu" else 32


def sustained_flops(device: torch.device, precision: str, num_parameters: int) -> tuple[float, str]:
    """Operations per second to reckon with, and why."""
    utilization = next(share for limit, share in EXPECTED_UTILIZATION if num_parameters < limit)
    if peak := peak_flops(device, precision):
        return utilization * peak, f"if {utilization:.0%} of {peak / 1e12:.0f} TFLOP/s are reached"
    measured = _matrix_flops(device)
    return (
        0.5 * measured,
        f"if half of the {measured / 1e9:,.0f} GFLOP/s of a matrix product here are reached",
    )


def _matrix_flops(device: torch.device) -> float:
    size, repeats = 1024, 5
    matrix = torch.randn(size, size, device=device)
    matrix @ matrix
    began = time.perf_counter()
    for _ in range(repeats):
        product = matrix @ matrix
    float(product[0, 0])  # waits for the device
    return repeats * 2 * size**3 / (time.perf_counter() - began)


def duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} seconds"
