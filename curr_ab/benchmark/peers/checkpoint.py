"""Checkpoints as peers: members, runs, adapters, and stock ESM-2 of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from curr_ab.benchmark.peers.forms import Layers
from curr_ab.benchmark.peers.options import PeerOptions
from curr_ab.benchmark.peers.peer import Pair
from curr_ab.checkpoint_files import CheckpointSource, find_file
from curr_ab.checkpoints import Checkpoint
from curr_ab.files import read_object
from curr_ab.inference.embedding import embed_window, encoder_of
from curr_ab.inference.functions import embed, score
from curr_ab.inference.records import records_of
from curr_ab.inference.settings import EmbeddingPlan, Pooling
from curr_ab.measures.metrics import Floats
from curr_ab.probes.member_features import member_features

_TOKENIZER = "tokenizer_config.json"


@dataclass(frozen=True, eq=False)
class CheckpointModel:
    """A checkpoint with its options, loaded when it is first asked."""

    source: CheckpointSource
    options: PeerOptions

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def digest(self) -> str:
        return self.source.digest

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        options = self.options
        return Checkpoint(
            self.source.source,
            revision=options.revision,
            device=options.device,
            dtype=options.dtype,
            namespace=options.namespace,
            separator=options.separator,
        ).load()

    @property
    def num_parameters(self) -> int:
        return int(self.loaded[0].num_parameters())

    def layers(self, chains: Sequence[str]) -> list[Layers]:
        model, tokenizer = self.loaded
        encoder = encoder_of(model)
        last = encoder.config.num_hidden_layers
        middle = (last + 1) // 2
        poolings: tuple[Pooling, ...] = ("none",) if encoder.config.is_decoder else ("none", "cls")
        plan = EmbeddingPlan(poolings=poolings, layers=(last, middle)).resolve(last)
        names = plan.names()
        found = embed_window(encoder, tokenizer, list(records_of(_alone(chains))), plan)
        return [
            Layers(
                one[names["pair", "none", last]],
                one[names["pair", "none", middle]],
                one[names["pair", "cls", last]] if "cls" in poolings else None,
            )
            for one in found
        ]

    def log_likelihoods(self, chains: Sequence[str]) -> list[Floats]:
        return self.log_likelihoods_of(_alone(chains))

    def log_likelihoods_of(self, pairs: Sequence[Pair]) -> list[Floats]:
        found = score(*self.loaded, list(pairs), mode=self.options.mode)
        return [one.log_probabilities.double().numpy() for one in found]


@dataclass(frozen=True, eq=False)
class PairModel:
    """A checkpoint that was trained on pairs, and reads them joined by its separator."""

    model: CheckpointModel

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def digest(self) -> str:
        return self.model.digest

    @property
    def num_parameters(self) -> int:
        return self.model.num_parameters

    @property
    def form(self) -> str:
        separator = self.model.options.separator or _separator(self.model.source, self.model.options)
        return f"pair, joined by {separator}"

    def features(self, pairs: Sequence[Pair]) -> dict[str, Floats]:
        found = member_features(*self.model.loaded, pairs)
        return {name: values.astype(np.float64) for name, values in found.items()}

    def residue_features(self, pairs: Sequence[Pair]) -> list[Floats]:
        states = embed(*self.model.loaded, list(pairs), pooling="none")
        return [one.astype(np.float64) for one in states]

    def log_likelihoods(self, pairs: Sequence[Pair]) -> list[Floats]:
        return self.model.log_likelihoods_of(pairs)

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """The mean over the residues of both chains, each given the rest of the pair."""
        return np.array([np.nanmean(one) for one in self.model.log_likelihoods_of(pairs)])


def knows_pairs(source: CheckpointSource, options: PeerOptions) -> bool:
    """True where the checkpoint says how its pairs were joined, as no stock ESM-2 does."""
    return bool(options.separator or _separator(source, options))


def _separator(source: CheckpointSource, options: PeerOptions) -> str | None:
    """The separator that the checkpoint's tokenizer was saved with."""
    path = find_file(source.source, _TOKENIZER, revision=options.revision)
    if path is None and source.base is not None:
        path = find_file(source.base, _TOKENIZER)
    separator = None if path is None else read_object(path).get("separator")
    return None if separator is None else str(separator)


def _alone(chains: Sequence[str]) -> list[Pair]:
    """Chains as records of their own; a light one reads the same where a heavy one stands."""
    return [(chain, None) for chain in chains]
