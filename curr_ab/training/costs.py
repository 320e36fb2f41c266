"""Operations, memory and time of training on a device: peaks, micro-batches, estimates."""

from __future__ import annotations

import re
import time

import torch

from curr_ab.modeling import CurrAbConfig

# What a well-made implementation reaches on an H200 (a roofline estimate, not a measurement), by parameters.
EXPECTED_UTILIZATION = ((20e6, 0.21), (80e6, 0.30), (250e6, 0.38), (500e6, 0.49), (float("inf"), 0.53))
GIB = 2**30
# Dense bf16 peaks from the makers' data sheets, in operations per second.
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12, "L40S": 362e12, "A10": 125e12}


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


def training_flops_per_token(config: CurrAbConfig, squared_length: float) -> float:
    """Forward and backward; `squared_length` is the sum of squared lengths over the sum of lengths."""
    layers, width = config.num_hidden_layers, config.hidden_size
    matrices = 6 * (4 * width * width + 2 * width * config.intermediate_size)
    return float(layers * (matrices + 12 * squared_length * width))


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Of the device's matrix units in half precision; None where it is not known."""
    if device.type != "cuda" or precision == "fp32":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for key, peak in PEAK_FLOPS.items() if re.search(rf"\b{key}\b", name)), None)
