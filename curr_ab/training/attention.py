"""The attention implementation that suits a device, and the rows that suit it."""

from __future__ import annotations

import torch
from transformers.utils import is_flash_attn_2_available


def choose_attention(wanted: str, precision: str, device: torch.device, dropout: float) -> str:
    """The wanted implementation; with `auto` the fastest one here that has the dropout of the model."""
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "sdpa"
    if is_flash_attn_2_available() and precision != "fp32":  # it has half precision alone
        return "flash_attention_2"
    return "sdpa" if dropout else "flex_attention"  # flex has no dropout


def takes_packed_rows(attention: str, device: torch.device) -> bool:
    """False where a packed row would cost the square of its whole length: torch's own kernels on a GPU."""
    return device.type == "cpu" or attention not in ("sdpa", "eager")
