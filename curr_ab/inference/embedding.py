"""Embeddings: per residue or pooled, over the pair or a part of it, of any layers; attention maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from curr_ab.inference.records import Record, records_of
from curr_ab.inference.settings import EmbeddingPlan, Pooling
from curr_ab.inference.token_batches import BatchLayout, SequenceBatch, map_batches
from curr_ab.inference.tokens import TokenRecord, tokenize, tokenize_one
from curr_ab.modeling import CurrAbModel
from curr_ab.options import OptionError
from curr_ab.tokenization import CurrAbTokenizer

Array = npt.NDArray[np.float32]


def attention_maps(model: Any, tokenizer: CurrAbTokenizer, pairs: Any) -> Iterator[Array]:
    """Attention among the residues of each pair, [layers, heads, residues, residues].

    Rows do not add up to 1: what goes to special tokens is left out.
    """
    encoder = encoder_of(model)
    for record in records_of(pairs):
        yield _attention(encoder, tokenize_one(tokenizer, record))


def encoder_of(model: Any) -> CurrAbModel:
    """The encoder in a model with or without a head."""
    encoder = getattr(model, "esm", model)
    if not isinstance(encoder, CurrAbModel):
        raise ValueError(f"the model must be loaded with curr_ab.load; got a {type(model).__name__}")
    return encoder


def embed_window(
    encoder: CurrAbModel,
    tokenizer: CurrAbTokenizer,
    window: Sequence[Record],
    plan: EmbeddingPlan,
    tokens_per_batch: int | None = None,
    layout: BatchLayout | None = None,
) -> list[dict[str, Array]]:
    """Every embedding of the plan, by name, for each record of a window that is batched together."""
    if encoder.config.is_decoder and "cls" in plan.poolings:
        raise OptionError(
            "pooling must not be cls with a causal model, whose first token sees no residue; use mean",
            "pooling",
        )
    tokens = tokenize(tokenizer, window)
    inside = np.stack([tokens.in_part(part) for part in plan.parts])  # [P, T]
    last = encoder.config.num_hidden_layers
    only_last = {layer % (last + 1) for layer in plan.layers} == {last}
    names = plan.names()

    def run(batch: SequenceBatch) -> list[dict[str, Array]]:
        out = encoder(**batch.model_inputs, output_hidden_states=not only_last)
        device = batch.input_ids.device
        masks = torch.from_numpy(inside[:, batch.places] & (batch.places >= 0)).to(device)  # [P, M, longest]
        columns: dict[str, list[Array]] = {}
        for layer in plan.layers:
            states = batch.by_member(out.last_hidden_state if only_last else out.hidden_states[layer])
            # float32 before pooling: a sum of 230 residues in bfloat16 would lose its small terms
            states = states.float()
            for part, mask in zip(plan.parts, masks, strict=True):
                for pooling in plan.poolings:
                    if name := names.get((part, pooling, layer)):
                        columns[name] = _pool(states, mask, pooling)
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    results = map_batches(run, tokens.tokens, encoder, tokens_per_batch=tokens_per_batch, layout=layout)
    if plan.attention:
        for features, one in zip(results, tokens, strict=True):
            features["attention"] = _attention(encoder, one)
    return results


def _pool(states: Tensor, mask: Tensor, pooling: Pooling) -> list[Array]:
    """One array for each member, of its states [M, S, E] where the mask [M, S] is true."""
    if pooling == "none":
        counts = mask.sum(1).cumsum(0)[:-1].cpu()
        # Copies, not views that would keep the batch alive with any one of them.
        return [one.copy() for one in np.split(states[mask].cpu().numpy(), counts)]
    if pooling == "cls":
        pooled = states[:, 0].clone()  # not a view that keeps the batch alive
    elif pooling == "max":
        pooled = states.masked_fill(~mask[..., None], -torch.inf).amax(1)
    else:
        pooled = mean = _mean(states, mask)
        if pooling == "std":
            pooled = _mean((states - mean[:, None]).square(), mask).sqrt()
    return list(pooled.cpu().numpy())


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.float() / mask.sum(1, keepdim=True)
    with torch.autocast(states.device.type, enabled=False):  # a caller's would take products in 16 bits
        return torch.bmm(weights[:, None], states)[:, 0]


def _attention(encoder: CurrAbModel, tokens: TokenRecord) -> Array:
    with torch.inference_mode():
        layers = encoder(tokens.input_ids[None].to(encoder.device), output_attentions=True).attentions
    whole = torch.cat(layers).float().cpu()  # [layers, heads, S, S]
    array: Array = whole[:, :, tokens.positions][..., tokens.positions].numpy()
    return array
