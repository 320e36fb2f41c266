"""Which number type a machine is fast in: bfloat16 where the hardware multiplies it, float32 elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Precision(NamedTuple):
    """A type, and why it was chosen."""

    dtype: torch.dtype
    reason: str


def choose_precision(device: torch.device, wanted: str = "auto") -> Precision:
    """The type asked for, or the fast one; never float16 on a CPU, which multiplies it one by one.

    bfloat16 moves a pooled embedding by up to about 0.03, a log-probability by a few hundredths.
    """
    if wanted != "auto":
        if wanted not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {wanted!r}; choose auto, float32 or bfloat16")
        return Precision(getattr(torch, wanted), "as asked for")
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return Precision(torch.bfloat16, "the GPU multiplies it")
        return Precision(torch.float32, "the GPU does not multiply bfloat16")
    if device.type == "cpu":
        # Both are private names of torch, but the only ones; where they are gone float32 is right too.
        for feature, name in {
            "AMX": "_is_amx_tile_supported",
            "AVX-512": "_is_avx512_bf16_supported",
        }.items():
            if getattr(torch.cpu, name, bool)():
                return Precision(torch.bfloat16, f"the CPU multiplies it ({feature})")
        return Precision(torch.float32, "the CPU does not multiply bfloat16")
    return Precision(torch.float32, f"nothing is known of {device.type}")
