"""What every peer answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from curr_ab.measures.metrics import Floats

Pair = tuple[str | None, str | None]  # heavy, light; either may be None


class Peer(Protocol):
    """A model or baseline under test; nothing is loaded before the first answer."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str:
        """SHA-256 of what decides its answers: weights, and what turns a pair into input."""

    @property
    def form(self) -> str:
        """How it reads a pair, in words."""

    @property
    def num_parameters(self) -> int: ...

    def features(self, pairs: Sequence[Pair]) -> dict[str, Floats]:
        """Frozen features [pairs, width] by name, all from one pass."""

    def residue_features(self, pairs: Sequence[Pair]) -> list[Floats]:
        """Features of each residue [residues, width], heavy chain first."""

    def log_likelihoods(self, pairs: Sequence[Pair]) -> list[Floats]:
        """The log-probability of each residue, heavy chain first; NaN of letters that are no residue."""

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """Mean log-likelihood of a residue [pairs]; higher is more natural."""
