"""Ways of attention on a GPU, as a table: of those that can do what is asked, the first is taken."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from curr_ab.modeling import CurrAbPreTrainedModel
from curr_ab.modeling.packed_attention import AMPERE, HALF_PRECISION, MOST_HEAD_SIZE, why_not_packed
from curr_ab.number_types import TYPES


class Asked(NamedTuple):
    """What the attention has to do, and where."""

    device: torch.device
    dtype: torch.dtype
    head_size: int
    dropout: float = 0.0

    @classmethod
    def by(cls, config: Any, device: torch.device, precision: str) -> Asked:
        """What a model of this configuration asks for in training."""
        head_size = config.hidden_size // config.num_attention_heads
        return cls(device, TYPES[precision], head_size, config.attention_probs_dropout_prob)

    @classmethod
    def of(cls, model: CurrAbPreTrainedModel) -> Asked:
        """What a model asks for as it lies in memory, without dropout."""
        head_size = model.config.hidden_size // model.config.num_attention_heads
        return cls(model.device, model.dtype, head_size)


class Way(NamedTuple):
    """One way to compute attention."""

    implementation: str  # as transformers names it
    packed: bool  # pairs end to end in one row; else padded to the longest, with those of like length
    words: str
    needs: str
    why_not: Callable[[Asked], str | None]


class AttentionChoice(NamedTuple):
    """The way that is taken, and those before it in the table that cannot be."""

    implementation: str
    packed: bool
    reason: str
    passed_over: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The choice, and why it is no other."""
        rows = "packed" if self.packed else "padded"
        return (f"{self.implementation}, {rows} rows: {self.reason}", *self.passed_over)


def _not_torch(asked: Asked) -> str | None:
    return why_not_packed(asked.device, asked.dtype, asked.head_size)


def _not_flash_2(asked: Asked) -> str | None:
    """What keeps FlashAttention 2 from running, wherever it comes from."""
    if asked.device.type != "cuda":
        return f"it needs CUDA, not {asked.device.type}"
    if asked.dtype not in HALF_PRECISION:
        return f"it computes in half precision, not in {str(asked.dtype).removeprefix('torch.')}"
    if torch.cuda.get_device_capability(asked.device) < AMPERE:
        return "the GPU is older than Ampere"
    if asked.head_size > MOST_HEAD_SIZE:
        return f"heads must have {MOST_HEAD_SIZE} dimensions at most, not {asked.head_size}"
    return None


def _not_package(asked: Asked) -> str | None:
    from transformers.utils import is_flash_attn_2_available

    return _not_flash_2(asked) or (None if is_flash_attn_2_available() else "flash-attn is not installed")


def _not_kernels(asked: Asked) -> str | None:
    from transformers.utils import is_kernels_available

    return _not_flash_2(asked) or (None if is_kernels_available() else "kernels is not installed")


def _not_flex(asked: Asked) -> str | None:
    if asked.device.type != "cuda":
        return f"it needs CUDA, not {asked.device.type}"
    if asked.dropout:
        return f"it has no dropout; the model's is {asked.dropout:g}"
    if find_spec("triton") is None:
        return "triton, which it is compiled with, is not installed"
    return None


_HALF = "bf16 or fp16"
_FLASH_2 = f"GPU (NVIDIA: from Ampere on), {_HALF}"
WAYS = (
    Way(
        *("sdpa", True, "torch's own flash attention"),
        f"NVIDIA GPU from Ampere on, {_HALF}, heads of a multiple of 8 dimensions",
        _not_torch,
    ),
    Way("flash_attention_2", True, "the package flash-attn", f"{_FLASH_2}, `flash-attn`", _not_package),
    Way(
        *("flash_attention_2", True, "FlashAttention 2 from the Hub, by the package kernels"),
        f"{_FLASH_2}, `kernels`, and a network or the Hub's cache",
        _not_kernels,
    ),
    Way("flex_attention", True, "flex attention, compiled", "GPU, `triton`, no dropout", _not_flex),
    Way("sdpa", False, "torch's attention on pairs of like length", "nothing", lambda asked: None),
)


def choose_attention(wanted: str, asked: Asked) -> AttentionChoice:
    """The wanted implementation; with `auto` the first of the table that can do what is asked."""
    if wanted != "auto":
        return AttentionChoice(wanted, takes_packed_rows(wanted, asked), "as asked for")
    if asked.device.type == "cpu":
        return AttentionChoice("sdpa", True, "one pair after the other, on a CPU")
    passed_over = []
    for way in WAYS:
        reason = way.why_not(asked)
        if reason is None:
            break
        passed_over.append(f"not {way.words}: {reason}")
    return AttentionChoice(way.implementation, way.packed, way.words, tuple(passed_over))


def takes_packed_rows(implementation: str, asked: Asked) -> bool:
    """False where a packed row would cost the square of its whole length."""
    if asked.device.type == "cpu":
        return True
    if implementation == "sdpa":
        return _not_torch(asked) is None
    return implementation != "eager"


def packs_batches(model: Any) -> bool:
    """Whether inference packs the batches of a model: not for flex, whose mask is the square of a batch."""
    if not isinstance(model, CurrAbPreTrainedModel):
        return False  # stock ESM lets packed pairs see each other
    implementation = model.config._attn_implementation
    return implementation != "flex_attention" and takes_packed_rows(implementation, Asked.of(model))
