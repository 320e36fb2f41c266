"""ESM-2's mathematics for antibody pairs: padded or packed, masked or causal, with heads.

State-dict keys are those of transformers' ESM, so that checkpoints go both ways. A row may hold several pairs
("packed"): `position_ids` restart at 0 with each pair, and nothing crosses from one pair to the next.

Shapes in comments: B rows, S tokens of a row, H heads, D dimensions of a head, E = H * D, P pairs in the
batch, V vocabulary.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.generation import GenerationMixin, LogitsProcessor, LogitsProcessorList
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import can_return_tuple

from .configuration_curr_ab import CurrAbConfig, copy_code
from .packed_attention import packed_attention, why_not_packed
from .pairwise_attention import pairwise_attention, rotate
from .skip_dropout import skip_dropout

# ESM-2 scales embeddings by the share of tokens that its own training left unmasked: 15 % selected, 80 % of
# them masked.
ESM2_MASKED_SHARE = 0.15 * 0.8
# What the flash kernels take beside the mask; sdpa, flex and eager find the same in `position_ids`.
FLASH_KWARGS = frozenset({"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"})
# The fast path of `sdpa` for packed rows on a GPU; a name within this file, not one to load a model with.
TORCH_FLASH = "torch_flash"
# transformers 5.24 renames the cache in its outputs; both names are taken.
_CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"

# Up to transformers 5.0 stock ESM keeps the rotary frequencies once per layer, later once per model. We hold
# them once and write them per layer, because every version reads that without a missing key. The layer is
# matched loosely: transformers 5.23 writes a literal "*" there.
_SHARED_INV_FREQ = "rotary_embeddings.inv_freq"
_LAYER_INV_FREQ = r"encoder\.layer\.[^.]+\.attention\.self\.rotary_embeddings\.inv_freq"


class TokenLayout(NamedTuple):
    """Which tokens are real and which pair each belongs to; None where there is nothing to tell apart."""

    real: Tensor | None  # [B, S] bool, None: no padding
    pair: Tensor | None  # [B, S] number of the pair within its row, None: one pair in each row

    @classmethod
    def of(
        cls,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        pad_token_id: int,
        boundaries: Tensor | None = None,
    ) -> "TokenLayout":
        """Read the layout; an `attention_mask` that is not given is found from the padding tokens.

        `boundaries` of the pairs in a packed row [P + 1] say how many there are, so that no value is looked
        at: a GPU would have to be waited for.
        """
        if attention_mask is not None and attention_mask.dim() != 2:
            shape = tuple(attention_mask.shape)
            raise ValueError(f"attention_mask has shape {shape}; it must be [rows, tokens], 1 at real tokens")
        real = pair = None
        if attention_mask is not None:
            real = attention_mask.bool()
        elif input_ids is not None:
            real = input_ids != pad_token_id
        if position_ids is not None:
            starts = position_ids == 0
            if real is not None:
                starts = starts & real  # padding may hold any position; it is no pair
            pair = (starts.cumsum(dim=-1) - 1).clamp(min=0)
        # Leaving the mask out makes attention faster, but to look at values would break a compiled graph.
        if boundaries is not None:
            pair = pair if len(boundaries) > 2 else None
        elif not torch.compiler.is_compiling():
            real = None if real is None or bool(real.all()) else real
            pair = None if pair is None or not bool(pair[:, -1].any()) else pair
        return cls(real, pair)

    def group(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Tokens attend to their own group: [B, S], the pair's number, -1 for padding."""
        pair = torch.zeros(shape, dtype=torch.long, device=device) if self.pair is None else self.pair
        return pair if self.real is None else pair.masked_fill(~self.real, -1)

    def flat_pair(self, shape: torch.Size, device: torch.device) -> tuple[Tensor, int]:
        """Number of each token's pair within the batch, in reading order [B, S], and how many there are."""
        rows = torch.arange(shape[0], device=device)[:, None]
        if self.pair is None:
            return rows.expand(shape), shape[0]
        pairs_in_row = self.starts(shape, device).sum(dim=1, keepdim=True)
        num_pairs = int(pairs_in_row.sum())
        flat = self.pair + pairs_in_row.cumsum(dim=0) - pairs_in_row
        return flat.clamp(max=num_pairs - 1), num_pairs  # a row of padding at the end has no pair of its own

    def starts(self, shape: torch.Size, device: torch.device) -> Tensor:
        """True at the first real token of each pair [B, S]."""
        real = torch.ones(shape, dtype=torch.bool, device=device) if self.real is None else self.real
        starts = real & (real.cumsum(dim=1) == 1)
        if self.pair is not None:
            starts[:, 1:] |= real[:, 1:] & (self.pair[:, 1:] != self.pair[:, :-1])
        return starts

    def spans(self, shape: torch.Size, device: torch.device) -> Tensor | None:
        """First token and end of each pair in the rows laid end to end [P, 2]; None if one has a hole."""
        group = self.group(shape, device)
        runs = _run_starts(group)
        if not torch.equal(runs & (group >= 0), self.starts(shape, device)):
            return None
        firsts = runs.flatten().nonzero()  # [runs, 1], padding among them
        ends = torch.cat([firsts[1:], firsts.new_tensor([[group.numel()]])])
        return torch.cat([firsts, ends], dim=1)[group.flatten()[firsts[:, 0]] >= 0]


