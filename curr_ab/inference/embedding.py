"""Embeddings: per residue or pooled, over the pair or a part of it, of any layers; attention maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from curr_ab.inference.records import Record, TokenRecord, records_of, residues_of, tokenize, tokenize_one
from curr_ab.inference.settings import EmbeddingPlan, Pooling
from curr_ab.inference.token_batches import BatchLayout, SequenceBatch, map_batches
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
    chosen = [{part: residues_of(part, one) for part in plan.parts} for one in tokens]
    for one, parts in zip(tokens, chosen, strict=True):
        for part, residues in parts.items():
            if not len(residues):
                raise ValueError(f"{one.record.name} has no residue in {part}")
    last = encoder.config.num_hidden_layers
    only_last = {layer % (last + 1) for layer in plan.layers} == {last}

    def run(batch: SequenceBatch) -> list[dict[str, Array]]:
        out = encoder(batch.input_ids, position_ids=batch.position_ids, output_hidden_states=not only_last)
        computed = []
        for index, member in enumerate(batch.members):
            one = tokens[member]
            features: dict[tuple[str, Pooling, int], Array] = {}
            for layer in plan.layers:
                states = out.last_hidden_state if only_last else out.hidden_states[layer]
                # float32 before pooling: a sum of 230 residues in bfloat16 would lose its small terms
                own = batch.take(states, index, len(one.input_ids)).float()
                residues = own[one.positions.to(own.device)]
                for part, indices in chosen[member].items():
                    for pooling in plan.poolings:
                        pooled = _pool(own, residues[indices.to(own.device)], pooling)
                        features[part, pooling, layer] = pooled.cpu().numpy()
            computed.append({name: features[key] for key, name in plan.names().items()})
        return computed

    sequences = [one.input_ids for one in tokens]
    results = map_batches(run, sequences, encoder, tokens_per_batch=tokens_per_batch, layout=layout)
    if plan.attention:
        for features, one in zip(results, tokens, strict=True):
            features["attention"] = _attention(encoder, one)
    return results


def _pool(states: Tensor, residues: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "mean":
        return residues.mean(0)
    if pooling == "max":
        return residues.amax(0)
    if pooling == "std":
        return residues.std(0, correction=0)
    return states[0] if pooling == "cls" else residues.clone()  # not a view that keeps the batch alive


def _attention(encoder: CurrAbModel, tokens: TokenRecord) -> Array:
    with torch.inference_mode():
        layers = encoder(tokens.input_ids[None].to(encoder.device), output_attentions=True).attentions
    whole = torch.cat(layers).float().cpu()  # [layers, heads, S, S]
    array: Array = whole[:, :, tokens.positions][..., tokens.positions].numpy()
    return array
