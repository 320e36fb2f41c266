"""Logits of one pair with each position masked in turn, without computing what the copies share.

The copies differ in one token, so the first layer's attention is that of the unmasked pair with one key and
value exchanged; and of the last layer only the masked position is read. In between nothing can be shared.

Shapes in comments: K copies, S tokens, H heads, D dimensions of a head, E = H * D.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from curr_ab.modeling import CurrAbForMaskedLM
from curr_ab.modeling.modeling_curr_ab import AttentionPlan, TokenLayout
from curr_ab.modeling.pairwise_attention import rotate


def masked_logits(
    model: CurrAbForMaskedLM, input_ids: Tensor, positions: Tensor, rows_per_batch: int
) -> Iterator[Tensor]:
    """Logits [K, V] at `positions` [K] of the tokens [S], each masked alone; in batches of `rows_per_batch`.

    A position that is masked already would count twice, so it is refused.
    """
    mask_id = model.config.mask_token_id
    if bool((input_ids[positions] == mask_id).any()):
        raise ValueError("positions must not be masked already; read those off an ordinary pass")
    layers: list[Any] = list(model.esm.encoder.layer)
    if len(layers) == 1:  # nothing between the first layer and the last
        for masked in torch.split(positions, rows_per_batch):
            rows = input_ids.repeat(len(masked), 1)
            at = torch.arange(len(masked), device=rows.device)
            rows[at, masked] = mask_id
            yield model(input_ids=rows, output_positions=at * len(input_ids) + masked).logits
        return
    cos, sin = model.esm.rotary_embeddings(torch.arange(len(input_ids), device=input_ids.device)[None])
    first = _FirstLayer.of(model, layers[0], input_ids, cos, sin)
    for masked in torch.split(positions, rows_per_batch):
        plan = _plan_for(len(masked), len(input_ids), cos, sin)
        states = first.copies(layers[0], masked, plan)  # [K, S, E]
        for layer in layers[1:-1]:
            states, _ = layer(states, plan)
        states = _last_layer(layers[-1], states, masked, cos, sin)
        yield model.lm_head(model.esm.encoder.emb_layer_norm_after(states))


def _split_heads(attention: Any, projected: Tensor) -> Tensor:
    return projected.view(*projected.shape[:-1], attention.num_heads, attention.head_dim)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions for [..., H, D], with angles [..., 1, D]."""
    turned: Tensor = rotate(x, cos, sin).to(x.dtype)
    return turned


