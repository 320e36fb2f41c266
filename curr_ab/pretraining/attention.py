"""The attention implementation that suits a device."""

from __future__ import annotations

import torch
from transformers.utils import is_flash_attn_2_available


def choose_attention(wanted: str, device: torch.device) -> str:
    """What was asked for; else the fastest for packed rows that is installed here."""
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "sdpa"
    return "flash_attention_2" if is_flash_attn_2_available() else "flex_attention"
