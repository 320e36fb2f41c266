"""Torch's flash kernel, forward and backward, on a CPU: put in behind the real operations and gradients.

A CPU has no kernel of its own for `aten::_flash_attention_forward`. With these, torch's dispatcher checks the
arguments, and its own formula finds the gradients; what the kernels on a GPU refuse is refused here as well.
"""

from contextlib import contextmanager

import torch

MOST_HEAD_SIZE = 256


class FlashKernel:
    """The kernel, and the arguments of each call that it has had."""

    def __init__(self, half_precision_alone=False):
        self.half_precision_alone = half_precision_alone
        self.calls, self.backward_calls = [], 0

    def check(self, tensors, cu_q, cu_k, max_q, max_k):
        """What the kernels for a GPU ask for, as their source has it."""
        for one in tensors:
            assert one.dim() == 3 and one.stride(-1) == 1 and one.dtype == tensors[0].dtype
            assert one.shape == tensors[0].shape
            assert one.shape[-1] % 8 == 0 and one.shape[-1] <= MOST_HEAD_SIZE
            assert not self.half_precision_alone or one.dtype in (torch.bfloat16, torch.float16)
        for boundaries, longest in ((cu_q, max_q), (cu_k, max_k)):
            assert boundaries.dtype == torch.int32 and boundaries.is_contiguous()
            assert type(longest) is int and longest >= int(boundaries.diff().max())
            assert boundaries[0] == 0 and boundaries[-1] == len(tensors[0])

    def weights(self, query, key, span, scale, causal):
        """Softmax [H, L, L] of one segment, in single precision."""
        q, k = (one[span].transpose(0, 1).float() for one in (query, key))
        scores = q @ k.transpose(1, 2) * scale
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
        return scores.softmax(-1)

    def kept(self, rng_state, weights, number, dropout):
        """1 / (1 - p) at what dropout leaves, and 0 elsewhere; the same for the same state."""
        if not dropout:
            return torch.ones_like(weights)
        generator = torch.Generator().manual_seed(int(rng_state[0].long()) + number)
        return (torch.rand(weights.shape, generator=generator) >= dropout) / (1 - dropout)

    def forward(
        self, query, key, value, cu_q, cu_k, max_q, max_k, dropout, causal, debug, *, scale=None, **options
    ):
        self.check((query, key, value), cu_q, cu_k, max_q, max_k)
        assert not debug
        assert all(options.pop(name, None) in (None, -1, 0) for name in ("window_size_left",))
        assert options.pop("window_size_right", None) in (None, 0 if causal else -1)
        assert not any(value is not None for value in options.values())
        self.calls.append({"dropout": dropout, "causal": causal, "scale": scale, "longest": max_q})
        rng_state = torch.zeros(2, dtype=torch.uint64)
        if dropout:
            rng_state = torch.randint(1 << 40, (2,)).to(torch.uint64)
        out = torch.empty_like(query)
        for number, (start, end) in enumerate(cu_q.unfold(0, 2, 1).tolist()):
            weights = self.weights(query, key, slice(start, end), scale, causal)
            kept = self.kept(rng_state, weights, number, dropout)
            context = (weights * kept) @ value[start:end].transpose(0, 1).float()
            out[start:end] = context.transpose(0, 1).to(out.dtype)
        sums = torch.zeros(query.shape[1], len(query))
        return out, sums, rng_state, torch.empty((), dtype=torch.uint64), query.new_empty(0)

    def backward(
        self, grad, query, key, value, out, sums, cu_q, cu_k, max_q, max_k, *rest, scale=None, **windows
    ):
        dropout, causal, rng_state, _ = rest
        self.check((query, key, value), cu_q, cu_k, max_q, max_k)
        self.backward_calls += 1
        grads = [torch.empty_like(one) for one in (query, key, value)]
        for number, (start, end) in enumerate(cu_q.unfold(0, 2, 1).tolist()):
            span = slice(start, end)
            q, k, v, g = (one[span].transpose(0, 1).float() for one in (query, key, value, grad))
            weights = self.weights(query, key, span, scale, causal)
            kept = self.kept(rng_state, weights, number, dropout)
            grad_weights = g @ v.transpose(1, 2) * kept
            grad_scores = weights * (grad_weights - (grad_weights * weights).sum(-1, keepdim=True)) * scale
            found = (grad_scores @ k, grad_scores.transpose(1, 2) @ q, (weights * kept).transpose(1, 2) @ g)
            for whole, part in zip(grads, found, strict=True):
                whole[span] = part.transpose(0, 1).to(whole.dtype)
        return tuple(grads)


@contextmanager
def flash_kernel(**options):
    """The kernel behind torch's operations on a CPU, for as long as the context lasts."""
    kernel = FlashKernel(**options)
    library = torch.library.Library("aten", "IMPL")
    try:
        library.impl("_flash_attention_forward", kernel.forward, "CPU")
        library.impl("_flash_attention_backward", kernel.backward, "CPU")
        yield kernel
    finally:
        library._destroy()