def _project(attention: Any, normed: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (scaled), keys and values, [K, S, H, D] each."""
    own = attention.self
    query, key, value = (
        _split_heads(own, projection(normed)) for projection in (own.query, own.key, own.value)
    )
    cos, sin = cos[:, :, 0], sin[:, :, 0]  # [1, S, 1, D]
    return _turn(query, cos * own.scaling, sin * own.scaling), _turn(key, cos, sin), value


def _plan_for(num_copies: int, num_tokens: int, cos: Tensor, sin: Tensor) -> AttentionPlan:
    """Attention of copies of one length without padding: on a CPU one after the other."""
    spans = None
    if cos.device.type == "cpu":
        firsts = torch.arange(0, num_copies * num_tokens, num_tokens)
        spans = torch.stack([firsts, firsts + num_tokens], dim=1)
    return AttentionPlan(cos, sin, "sdpa", spans=spans)


def _feed_forward(layer: Any, states: Tensor) -> Tensor:
    out: Tensor = layer.output(layer.intermediate(layer.LayerNorm(states)), states)
    return out


def _last_layer(layer: Any, states: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Output [K, E] at the masked positions alone."""
    own, rows = layer.attention.self, torch.arange(len(positions), device=positions.device)
    normed = layer.attention.LayerNorm(states)
    key = _turn(_split_heads(own, own.key(normed)), cos[:, :, 0], sin[:, :, 0])  # [K, S, H, D]
    value = _split_heads(own, own.value(normed))
    query = _split_heads(own, own.query(normed[rows, positions]))  # [K, H, D]
    query = _turn(query, cos[0, positions, 0], sin[0, positions, 0])
    scores = torch.einsum("khd,kshd->khs", query, key).float() * own.scaling
    context = torch.einsum("khs,kshd->khd", scores.softmax(-1).to(value.dtype), value).flatten(1)
    return _feed_forward(layer, layer.attention.output(context, states[rows, positions]))


class _FirstLayer(NamedTuple):
    """The first layer's results for all copies at once; shares are relative to each unmasked softmax."""

    states: Tensor  # [S, E] embeddings of the unmasked tokens
    mask_state: Tensor  # [E] embedding of the mask
    context: Tensor  # [S, H, D] attention of the unmasked pair
    old_share: Tensor  # [H, S, S] softmax over the unmasked keys
    new_share: Tensor  # [H, S, S] what the mask's key would weigh in place of each, on the same scale
    value: Tensor  # [S, H, D]
    mask_value: Tensor  # [H, D]
    mask_context: Tensor  # [S, H, D] attention of the masked token itself, at each position
    saturated: bool  # one residue has all the weight somewhere: without it nothing would be left but noise

    @classmethod
    def of(
        cls, model: CurrAbForMaskedLM, layer: Any, input_ids: Tensor, cos: Tensor, sin: Tensor
    ) -> _FirstLayer:
        # The embedding of a copy may depend on how much is masked (token_dropout), so each residue's is taken
        # from a copy with another position masked.
        copies = input_ids.repeat(2, 1)
        copies[0, 0] = copies[1, 1] = model.config.mask_token_id
        embedded = model.esm.embeddings(copies, TokenLayout(None, None))  # [2, S, E]
        mask_state = embedded[0, 0].clone()
        states = torch.cat([embedded[1, :1], embedded[0, 1:]])
        attention = layer.attention
        both = torch.stack([states, mask_state.expand_as(states)])
        query, key, value = _project(attention, attention.LayerNorm(both), cos, sin)  # [2, S, H, D]
        # Twice the precision: where one residue has nearly all the weight, taking it out cancels digits.
        wide = torch.float64 if model.dtype is torch.float32 else torch.float32
        query, key, value = query.to(wide), key.to(wide), value.to(wide)
        scores = torch.einsum("shd,thd->hst", query[0], key[0])
        swapped = torch.einsum("shd,thd->hst", query[0], key[1])
        log_total = scores.logsumexp(-1, keepdim=True)
        old_share = (scores - log_total).exp()
        own_scores = torch.einsum("shd,thd->hst", query[1], key[0])
        diagonal = torch.einsum("shd,shd->hs", query[1], key[1])
        own_share = own_scores.diagonal_scatter(diagonal, dim1=1, dim2=2).softmax(-1)
        own_diagonal = own_share.diagonal(dim1=1, dim2=2).T[..., None]  # [S, H, 1]
        mask_context = torch.einsum("hst,thd->shd", own_share, value[0])
        mask_context = mask_context + own_diagonal * (value[1] - value[0])
        return cls(
            states,
            mask_state,
            torch.einsum("hst,thd->shd", old_share, value[0]),
            old_share,
            (swapped - log_total).exp().clamp(max=1e30),  # beyond it the mask has all the weight
            value[0],
            value[1, 0],
            mask_context,
            bool(1 - old_share.max() < torch.finfo(wide).eps ** 0.5),
        )

    def copies(self, layer: Any, positions: Tensor, plan: AttentionPlan) -> Tensor:
        """Output of the layer for the copies masked at `positions`, [K, S, E]."""
        rows = torch.arange(len(positions), device=positions.device)
        states = self.states.repeat(len(positions), 1, 1)
        states[rows, positions] = self.mask_state
        if self.saturated:
            whole: Tensor = layer(states, plan)[0]
            return whole
        out = self.old_share[:, :, positions].permute(2, 1, 0)[..., None]  # [K, S, H, 1]
        into = self.new_share[:, :, positions].permute(2, 1, 0)[..., None]
        context = self.context - out * self.value[positions][:, None]  # [K, S, H, D]
        context = context.addcmul_(into, self.mask_value).div_(1 - out + into)
        context[rows, positions] = self.mask_context[positions]
        return _feed_forward(layer, layer.attention.output(context.flatten(2).to(states.dtype), states))
