"""Attention on a CPU, one pair after the other: no mask, cheap dropout, and a backward of its own.

The scores of one pair stay in the cache, tokens of different pairs never meet in one product, and padding is
not computed at all. In bfloat16, and with dropout, plain matrix products take a fraction of the time of
torch's own attention, whose gradients or whose dropout are slow there.

Shapes in comments: N tokens of all rows laid end to end, L tokens of a pair, H heads, D dimensions of a head.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .skip_dropout import dropped_elements

_LOG2_E = math.log2(math.e)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: dimension i turns together with dimension i + D / 2."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `rotate` without a gradient: without the temporaries, which cost more than the arithmetic."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    out = x * cos
    half = x.shape[-1] // 2
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


class _PairwiseAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,  # [N, 3, H, D] queries, keys and values, before rotation
        cos: Tensor,  # [N, 1, 1, D], as sin
        sin: Tensor,
        spans: list[list[int]],
        scaling: float,
        dropout: float,
        causal: bool,
    ) -> Tensor:
        context = projected.new_zeros(projected.shape[0], *projected.shape[2:])  # [N, H, D], zeros at padding
        kept_scale = 1 / (1 - dropout)
        saved = []
        keeps_nothing = not (ctx.needs_input_grad[0] or dropout or causal)
        for start, end in spans:
            turned = _turned(projected[start:end, :2], cos[start:end], sin[start:end])
            turned[:, 0].mul_(scaling * _LOG2_E if keeps_nothing else scaling)
            turned = turned.permute(1, 2, 0, 3).to(projected.dtype, memory_format=torch.contiguous_format)
            value = projected[start:end, 2].transpose(0, 1).contiguous()  # [H, L, D]
            if keeps_nothing:
                context[start:end] = _attend(turned[0], turned[1], value).transpose(0, 1)
                continue
            value = value * kept_scale
            weights = _softmax(turned[0] @ turned[1].transpose(1, 2), causal)  # [H, L, L]
            dropped, used = None, weights
            if dropout:
                dropped = dropped_elements(weights.numel(), dropout)
                used = _without(dropped, weights.clone())
            context[start:end] = (used @ value).transpose(0, 1)
            if ctx.needs_input_grad[0]:
                saved += [turned, value, weights, dropped]
        ctx.spans, ctx.scaling, ctx.kept_scale = spans, scaling, kept_scale
        ctx.save_for_backward(cos, sin, *saved)
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin, *saved = ctx.saved_tensors
        grad_projected = grad.new_zeros(grad.shape[0], 3, *grad.shape[1:])  # [N, 3, H, D]
        for pair, (start, end) in enumerate(ctx.spans):
            turned, value, weights, dropped = saved[4 * pair : 4 * pair + 4]
            grad_context = grad[start:end].transpose(0, 1).contiguous()  # [H, L, D]
            grad_weights = grad_context @ value.transpose(1, 2)  # [H, L, L]
            used = weights
            if dropped is not None:
                used = _without(dropped, weights.clone())
                _without(dropped, grad_weights)
            grad_value = used.transpose(1, 2) @ grad_context
            grad_projected[start:end, 2] = grad_value.mul_(ctx.kept_scale).transpose(0, 1)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_turned = torch.stack((grad_scores @ turned[1], grad_scores.transpose(1, 2) @ turned[0]))
            back = _turned(grad_turned.permute(2, 0, 1, 3), cos[start:end], -sin[start:end])  # [L, 2, H, D]
            back[:, 0].mul_(ctx.scaling)
            grad_projected[start:end, :2] = back
        return grad_projected, None, None, None, None, None, None


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention [H, L, D] where no weights are kept, of queries scaled for powers of two.

    Powers of two take half the time of a softmax. It is not the greatest score that keeps them in range but a
    look at their sums; where one is out of it, softmax.
    """
    weights = (query @ key.transpose(1, 2)).exp2_()  # [H, L, L]
    total = weights.sum(-1, keepdim=True)
    least, most = total.aminmax()
    numbers = torch.finfo(weights.dtype)
    if numbers.tiny**0.5 < least <= most < numbers.max**0.5:
        return (weights @ value).div_(total)
    return _softmax(query @ key.transpose(1, 2) / _LOG2_E, causal=False) @ value


def _softmax(scores: Tensor, causal: bool) -> Tensor:
    """Softmax of the last dimension, computed in single precision at least."""
    if causal:
        scores.masked_fill_(torch.ones(scores.shape[-2:], dtype=torch.bool).triu_(1), float("-inf"))
    if scores.dtype in (torch.float32, torch.float64):
        return torch.softmax(scores, dim=-1, out=scores)
    return scores.copy_(torch.softmax(scores, dim=-1, dtype=torch.float32))


def _without(dropped: Tensor, weights: Tensor) -> Tensor:
    """The weights, changed in place, with zeros at the dropped elements."""
    weights.view(-1).index_fill_(0, dropped, 0)
    return weights


# A compiled layer leaves it out: it would be traced pair by pair, and anew for every length.
@torch.compiler.disable
def pairwise_attention(
    projected: Tensor,  # [B, S, 3, H, D]
    cos: Tensor,  # [B or 1, S, 1, 1, D]
    sin: Tensor,
    spans: Tensor,  # [P, 2] first token of each pair, and the one after its last
    scaling: float,
    dropout: float = 0.0,
    causal: bool = False,
) -> Tensor:
    """Rotary positions, and attention within each span of the rows laid end to end: [N, H, D]."""
    angles = [each.expand(len(projected), -1, -1, -1, -1).flatten(0, 1) for each in (cos, sin)]
    # Autocast has done its part when it chose the precision of the projections.
    with torch.autocast("cpu", enabled=False):
        return _PairwiseAttention.apply(
            projected.flatten(0, 1), *angles, spans.tolist(), scaling, dropout, causal
        )
