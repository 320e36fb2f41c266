"""What every peer answers, and the options with which one is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from curr_ab.inference.settings import DTYPE_HELP, MODE_HELP, Dtype, LoadingOptions
from curr_ab.measures.metrics import Floats
from curr_ab.options import option
from curr_ab.words import Mode

Pair = tuple[str | None, str | None]  # heavy, light; either may be None
Form = Literal["auto", "pair", "chains", "linker"]


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


@dataclass(frozen=True)
class PeerOptions(LoadingOptions):
    """How a peer is loaded and how it reads pairs."""

    dtype: Dtype = option("float32", DTYPE_HELP)
    form: Form = option(
        "auto",
        "Form in which a checkpoint reads a pair: joined by its separator, each chain alone, or joined by a "
        "linker of 25 G; auto is pair where its tokenizer has a separator, else chains",
    )
    mode: Mode = option("exact", MODE_HELP)
