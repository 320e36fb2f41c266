"""Attention on a CPU, one pair after the other: no mask, cheap dropout, and a backward of its own.

Scores of one pair stay in the cache, tokens of different pairs never meet in one product, and padding is not
computed at all. Where torch's kernel leaves bfloat16 gradients and dropout to slow paths, plain matrix products
in the input's precision are two to five times faster.

Shapes in comments: N tokens of all rows laid end to end, L tokens of a pair, H heads, D dimensions of a head.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .skip_dropout import dropped_elements

Spans = Sequence[tuple[int, int]]  # first token of each pair, and the one after its last


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: dimension i turns together with dimension i + D / 2."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class _PairwiseAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,  # [N, 3, H, D] queries, keys and values, before rotation
        cos: Tensor,  # [N, 1, 1, D], as sin
        sin: Tensor,
        spans: Spans,
        scaling: float,
        dropout: float,
        causal: bool,
    ) -> Tensor:
        rotated = rotate(projected[:, :2], cos, sin)
        rotated[:, 0] *= scaling
        rotated = rotated.to(projected.dtype)
        context = projected.new_zeros(projected.shape[0], *projected.shape[2:])  # [N, H, D], zeros at padding
        kept_scale = 1 / (1 - dropout)
        weights_of_pairs, dropped_of_pairs = [], []
        for start, end in spans:
            query, key = rotated[start:end].permute(1, 2, 0, 3)  # [H, L, D] each
            value = projected[start:end, 2].transpose(0, 1)
            weights = _softmax(query @ key.transpose(1, 2), causal)  # [H, L, L]
            used = weights
            if dropout:
                dropped_of_pairs.append(dropped_elements(weights.numel(), dropout))
                used = _zeroed(weights, dropped_of_pairs[-1])
                value = value * kept_scale
            context[start:end] = (used @ value).transpose(0, 1)
            weights_of_pairs.append(weights)
        ctx.spans, ctx.scaling, ctx.kept_scale = spans, scaling, kept_scale
        ctx.save_for_backward(projected, rotated, cos, sin, context, *weights_of_pairs, *dropped_of_pairs)
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        projected, rotated, cos, sin, context, *saved = ctx.saved_tensors
        spans = ctx.spans
        weights_of_pairs, dropped_of_pairs = saved[: len(spans)], saved[len(spans) :]
        # What the softmax subtracts from each row, sum of weight times its gradient, without forming either.
        mean = (grad * context).sum(dim=-1, keepdim=True)  # [N, H, 1]
        grad_projected = torch.zeros_like(projected)
        grad_rotated = torch.zeros_like(rotated)
        for index, (start, end) in enumerate(spans):
            query, key = rotated[start:end].permute(1, 2, 0, 3)
            value = projected[start:end, 2].transpose(0, 1)
            grad_context = grad[start:end].transpose(0, 1) * ctx.kept_scale  # [H, L, D]
            weights = used = weights_of_pairs[index]
            grad_scores = grad_context @ value.transpose(1, 2)  # [H, L, L]
            if dropped_of_pairs:
                used = _zeroed(weights, dropped_of_pairs[index])
                grad_scores.view(-1).index_fill_(0, dropped_of_pairs[index], 0)
            grad_projected[start:end, 2] = (used.transpose(1, 2) @ grad_context).transpose(0, 1)
            grad_scores.sub_(mean[start:end].transpose(0, 1)).mul_(weights)
            grad_rotated[start:end, 0] = (grad_scores @ key).transpose(0, 1)
            grad_rotated[start:end, 1] = (grad_scores.transpose(1, 2) @ query).transpose(0, 1)
        back = rotate(grad_rotated, cos, -sin)
        back[:, 0] *= ctx.scaling
        grad_projected[:, :2] = back
        return grad_projected, None, None, None, None, None, None


def _softmax(scores: Tensor, causal: bool) -> Tensor:
    """Softmax of the last dimension, in single precision at least, over the memory of the scores."""
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu_(1)
        scores.masked_fill_(future, float("-inf"))
    if scores.dtype in (torch.float32, torch.float64):
        return torch.softmax(scores, dim=-1, out=scores)
    return scores.copy_(scores.float().softmax(dim=-1))


def _zeroed(weights: Tensor, dropped: Tensor) -> Tensor:
    used = weights.clone()
    used.view(-1).index_fill_(0, dropped, 0)
    return used


def pairwise_attention(
    projected: Tensor,  # [B, S, 3, H, D]
    cos: Tensor,  # [B or 1, S, 1, 1, D]
    sin: Tensor,
    spans: Spans,
    scaling: float,
    dropout: float = 0.0,
    causal: bool = False,
) -> Tensor:
    """Rotary positions, and attention within each span of the rows laid end to end: [N, H, D]."""
    # Under autocast the projections come in its precision already; softmax must not leave it half-way.
    with torch.autocast("cpu", enabled=False):
        angles = [each.expand(len(projected), -1, -1, -1, -1).flatten(0, 1) for each in (cos, sin)]
        return _PairwiseAttention.apply(projected.flatten(0, 1), *angles, spans, scaling, dropout, causal)
