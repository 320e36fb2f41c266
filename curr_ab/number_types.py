"""The number type in which a device multiplies matrices fast, and what a user's choice makes of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_NAMES = {dtype: name for name, dtype in TYPES.items()}


class Precision(NamedTuple):
    """A number type, and the reason for it."""

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> Any:
        """As plans and recipes write it."""
        return _NAMES[self.dtype]


def fast_type(device: torch.device) -> Precision:
    """The fast one of bfloat16 and float32; never float16, which a CPU multiplies number by number."""
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return Precision(torch.bfloat16, "the GPU multiplies it")
        return Precision(torch.float32, "the GPU does not multiply bfloat16")
    if device.type != "cpu":
        return Precision(torch.float32, f"nothing is known of {device.type}")
    # Some are private names of torch, but the only ones; where they are gone float32 is right too. What
    # ATEN_CPU_CAPABILITY or ONEDNN_MAX_CPU_ISA holds to less emulates it, as an older processor does.
    held = (
        torch.backends.cpu.get_cpu_capability() != "AVX512"
        or not getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)()
    )
    for feature, name in {"AMX": "_is_amx_tile_supported", "AVX-512": "_is_avx512_bf16_supported"}.items():
        if not held and getattr(torch.cpu, name, bool)():
            return Precision(torch.bfloat16, f"the CPU multiplies it ({feature})")
    return Precision(torch.float32, "the CPU does not multiply bfloat16")


def choose_precision(device: torch.device, wanted: str = "auto") -> Precision:
    """The number type of weights and products in inference: the one asked for, or the fast one.

    bfloat16 moves a pooled embedding by up to about 0.03, a log-probability by a few hundredths.
    """
    if wanted == "auto":
        return fast_type(device)
    if wanted not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be auto, float32 or bfloat16; got {wanted!r}")
    return Precision(getattr(torch, wanted), "as asked for")


def training_precision(wanted: str, begun: str | None = None) -> Precision:
    """The number type of a training's products: the one asked for, the one it began in, or the fast one."""
    if wanted != "auto":
        return Precision(TYPES[wanted], "as asked for")
    fast = fast_type(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if begun in (None, "auto", fast.name):
        return fast
    return Precision(TYPES[str(begun)], f"the run began in it; this machine is faster in {fast.name}")
