"""Features of pairs and of residues by a frozen member, several sets from one pass of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from curr_ab.domains import find_domains
from curr_ab.inference.embedding import encoder_of
from curr_ab.inference.records import Record
from curr_ab.inference.token_batches import SequenceBatch, map_batches
from curr_ab.inference.tokens import TokenWindow, tokenize
from curr_ab.modeling import CurrAbModel
from curr_ab.probes.feature_names import (
    CDR3,
    CDRS,
    CLS,
    MEMBER_FEATURES,
    MIDDLE,
    RESIDUE_FEATURES,
    features_for,
)
from curr_ab.probes.sequence_features import Pair
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import CHAINS

Array = npt.NDArray[np.float32]
# What is averaged of the states of a layer: the residues of a pair, or of a part of each chain, side by side.
_PARTS = {
    "mean": ("pair",),
    "mean-per-chain": CHAINS,
    "cdrs": ("cdrs of heavy", "cdrs of light"),
    "cdr3s": ("cdr3 of heavy", "cdr3 of light"),
}


def member_features(
    model: Any,
    tokenizer: CurrAbTokenizer,
    pairs: Sequence[Pair | Record],
    names: Sequence[str] | None = None,
    tokens_per_batch: int | None = None,
) -> dict[str, Array]:
    """The features of these names [pairs, width], all of MEMBER_FEATURES that the model has without any.

    A chain that is not there has zeros; one that is no variable domain has its mean in the place of its CDRs.
    `middle-layer-` are those of the layer in the middle.
    """
    encoder = encoder_of(model)
    if names is None:
        names = features_for(causal=encoder.config.is_decoder)
    wanted = _checked(names, MEMBER_FEATURES, encoder)
    window = tokenize(tokenizer, _records(pairs))
    parts = list(dict.fromkeys(part for name in wanted for part in _PARTS.get(_layerless(name), ())))
    inside = _inside(window, parts)

    def run(batch: SequenceBatch) -> list[tuple[Array, ...]]:
        states = _states(encoder, batch, wanted)
        masks = torch.from_numpy(inside[:, batch.places] & (batch.places >= 0)).to(encoder.device)
        weights = masks.float() / masks.sum(-1, keepdim=True).clamp(min=1)  # [parts, M, longest]
        columns = []
        for name in wanted:
            of_layer = states[name.startswith(MIDDLE)]
            if name == CLS:
                columns.append(of_layer[:, 0])
                continue
            own = [parts.index(part) for part in _PARTS[_layerless(name)]]
            means = torch.bmm(weights[own].transpose(0, 1), of_layer)  # [M, parts of it, width]
            columns.append(means.flatten(1))
        return list(zip(*(column.cpu().numpy() for column in columns), strict=True))

    rows = map_batches(run, window.tokens, encoder, tokens_per_batch=tokens_per_batch)
    return {name: np.stack([row[place] for row in rows]) for place, name in enumerate(wanted)}


def residue_features(
    model: Any,
    tokenizer: CurrAbTokenizer,
    pairs: Sequence[Pair | Record],
    names: Sequence[str] = RESIDUE_FEATURES,
    tokens_per_batch: int | None = None,
) -> dict[str, list[Array]]:
    """The features of these names, for each pair [residues of heavy and light, width]."""
    encoder = encoder_of(model)
    wanted = _checked(names, RESIDUE_FEATURES, encoder)
    window = tokenize(tokenizer, _records(pairs))

    def run(batch: SequenceBatch) -> list[tuple[Array, ...]]:
        states = _states(encoder, batch, wanted)
        inside = window.is_residue[batch.places] & (batch.places >= 0)
        arrays = [states[name.startswith(MIDDLE)].cpu().numpy() for name in wanted]
        return [tuple(array[row][held] for array in arrays) for row, held in enumerate(inside)]

    rows = map_batches(run, window.tokens, encoder, tokens_per_batch=tokens_per_batch)
    return {name: [row[place] for row in rows] for place, name in enumerate(wanted)}


def _checked(names: Sequence[str], known: Sequence[str], encoder: CurrAbModel) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ValueError(f"features must be some of {', '.join(known)}; got {name!r}")
        if name == CLS and encoder.config.is_decoder:
            raise ValueError(
                "features must not be cls for a causal model, whose first token sees no residue; take mean"
            )
    return tuple(names)


def _layerless(name: str) -> str:
    return name.removeprefix(MIDDLE)


def _records(pairs: Sequence[Pair | Record]) -> list[Record]:
    return [
        pair if isinstance(pair, Record) else Record(str(number), *pair, number=number)
        for number, pair in enumerate(pairs, start=1)
    ]


def _states(encoder: CurrAbModel, batch: SequenceBatch, wanted: Sequence[str]) -> tuple[Tensor, Tensor]:
    """States of the last layer and of the middle one, [M, longest, width]; the last where none is wanted."""
    between = any(name.startswith(MIDDLE) for name in wanted)
    out = encoder(**batch.model_inputs, output_hidden_states=between)
    # float32 before means: a sum of many residues in bfloat16 would lose its small terms.
    last = batch.by_member(out.last_hidden_state).float()
    if not between:
        return last, last
    layer = (encoder.config.num_hidden_layers + 1) // 2
    return last, batch.by_member(out.hidden_states[layer]).float()


def _inside(window: TokenWindow, parts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether each token is a residue of each part [parts, tokens]."""
    residues = np.flatnonzero(window.is_residue)
    chain = np.concatenate([_chain_codes(one.num_heavy, len(one.positions)) for one in window])
    masks = []
    if any(part.startswith("cdr") for part in parts):
        for record in window.records:
            masks += [regions_of((record.chain(kind) or "").replace("<mask>", "X")) for kind in CHAINS]
    region = np.array(list("".join(masks)))
    inside = np.zeros((len(parts), len(window.is_residue)), bool)
    for place, part in enumerate(parts):
        if part == "pair":
            own = np.ones(len(residues), bool)
        else:
            own = chain == CHAINS.index(part.rpartition(" ")[2])
            if part.startswith("cdr"):
                own &= np.isin(region, list(CDRS if part.startswith("cdrs") else CDR3))
        inside[place, residues[own]] = True
    return inside


def _chain_codes(num_heavy: int, num_residues: int) -> npt.NDArray[np.int64]:
    return (np.arange(num_residues) >= num_heavy).astype(np.int64)


def regions_of(text: str) -> str:
    """The region of each residue of a chain; where it is no domain, 6, which all parts hold."""
    domains = find_domains(text)
    if len(domains) != 1 or not all(domains[0].region_lengths[place] for place in (1, 3, 5)):
        return CDR3 * len(text)
    [domain] = domains
    before, after = "1" * domain.start, "7" * (len(text) - domain.end)
    return before + domain.region_mask + after