class AttentionPlan(NamedTuple):
    """What the attention of every layer is given besides the hidden states."""

    cos: Tensor  # [B or 1, S, 1, 1, D]
    sin: Tensor
    implementation: str
    mask: Any = None  # what the implementation takes: a tensor, a block mask of flex attention, or None
    kernel_kwargs: Mapping[str, Any] = MappingProxyType({})
    spans: Tensor | None = None  # [P, 2] for the pairwise attention, in place of mask and kernel_kwargs
    cache: Any = None  # keys and values of the tokens before, where a causal model goes on from them
    cache_kwargs: Mapping[str, Any] = MappingProxyType({})
    num_keys: int = 0  # tokens before and now: a cache of fixed size gives more


def attention_mask_for(
    implementation: str, layout: TokenLayout, shape: torch.Size, device: torch.device, causal: bool
) -> tuple[Any, dict[str, Any]]:
    """The mask in the form that the attention implementation takes, and what the flash kernels need instead.

    None stands for full attention, or causal attention where the implementation reads `is_causal` itself.
    """
    plain = layout.real is None and layout.pair is None
    flash = "flash" in implementation
    if plain and (not causal or flash or implementation == "sdpa"):
        return None, {}
    if flash and layout.pair is None:
        return layout.real, {}
    group = layout.group(shape, device)  # [B, S]
    if flash:
        return None, _flash_boundaries(group)
    if implementation == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        def same_group(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            same = group[row, query] == group[row, key]
            return same & (query >= key) if causal else same

        num_rows, num_tokens = shape
        return create_block_mask(same_group, num_rows, None, num_tokens, num_tokens, device=str(device)), {}
    mask = group[:, :, None] == group[:, None, :]  # [B, S, S]
    if causal:
        mask = mask.tril()
    return mask[:, None], {}  # [B, 1, S, S]


def cached_attention_mask(
    implementation: str, attention_mask: Tensor | None, num_tokens: int, num_keys: int, device: torch.device
) -> Tensor | None:
    """Causal mask of the last `num_tokens` of `num_keys` tokens; None where the implementation needs none."""
    padded = attention_mask is not None and not bool(attention_mask.all())
    if "flash" in implementation:
        return attention_mask if padded else None
    if not padded and (num_tokens == 1 or (num_tokens == num_keys and implementation != "eager")):
        return None
    keys = torch.arange(num_keys, device=device)
    mask = keys[-num_tokens:, None] >= keys  # [S, T]
    if padded:
        assert attention_mask is not None
        real = attention_mask[:, :num_keys].bool()
        # Padding looks at padding: a row without any key would be no number.
        return (mask & (real[:, -num_tokens:, None] == real[:, None]))[:, None]  # [B, 1, S, T]
    return mask[None, None]


def _flash_boundaries(group: Tensor) -> dict[str, Any]:
    """Cumulative lengths of the runs of equal group in all rows laid end to end."""
    first = _run_starts(group).flatten().nonzero().flatten()
    ends = torch.tensor([group.numel()], device=group.device)
    boundaries = torch.cat([first, ends]).to(torch.int32)
    longest = int(boundaries.diff().max())
    return {
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _run_starts(group: Tensor) -> Tensor:
    """True where a row begins or the group changes [B, S]."""
    starts = torch.ones_like(group, dtype=torch.bool)
    starts[:, 1:] = group[:, 1:] != group[:, :-1]
    return starts


def eager_attention(
    module: nn.Module,
    query: Tensor,  # [B, H, S, D], as key and value
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Attention spelled out, for `output_attentions` and as the reference of the others."""
    scores = query @ key.transpose(-1, -2) * scaling  # [B, H, S, S]
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = F.dropout(scores.softmax(dim=-1), p=dropout)
    return (weights @ value).transpose(1, 2), weights  # [B, S, H, D], [B, H, S, S]


class CurrAbRotaryEmbedding(nn.Module):
    """Rotary angles, computed once and used by every layer."""

    inv_freq: Tensor

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__()
        self.config = config
        # Persistent: checkpoints trained in half precision hold rounded frequencies, and need those.
        self.register_buffer("inv_freq", self.frequencies())  # [D / 2]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        frequencies = self.inv_freq
        super()._apply(fn, recurse)
        # `model.bfloat16()` must not round them: 200 residues on, angles would be off by up to 0.3 radians.
        if self.inv_freq.dtype != frequencies.dtype:
            self.inv_freq = frequencies.to(self.inv_freq.device)
        return self

    def frequencies(self) -> Tensor:
        head_dim = self.config.hidden_size // self.config.num_attention_heads
        base = getattr(self.config, "rope_theta", 10_000.0)
        return 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angles = position_ids[..., None].float() * self.inv_freq.float()  # [B or 1, S, D / 2]
        angles = torch.cat([angles, angles], dim=-1)[:, :, None, None]  # [B or 1, S, 1, 1, D]
        return angles.cos(), angles.sin()


class CurrAbEmbeddings(nn.Module):
    """Residue embeddings, with ESM-2's compensation for masked tokens where the checkpoint has it."""

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.token_dropout = config.token_dropout
        self.mask_token_id = config.mask_token_id
        self.is_causal = bool(config.is_decoder)

    def forward(self, input_ids: Tensor, layout: TokenLayout) -> Tensor:
        embeddings = self.word_embeddings(input_ids)  # [B, S, E]
        if not self.token_dropout:
            return embeddings
        masked = input_ids == self.mask_token_id  # [B, S]
        if self.is_causal:  # a share of the whole row would tell of what comes, and change as the row grows
            return embeddings.masked_fill(masked[..., None], 0.0) * (1 - ESM2_MASKED_SHARE)
        counted = torch.ones_like(masked) if layout.real is None else layout.real
        if layout.pair is None:
            num_masked = masked.sum(dim=-1, keepdim=True)  # [B, 1]
            num_tokens = counted.sum(dim=-1, keepdim=True)
        else:  # in a packed row the share is that of the pair, not of the row
            empty = torch.zeros_like(input_ids)
            num_masked = empty.scatter_add(1, layout.pair, masked.long()).gather(1, layout.pair)  # [B, S]
            num_tokens = empty.scatter_add(1, layout.pair, counted.long()).gather(1, layout.pair)
        # A row of nothing but padding has no tokens; 0 / 0 there would spoil every gradient.
        scale = (1 - ESM2_MASKED_SHARE) / (1 - num_masked / num_tokens.clamp(min=1))
        return embeddings.masked_fill(masked[..., None], 0.0) * scale[..., None].to(embeddings.dtype)


class CurrAbSelfAttention(nn.Module):
    """Multi-head attention; the three projections run as one matrix product."""

    def __init__(self, config: CurrAbConfig, layer_idx: int = 0) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx  # in the cache of a causal model
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = config.attention_probs_dropout_prob
        self.scaling = self.head_dim**-0.5
        self.is_causal = bool(config.is_decoder)

    def project(self, hidden_states: Tensor) -> Tensor:
        """Queries, keys and values [B, S, 3, H, D]."""
        projections = (self.query, self.key, self.value)
        if all(_is_plain(projection) for projection in projections):
            weight = torch.cat([projection.weight for projection in projections])
            bias = torch.cat([projection.bias for projection in projections])
            projected = F.linear(hidden_states, weight, bias)
        else:  # LoRA, quantised or offloaded: each must be called as a module
            projected = torch.cat([projection(hidden_states) for projection in projections], dim=-1)
        return projected.view(*hidden_states.shape[:2], 3, self.num_heads, self.head_dim)

    def forward(self, hidden_states: Tensor, plan: AttentionPlan) -> tuple[Tensor, Tensor | None]:
        projected = self.project(hidden_states)
        dropout = self.dropout if self.training else 0.0
        if plan.spans is not None:
            context = pairwise_attention(
                projected, plan.cos, plan.sin, plan.spans, self.scaling, dropout, self.is_causal
            )
            return context.reshape(hidden_states.shape), None
        value = projected[:, :, 2]
        rotated = rotate(projected[:, :, :2], plan.cos, plan.sin).to(value.dtype)
        query, key = rotated.unbind(dim=2)  # [B, S, H, D] each
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))  # [B, H, S, D]
        if plan.cache is not None:
            key, value = plan.cache.update(key, value, self.layer_idx, plan.cache_kwargs)
            key, value = key[:, :, : plan.num_keys], value[:, :, : plan.num_keys]
        own: dict[str, Callable[..., Any]] = {"eager": eager_attention, TORCH_FLASH: packed_attention}
        attend = own.get(plan.implementation) or ALL_ATTENTION_FUNCTIONS[plan.implementation]
        context, weights = attend(
            self,
            query,
            key,
            value,
            plan.mask,
            dropout=dropout,
            scaling=self.scaling,
            **plan.kernel_kwargs,
        )
        return context.reshape(hidden_states.shape), weights


def _is_pairwise(implementation: str, device: torch.device) -> bool:
    """Whether the fast paths of the CPU stand in for torch's; a compiler needs code without lengths in it."""
    return implementation == "sdpa" and device.type == "cpu" and not torch.compiler.is_compiling()


def _is_packed_flash(implementation: str, states: Tensor, head_size: int) -> bool:
    """Whether torch's flash kernel stands in for `sdpa` where rows are packed."""
    if implementation != "sdpa" or torch.compiler.is_compiling():
        return False
    kind, dtype = states.device.type, states.dtype
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    return why_not_packed(states.device, dtype, head_size) is None


def _is_plain(linear: nn.Module) -> bool:
    # Offloading and sharding replace `forward` or hook into it: their weights come and go with the call.
    hooks = (
        linear._forward_hooks,
        linear._forward_pre_hooks,
        linear._backward_hooks,
        linear._backward_pre_hooks,
    )
    return type(linear) is nn.Linear and "forward" not in linear.__dict__ and not any(hooks)


class CurrAbDropout(nn.Dropout):
    """Dropout; on a CPU drawn the cheap way, except beside the attention that is the reference."""

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__(config.hidden_dropout_prob)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        if self.training and 0 < self.p < 1 and _is_pairwise(self.config._attn_implementation, x.device):
            return skip_dropout(x, self.p)
        return super().forward(x)


class CurrAbResidualOutput(nn.Module):
    """Projection back to the width of the model, dropout, and the residual."""

    def __init__(self, in_features: int, config: CurrAbConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.dropout = CurrAbDropout(config)

    def forward(self, hidden_states: Tensor, residual: Tensor) -> Tensor:
        return residual + self.dropout(self.dense(hidden_states))


class CurrAbAttention(nn.Module):
    """Layer norm, self-attention and residual; the attribute names are ESM's keys."""

    def __init__(self, config: CurrAbConfig, layer_idx: int = 0) -> None:
        super().__init__()
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self = CurrAbSelfAttention(config, layer_idx)
        self.output = CurrAbResidualOutput(config.hidden_size, config)

    def forward(
        self, hidden_states: Tensor, plan: AttentionPlan, output_positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        context, weights = self.self(self.LayerNorm(hidden_states), plan)
        if output_positions is not None:
            context, hidden_states = (
                states.flatten(0, 1).index_select(0, output_positions) for states in (context, hidden_states)
            )
        return self.output(context, hidden_states), weights


class CurrAbIntermediate(nn.Module):
    """First half of the feed-forward block."""

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return F.gelu(self.dense(hidden_states))


class CurrAbLayer(GradientCheckpointingLayer):
    """One transformer layer, normalised before each block."""

    def __init__(self, config: CurrAbConfig, layer_idx: int = 0) -> None:
        super().__init__()
        self.attention = CurrAbAttention(config, layer_idx)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.intermediate = CurrAbIntermediate(config)
        self.output = CurrAbResidualOutput(config.intermediate_size, config)

    def forward(
        self, hidden_states: Tensor, plan: AttentionPlan, output_positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The next states [B, S, E]; [K, E] at `output_positions` [K], where nobody reads the others."""
        hidden_states, weights = self.attention(hidden_states, plan, output_positions)
        hidden_states = self.output(self.intermediate(self.LayerNorm(hidden_states)), hidden_states)
        return hidden_states, weights


class CurrAbEncoder(nn.Module):
    """The stack of layers and its final norm."""

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            [CurrAbLayer(config, number) for number in range(config.num_hidden_layers)]
        )
        self.emb_layer_norm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False

    def forward(
        self,
        hidden_states: Tensor,
        plan: AttentionPlan,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        output_positions: Tensor | None = None,
    ) -> BaseModelOutput:
        states, attentions = [], []
        for number, layer in enumerate(self.layer, start=1):
            states.append(hidden_states)
            # After its attention the last layer works on each token by itself: the others can be left out.
            is_last = number == len(self.layer) and not output_hidden_states
            hidden_states, weights = layer(hidden_states, plan, output_positions if is_last else None)
            attentions.append(weights)
        hidden_states = self.emb_layer_norm_after(hidden_states)
        states.append(hidden_states)  # as stock ESM: the last one is the normalised output
        if output_positions is not None and output_hidden_states:
            hidden_states = hidden_states.flatten(0, 1).index_select(0, output_positions)
        return BaseModelOutput(
            last_hidden_state=hidden_states,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )


class CurrAbContactHead(nn.Module):
    """ESM-2's contact regression: it has no part in any loss here, and is kept so that keys stay equal."""

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__()
        self.regression = nn.Linear(config.num_hidden_layers * config.num_attention_heads, 1)


class CurrAbLMHead(nn.Module):
    """From hidden states to residue logits; the decoder is the embedding, transposed."""

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(F.gelu(self.dense(hidden_states)))) + self.bias


class CurrAbClassificationHead(nn.Module):
    """Pooled features to labels; the layers and names are those of ESM's head."""

    def __init__(self, in_features: int, config: CurrAbConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.dropout = CurrAbDropout(config)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, features: Tensor) -> Tensor:
        hidden = torch.tanh(self.dense(self.dropout(features)))
        return self.out_proj(self.dropout(hidden))


class CurrAbPreTrainedModel(PreTrainedModel):
    """Initialisation, loading and saving that all models of the family share."""

    config_class = CurrAbConfig
    base_model_prefix = "esm"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _no_split_modules = ["CurrAbLayer"]  # noqa: RUF012  transformers' own form
    # Without them the frequencies are computed, not drawn: nothing to report.
    _keys_to_ignore_on_load_missing = [r"rotary_embeddings\.inv_freq"]  # noqa: RUF012
    # Buffers that older stock checkpoints carry and rotary models never read.
    _keys_to_ignore_on_load_unexpected = [r"position_embeddings\.weight", r"position_ids"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True  # transformers guesses from the text of this file, and guesses wrong

    def _init_weights(self, module: nn.Module) -> None:
        # Only nn.init functions, and flags where there is none: transformers 5 builds the model empty, loads,
        # and then calls this for everything; it guards nn.init.* alone against overwriting what was loaded.
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.padding_idx is not None and not _is_loaded(module.weight):
                nn.init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, CurrAbLMHead):
            nn.init.zeros_(module.bias)
        elif isinstance(module, CurrAbRotaryEmbedding) and not _is_loaded(module.inv_freq):
            with torch.no_grad():
                module.inv_freq.copy_(module.frequencies())

    @classmethod
    def from_pretrained(cls, *args: Any, key_mapping: dict[str, str] | None = None, **kwargs: Any) -> Any:
        """As in transformers; checkpoints with the rotary frequencies in every layer are understood too."""
        mapping = {_LAYER_INV_FREQ: _SHARED_INV_FREQ, **(key_mapping or {})}
        loaded = super().from_pretrained(*args, key_mapping=mapping, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info
        model.base_model.contact_head.requires_grad_(False)  # transformers 5.23 thaws what it loads
        return loaded

    def save_pretrained(
        self,
        save_directory: str | PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write a folder that stock transformers, remote code and this package all load alike."""
        layers = range(self.config.num_hidden_layers)
        written = _write_per_layer(self.state_dict() if state_dict is None else state_dict, layers)
        options = dict(kwargs)
        if "save_original_format" in inspect.signature(PreTrainedModel.save_pretrained).parameters:
            options.setdefault("save_original_format", False)  # the keys above are final
        repo_id = options.pop("repo_id", Path(save_directory).name)
        super().save_pretrained(
            save_directory, is_main_process=is_main_process, state_dict=written, **options
        )
        if is_main_process:
            copy_code(__file__, save_directory)
            for name in ("packed_attention.py", "pairwise_attention.py", "skip_dropout.py"):
                copy_code(Path(__file__).with_name(name), save_directory)
            if push_to_hub:
                kwargs.pop("repo_id", None)
                self.push_to_hub(repo_id, **kwargs)  # saves once more, and uploads everything


def _is_loaded(tensor: Tensor) -> bool:
    return getattr(tensor, "_is_hf_initialized", False)


def _write_per_layer(state_dict: dict[str, Tensor], layers: Iterable[int]) -> dict[str, Tensor]:
    """The state dict with the shared rotary frequencies spelled out for each layer, as files have them."""
    written = {}
    for key, tensor in state_dict.items():
        if key.endswith(_SHARED_INV_FREQ) and ".attention." not in key:
            prefix = key.removesuffix(_SHARED_INV_FREQ)
            for layer in layers:
                written[f"{prefix}encoder.layer.{layer}.attention.self.{_SHARED_INV_FREQ}"] = tensor.clone()
        else:
            written[key] = tensor
    return written


def _read_per_layer(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
    """The reverse, for a plain `load_state_dict`, which does not pass through `from_pretrained`."""
    pattern = re.compile(re.escape(prefix) + _LAYER_INV_FREQ)
    for key in [key for key in state_dict if pattern.fullmatch(key)]:
        state_dict[prefix + _SHARED_INV_FREQ] = state_dict.pop(key)


class CurrAbModel(CurrAbPreTrainedModel):
    """The encoder without a head."""

    def __init__(self, config: CurrAbConfig, add_pooling_layer: bool = False) -> None:
        if add_pooling_layer:
            raise ValueError(
                "CurrAb models have no pooling layer: pool `last_hidden_state` over residues instead, "
                "or use CurrAbForSequenceClassification"
            )
        super().__init__(config)
        self.embeddings = CurrAbEmbeddings(config)
        self.rotary_embeddings = CurrAbRotaryEmbedding(config)
        self.encoder = CurrAbEncoder(config)
        # Frozen: a trainable parameter without a gradient breaks DDP and FSDP.
        self.contact_head = CurrAbContactHead(config).requires_grad_(False)
        self.register_load_state_dict_pre_hook(_read_per_layer)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings.word_embeddings = value

    def layout(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        boundaries: Tensor | None = None,
    ) -> TokenLayout:
        pad_token_id = self.config.pad_token_id
        return TokenLayout.of(input_ids, attention_mask, position_ids, pad_token_id, boundaries)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_positions: Tensor | None = None,
        past_key_values: Any = None,
        **flash_kwargs: Any,
    ) -> BaseModelOutput:
        """The last states [B, S, E]; with `output_positions`, indices into the rows end to end, [K, E].

        `past_key_values` is a cache of transformers, for a causal model: it holds the tokens before these,
        and takes these in. `attention_mask` then spans both.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if unknown := flash_kwargs.keys() - FLASH_KWARGS:
            raise TypeError(f"forward() got unexpected arguments: {', '.join(sorted(unknown))}")
        if flash_kwargs and position_ids is None:
            raise ValueError("packed input needs position_ids that restart at 0 with each pair")
        config = self.config
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states

        if past_key_values is not None:
            return self._continue(
                past_key_values,
                input_ids,
                attention_mask,
                position_ids,
                inputs_embeds,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
                output_positions=output_positions,
            )
        # In one row without a mask they say all about the pairs; else they are the flash kernels' alone.
        boundaries = flash_kwargs.get("cu_seq_lens_q")
        if boundaries is not None:
            tokens = inputs_embeds if input_ids is None else input_ids
            if tokens is None or tokens.shape[0] > 1 or attention_mask is not None:
                boundaries = None
        layout = self.layout(input_ids, attention_mask, position_ids, boundaries)
        hidden_states = self.embeddings(input_ids, layout) if inputs_embeds is None else inputs_embeds
        shape, device = hidden_states.shape[:2], hidden_states.device
        if position_ids is None:
            position_ids = torch.arange(shape[1], device=device)[None]
        # Only the spelled-out attention has weights to show; the outputs are the same.
        implementation = "eager" if output_attentions else config._attn_implementation
        told = boundaries is not None and flash_kwargs.keys() == FLASH_KWARGS
        head_size = config.hidden_size // config.num_attention_heads
        if (told or layout.pair is not None) and _is_packed_flash(implementation, hidden_states, head_size):
            implementation = TORCH_FLASH
            flash_kwargs = flash_kwargs if told else {}  # of several rows, boundaries are found anew
        cos, sin = self.rotary_embeddings(position_ids)
        plan = AttentionPlan(cos, sin, implementation)
        spans = None
        if _is_pairwise(implementation, device):
            if boundaries is None:
                spans = layout.spans(shape, device)
            else:
                spans = torch.stack([boundaries[:-1], boundaries[1:]], dim=1)
        if spans is not None:
            plan = plan._replace(spans=spans)
        elif flash_kwargs and "flash" in implementation:
            plan = plan._replace(kernel_kwargs=flash_kwargs)
        else:
            mask, kernel_kwargs = attention_mask_for(
                implementation, layout, shape, device, bool(config.is_decoder)
            )
            plan = plan._replace(mask=mask, kernel_kwargs=kernel_kwargs)
        return self.encoder(
            hidden_states,
            plan,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            output_positions=output_positions,
        )

    def _continue(
        self,
        cache: Any,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        **outputs: Any,
    ) -> BaseModelOutput:
        """The states of tokens that follow those in the cache; one pair in each row."""
        config = self.config
        if not config.is_decoder:
            raise ValueError(
                "past_key_values need a causal model: in a masked one each token sees those after"
            )
        tokens = inputs_embeds if input_ids is None else input_ids
        assert tokens is not None
        device, num_tokens, num_past = tokens.device, tokens.shape[1], int(cache.get_seq_length())
        if attention_mask is None and input_ids is not None and num_past == 0:
            attention_mask = input_ids != config.pad_token_id
        if position_ids is None and attention_mask is not None:
            position_ids = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -num_tokens:]
        if position_ids is None:
            position_ids = torch.arange(num_past, num_past + num_tokens, device=device)[None]
        hidden_states = tokens if input_ids is None else self.embeddings(input_ids, TokenLayout(None, None))
        implementation = "eager" if outputs["output_attentions"] else config._attn_implementation
        if implementation == "flex_attention":  # made for many queries; here there is one
            implementation = "sdpa"
        num_keys = num_past + num_tokens
        mask = cached_attention_mask(implementation, attention_mask, num_tokens, num_keys, device)
        cos, sin = self.rotary_embeddings(position_ids)
        # Where in a cache of fixed size these tokens go, for transformers 4.
        cache_kwargs = {"cache_position": torch.arange(num_past, num_keys, device=device)}
        plan = AttentionPlan(
            cos, sin, implementation, mask, cache=cache, cache_kwargs=cache_kwargs, num_keys=num_keys
        )
        return self.encoder(hidden_states, plan, **outputs)


class CurrAbForMaskedLM(CurrAbPreTrainedModel):
    """The pretrained model: residue logits at every position, or at those asked for."""

    # A dict for transformers 5; version 4 reads its keys.
    _tied_weights_keys = {  # noqa: RUF012
        "lm_head.decoder.weight": "esm.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__(config)
        self.esm = CurrAbModel(config)
        self.lm_head = CurrAbLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.lm_head.decoder = new_embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits [B, S, V]; with `output_positions` [K, V], in the order asked for.

        `output_positions` is a mask [B, S] or indices [K] into the rows laid end to end; the head then runs
        there alone. `labels` [B, S] hold -100 where nothing is to be predicted.
        """
        if output_positions is not None:
            if (output_positions.dtype is torch.bool) != (output_positions.dim() == 2):
                raise ValueError("output_positions is a boolean mask [rows, tokens] or a list of indices")
            if output_positions.dtype is torch.bool:
                output_positions = output_positions.flatten().nonzero().flatten()
            labels = None if labels is None else labels.flatten()[output_positions]
            kwargs["output_positions"] = output_positions
        outputs = self.esm(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, -2).float(), labels.to(logits.device).flatten())
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class SeparatorProcessor(LogitsProcessor):
    """The second `<cls>` of the separator behind its first, with certainty."""

    def __init__(self, config: CurrAbConfig) -> None:
        self.cls, self.pad = config.bos_token_id, config.pad_token_id

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] < 2:
            return scores
        before, last = input_ids[:, -2], input_ids[:, -1]
        half = (last == self.cls) & (before != self.cls) & (before != self.pad)  # padding: a row's own start
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.cls] = 0.0
        return torch.where(half[:, None], forced, scores)


class CurrAbForCausalLM(CurrAbPreTrainedModel, GenerationMixin):
    """The causal model, of the same weights and keys: each token is predicted from those before it.

    A pair is `<cls> H <cls> <cls> L <eos>`. The first `<cls>` behind a chain ends it; the second is no news,
    was never learnt, and is put there by `generate`.
    """

    # A dict for transformers 5; version 4 reads its keys.
    _tied_weights_keys = {  # noqa: RUF012
        "lm_head.decoder.weight": "esm.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: CurrAbConfig) -> None:
        if not config.is_decoder:
            raise ValueError(
                "is_decoder must be true for CurrAbForCausalLM; this is the configuration of a masked model: "
                "load it as CurrAbForMaskedLM"
            )
        super().__init__(config)
        self.esm = CurrAbModel(config)
        self.lm_head = CurrAbLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.lm_head.decoder = new_embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cache: Any = None,
        logits_to_keep: int | Tensor = 0,
        output_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, S, V], at the last `logits_to_keep` tokens if given, or [K, V] at `output_positions`.

        `labels` are the `input_ids`, with -100 where nothing is to be predicted; they are shifted here.
        `past_key_values` (`cache` from transformers 5.24 on) holds the tokens before these.
        """
        cache = past_key_values if cache is None else cache
        if cache is None and use_cache and not self.training:
            cache = DynamicCache()
        if output_positions is not None:
            if labels is not None:
                raise ValueError(
                    "labels cannot be shifted where output_positions are given: compute the loss outside"
                )
            kwargs["output_positions"] = output_positions
        kwargs.pop("cache_position", None)  # of transformers 4; the cache knows how much it holds
        outputs = self.esm(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            past_key_values=cache,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        if output_positions is None and not (isinstance(logits_to_keep, int) and logits_to_keep == 0):
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            hidden_states = hidden_states[:, kept]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].to(logits.device).flatten()
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **{_CACHE: cache},
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache: Any = None,
        use_cache: bool | None = True,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What `forward` takes of the tokens so far: those that the cache does not hold."""
        cache = past_key_values if cache is None else cache
        num_past = 0 if cache is None else int(cache.get_seq_length())
        inputs: dict[str, Any] = {_CACHE: cache, "attention_mask": attention_mask, "use_cache": use_cache}
        if inputs_embeds is not None and num_past == 0:
            inputs["inputs_embeds"] = inputs_embeds
        else:
            inputs["input_ids"] = input_ids[:, num_past:]
        passed_on = ("logits_to_keep", "output_attentions", "output_hidden_states")
        return inputs | {name: kwargs[name] for name in passed_on if kwargs.get(name) is not None}

    def generate(self, *args: Any, logits_processor: Any = None, **kwargs: Any) -> Any:
        """As in transformers; the second half of the separator is put in.

        A prompt for light chains is a heavy chain and its separator: `<cls> H <cls> <cls>`. To end after one
        chain, give `eos_token_id=tokenizer.cls_token_id`.
        """
        processors = LogitsProcessorList([] if logits_processor is None else logits_processor)
        processors.append(SeparatorProcessor(self.config))
        return super().generate(*args, logits_processor=processors, **kwargs)


class CurrAbForSequenceClassification(CurrAbPreTrainedModel):
    """One prediction for each pair: classes, several labels at once, or numbers."""

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.esm = CurrAbModel(config)
        self.pooling = config.classifier_pooling
        if config.is_decoder and self.pooling == "cls":
            raise ValueError(
                "classifier_pooling must be mean or mean_per_chain for a causal model: its <cls> sees nothing"
            )
        head = CurrAbClassificationHead(config.hidden_size * (1 + (self.pooling == "mean_per_chain")), config)
        # Under the names that stock ESM knows lies only what it computes alike; a head that pools residues
        # has a name of its own, so that a stock load reports it missing rather than feed it <cls>.
        self.classifier = head if self.pooling == "cls" else nn.Sequential()
        if self.pooling != "cls":
            self.classifier.add_module("residues", head)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Logits [P, labels], one row for each pair in reading order.

        `token_type_ids` (0 heavy, 1 light) tell the chains apart where pooling needs it; without them the
        separator does.
        """
        outputs = self.esm(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        layout = self.esm.layout(input_ids, attention_mask, position_ids)
        features = self.pool(outputs.last_hidden_state, input_ids, token_type_ids, layout)
        logits = self.classifier(features)
        return SequenceClassifierOutput(
            loss=None if labels is None else self.loss(logits, labels.to(logits.device)),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def pool(
        self,
        hidden_states: Tensor,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None,
        layout: TokenLayout,
    ) -> Tensor:
        """Features of each pair, [P, E] or [P, 2 * E]; a chain that is not there counts as zeros."""
        shape, device = hidden_states.shape[:2], hidden_states.device
        starts = layout.starts(shape, device)  # [B, S]
        if self.pooling == "cls":
            return hidden_states[starts] if layout.pair is not None else _first(hidden_states, starts)
        if input_ids is None:
            raise ValueError("pooling needs input_ids: it reads off them what is a residue")
        config = self.config
        residue = torch.ones(shape, dtype=torch.bool, device=device) if layout.real is None else layout.real
        for special in (config.bos_token_id, config.eos_token_id, config.pad_token_id):
            residue = residue & (input_ids != special)
        pair, num_pairs = layout.flat_pair(shape, device)
        if self.pooling == "mean":
            return _mean_by_group(hidden_states, residue, pair, num_pairs)
        if token_type_ids is None:
            token_type_ids = chains_from_separators(input_ids == config.bos_token_id, starts)
        chain = pair * 2 + token_type_ids
        return _mean_by_group(hidden_states, residue, chain, num_pairs * 2).view(num_pairs, -1)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        problem = self.config.problem_type
        if problem is None:
            if self.num_labels == 1:
                problem = "regression"
            else:
                whole = not labels.is_floating_point()
                problem = "single_label_classification" if whole else "multi_label_classification"
        logits = logits.float()
        if problem == "regression":
            return F.mse_loss(logits.view(-1), labels.view(-1).float())
        if problem == "single_label_classification":
            return F.cross_entropy(logits, labels.view(-1))
        return F.binary_cross_entropy_with_logits(logits, labels.float())


def chains_from_separators(is_cls: Tensor, starts: Tensor) -> Tensor:
    """0 for tokens before the separator of their pair, 1 from its first `<cls>` on; [B, S]."""
    seen = is_cls.cumsum(dim=1)
    before_pair = torch.where(starts, seen - is_cls.long(), 0).cummax(dim=1).values
    return (seen - before_pair > 1).long()


def _first(hidden_states: Tensor, starts: Tensor) -> Tensor:
    """The states at the one start of each row [B, E]; the first token's where a row has none."""
    rows = torch.arange(len(starts), device=starts.device)
    return hidden_states[rows, starts.int().argmax(dim=1)]


def _mean_by_group(hidden_states: Tensor, residue: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Mean of the residues of each group [num_groups, E], in full precision."""
    weight = residue.float()[..., None]  # [B, S, 1]
    total = weight.new_zeros((num_groups, hidden_states.shape[-1]))
    total = total.index_add(0, group.flatten(), (hidden_states * weight).flatten(0, 1))
    count = weight.new_zeros((num_groups, 1)).index_add(0, group.flatten(), weight.flatten(0, 1))
    return (total / count.clamp(min=1)).to(hidden_states.dtype)


class CurrAbForTokenClassification(CurrAbPreTrainedModel):
    """One label for each residue."""

    def __init__(self, config: CurrAbConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.esm = CurrAbModel(config)
        self.dropout = CurrAbDropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Logits [B, S, labels]; `labels` hold -100 at special tokens and wherever nothing is known."""
        outputs = self.esm(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, -2).float(), labels.to(logits.device).flatten())
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
