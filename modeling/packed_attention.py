"""Attention on a GPU by torch's own flash kernel: packed rows, dropout, and no other package to install.

`scaled_dot_product_attention` runs the same kernel, but only for rows without a mask; pairs in one row are
kept apart by a mask, which leads to a slower kernel and to scores of every token with every other.

Shapes in comments: B rows, S tokens of a row, N tokens of all rows, H heads, D dimensions of a head, P pairs.
"""

from typing import Any

import torch
from torch import Tensor, nn

# What the kernel is compiled for: other sizes are refused, not padded.
HEAD_SIZE_STEP, MOST_HEAD_SIZE = 8, 256
AMPERE = (8, 0)  # the first GPUs that it runs on
HALF_PRECISION = (torch.bfloat16, torch.float16)
# The public name of the kernel, without dropout. Older versions have it with other arguments, or not at all.
HAS_PUBLIC_KERNEL = torch.__version__ >= "2.13"


def why_not_packed(device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
    """The reason why torch's flash kernel does not take packed rows here; None where it does."""
    if device.type != "cuda":
        return f"it needs CUDA, not {device.type}"
    if torch.version.hip is not None:
        return "it was never tried with ROCm"
    # A private name, though the public `varlen_attn` is this operation without dropout.
    if not hasattr(torch.ops.aten, "_flash_attention_forward"):
        return f"torch {torch.__version__} has it no more"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this torch was built without it"
    if not torch.backends.cuda.flash_sdp_enabled():
        return "it is switched off in torch.backends.cuda"
    if torch.cuda.get_device_capability(device) < AMPERE:
        return "the GPU is older than Ampere"
    if dtype not in HALF_PRECISION:
        return f"it computes in half precision, not in {str(dtype).removeprefix('torch.')}"
    if head_size % HEAD_SIZE_STEP or head_size > MOST_HEAD_SIZE:
        return (
            f"heads must have a multiple of {HEAD_SIZE_STEP} dimensions, {MOST_HEAD_SIZE} at most, "
            f"not {head_size}"
        )
    return None


def packed_attention(
    module: nn.Module,
    query: Tensor,  # [B, H, S, D], as key and value
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # None: the boundaries say all
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    cu_seq_lens_q: Tensor,  # [P + 1] first token of each pair in the rows end to end, and the end
    max_length_q: int,  # a number of the host: to ask the device would be to wait for it
    **same_for_keys: Any,
) -> tuple[Tensor, None]:
    """Attention within each pair of the rows laid end to end: [B, S, H, D], and no weights to show."""
    assert attention_mask is None
    shape = query.shape[0], query.shape[2]
    query, key, value = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))  # [N, H, D]
    boundaries = cu_seq_lens_q.to(query.device, torch.int32)
    causal = bool(module.is_causal)
    context: Any
    if HAS_PUBLIC_KERNEL and not dropout:
        from torch.nn.attention.varlen import (
            varlen_attn,  # loads the compiler, which others need not wait for
        )

        context = varlen_attn(
            query,
            key,
            value,
            boundaries,
            boundaries,
            max_length_q,
            max_length_q,
            scale=scaling,
            window_size=(-1, 0 if causal else -1),
        )
    else:
        context, *_ = torch.ops.aten._flash_attention_forward(
            query,
            key,
            value,
            boundaries,
            boundaries,
            max_length_q,
            max_length_q,
            dropout,
            causal,
            return_debug_mask=False,
            scale=scaling,
        )
    return context.unflatten(0, shape), None
