"""Baselines as peers: features of the residues alone, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version

import numpy as np

from curr_ab.benchmark.peers.peer import Pair
from curr_ab.measures.metrics import Floats
from curr_ab.options import unknown
from curr_ab.probes.residue_windows import RESIDUE_WINDOWS, residue_windows
from curr_ab.probes.sequence_features import BASELINES, sequence_features

PREFIX = "baseline:"
# Of which a single number says how natural a pair is, and whether a higher one is more natural.
_NATURAL = {"positions": 1.0, "germline-distance": -1.0}
# Of a pair's residues, how many the pairs beside it share on average: the fewer mutations, the higher.
_COMMON = "one-hot"
KINDS = (*BASELINES, RESIDUE_WINDOWS)


@dataclass(frozen=True)
class Baseline:
    """One set of features by its name, of pairs or, with `residue-windows`, of single residues."""

    kind: str
    num_parameters: int = 0
    form: str = "residues and their numbering, without a model"

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.kind}"

    @property
    def digest(self) -> str:
        """What is computed depends on the code and the built-in corpus, which a version fixes."""
        return sha256(f"{self.name} {version('curr-ab')}".encode()).hexdigest()

    def features(self, pairs: Sequence[Pair]) -> dict[str, Floats]:
        if self.kind == RESIDUE_WINDOWS:
            raise ValueError(f"{self.name} must be asked for features of residues; it has none of pairs")
        return {self.kind: sequence_features(self.kind, pairs)}

    def residue_features(self, pairs: Sequence[Pair]) -> list[Floats]:
        if self.kind != RESIDUE_WINDOWS:
            raise ValueError(f"{self.name} must be asked for features of pairs; it has none of residues")
        lengths = [sum(len(chain or "") for chain in pair) for pair in pairs]
        return np.split(residue_windows(pairs), np.cumsum(lengths)[:-1])

    def log_likelihoods(self, pairs: Sequence[Pair]) -> list[Floats]:
        raise ValueError(f"{self.name} must be asked for scores of pairs; it has none of residues")

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """One number for each pair: how natural it is, or how much it has in common with the others."""
        if self.kind not in (*_NATURAL, _COMMON):
            scored = ", ".join(f"{PREFIX}{kind}" for kind in (*_NATURAL, _COMMON))
            raise ValueError(f"a baseline that scores must be one of {scored}; got {self.name}")
        values = sequence_features(self.kind, pairs)
        if self.kind == _COMMON:
            return np.asarray(values @ values.mean(axis=0))
        return np.asarray(_NATURAL[self.kind] * values.mean(axis=1))


def find_baseline(kind: str) -> Baseline:
    """The baseline of that kind."""
    if kind not in KINDS:
        raise ValueError(unknown("baseline", kind, KINDS))
    return Baseline(kind)
