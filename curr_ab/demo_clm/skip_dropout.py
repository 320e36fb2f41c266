"""Dropout on a CPU that draws one number for each dropped element, instead of one for each element.

The gaps between dropped elements are geometrically distributed exactly when each element is dropped on its
own with probability p. Drawing the gaps gives the same distribution as drawing every element, for a tenth of
the random numbers at p = 0.1, from torch's default generator.
"""

import math
from typing import Any

import torch
from torch import Tensor


def dropped_elements(num_elements: int, p: float) -> Tensor:
    """Ascending indices of the elements that dropout zeroes, each of `num_elements` with probability `p`."""
    if not 0 < p < 1:
        raise ValueError(f"dropout {p} is not between 0 and 1")
    # Ten standard deviations more than are expected, so that a second draw is all but never needed.
    num_gaps = int(num_elements * p + 10 * math.sqrt(num_elements * p)) + 16
    pieces, last = [], -1
    while last < num_elements:
        # rand() lies in [0, 1): 1 - rand() is never 0, and the logarithm is finite.
        gaps = torch.rand(num_gaps).neg_().log1p_().mul_(1 / math.log1p(-p)).long().add_(1)
        pieces.append(gaps.cumsum_(0).add_(last))
        last = int(pieces[-1][-1])
    indices = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    return indices[: int(torch.searchsorted(indices, num_elements))]


class _SkipDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.scale = 1 / (1 - p)
        dropped = dropped_elements(x.numel(), p)
        ctx.save_for_backward(dropped)
        return (x * ctx.scale).contiguous().view(-1).index_fill_(0, dropped, 0).view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (dropped,) = ctx.saved_tensors
        return (grad * ctx.scale).contiguous().view(-1).index_fill_(0, dropped, 0).view(grad.shape), None


def skip_dropout(x: Tensor, p: float) -> Tensor:
    """`x` with each element zeroed with probability `p` and the others scaled by 1 / (1 - p)."""
    return _SkipDropout.apply(x, p)
