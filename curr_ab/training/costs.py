"""Training on a device: its micro-batches, operations, memory and time."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from curr_ab.quantities import format_duration

if TYPE_CHECKING:  # scaling reads the table of peaks without torch
    import torch

    from curr_ab.modeling import CurrAbConfig

# Peak of dense bf16 or fp16 matrix products from the makers' data sheets, in operations per second.
PEAK_FLOPS: Mapping[str, float] = MappingProxyType(
    {"A100": 312e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12, "L40S": 362e12, "A10": 125e12}
)
# Share of the peak that a well-made implementation reaches on an H200, below so many parameters: a roofline
# estimate, not a measurement.
_EXPECTED_UTILIZATION = ((20e6, 0.21), (80e6, 0.30), (250e6, 0.38), (500e6, 0.49), (float("inf"), 0.53))
GIB = 2**30


def default_micro_batch(device: torch.device) -> int:
    """Pairs at once: few on a CPU, whose caches are the limit."""
    return 8 if device.type == "cpu" else 32


def training_flops_per_token(config: CurrAbConfig, squared_length: float) -> float:
    """Forward and backward; `squared_length` is the sum of squared lengths over the sum of lengths."""
    layers, width = config.num_hidden_layers, config.hidden_size
    matrices = 6 * (4 * width * width + 2 * width * config.intermediate_size)
    return float(layers * (matrices + 12 * squared_length * width))


def named_peak(name: str) -> float | None:
    """Peak of a device by its name, such as `h100` or `NVIDIA H100 80GB HBM3`; None where it is unknown."""
    peaks = (peak for key, peak in PEAK_FLOPS.items() if re.search(rf"\b{key}\b", name, re.IGNORECASE))
    return next(peaks, None)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Peak of the device's matrix units; None where it is unknown, as on CPUs and in fp32."""
    import torch

    if device.type != "cuda" or precision == "fp32":
        return None
    return named_peak(torch.cuda.get_device_name(device))


def expected_utilization(num_parameters: int) -> float:
    """Share of its peak that a GPU is expected to reach with a model of this size."""
    return next(share for limit, share in _EXPECTED_UTILIZATION if num_parameters < limit)


def expected_time(flops: float, precision: str, num_parameters: int, num_devices: int = 1) -> str:
    """Time of a training on this machine's kind of device, and what the estimate assumes."""
    rate, reason = expected_rate(precision, num_parameters)
    return f"{format_duration(flops / rate / num_devices)} on {num_devices} device(s), {reason}"


def expected_rate(precision: str, num_parameters: int) -> tuple[float, str]:
    """Operations in a second on this machine's kind of device, and what the estimate assumes."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if peak := peak_flops(device, precision):
        utilization = expected_utilization(num_parameters)
        return utilization * peak, f"if {utilization:.0%} of {peak / 1e12:.0f} TFLOP/s are reached"
    measured = _matrix_flops(device)
    return (
        0.5 * measured,
        f"if half of the {measured / 1e9:,.0f} GFLOP/s of a matrix product here are reached",
    )


def _matrix_flops(device: torch.device) -> float:
    import torch

    size, repeats = 1024, 5
    matrix = torch.randn(size, size, device=device)
    matrix @ matrix
    began = time.perf_counter()
    for _ in range(repeats):
        product = matrix @ matrix
    float(product[0, 0])  # waits for the device
    return repeats * 2 * size**3 / (time.perf_counter() - began)


def peak_memory(device: torch.device) -> float:
    """GiB that this process has held at most: of the GPU, or of main memory."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    try:
        import resource
    except ImportError:  # Windows, where psutil tells the peak
        import psutil

        memory = psutil.Process().memory_info()
        return float(memory.peak_wset if hasattr(memory, "peak_wset") else memory.rss) / GIB
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
