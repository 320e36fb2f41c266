"""Forms in which a model of single chains reads a pair: each chain alone, or both joined by a linker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from curr_ab.benchmark.peers.peer import Pair
from curr_ab.benchmark.peers.pooling import Array, pool
from curr_ab.measures.metrics import Floats
from curr_ab.probes.member_features import regions_of

# Glycines between chains are how models of single proteins are commonly shown complexes: Lin et al. 2023,
# Science 379:1123, put 25 between chains that ESMFold was to fold together.
LINKER = "G" * 25
Answer = TypeVar("Answer")
_PAIRS_AT_ONCE = 256  # of which the states of all residues lie in memory


class Layers(NamedTuple):
    """States of one sequence."""

    last: Array  # [residues, width]
    middle: Array  # [residues, width]
    first: Array | None  # [width], the last layer's of the first token, which models of both directions have


class ChainModel(Protocol):
    """A model of one sequence at a time."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def num_parameters(self) -> int: ...

    def layers(self, chains: Sequence[str]) -> list[Layers]: ...

    def log_likelihoods(self, chains: Sequence[str]) -> list[Floats]:
        """The log-probability of each residue [residues]; NaN of letters that are no standard residue."""


@dataclass(frozen=True, eq=False)
class _FormOfPairs(ABC):
    """A model of chains with a form in which pairs are shown to it."""

    model: ChainModel
    form: str

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def digest(self) -> str:
        return sha256(f"{self.model.digest} {self.form}".encode()).hexdigest()

    @property
    def num_parameters(self) -> int:
        return self.model.num_parameters

    def features(self, pairs: Sequence[Pair]) -> dict[str, Floats]:
        """Means over the residues of a pair, of each chain and of its CDRs, of two layers; and `cls`."""
        rows: list[dict[str, Array]] = []
        for window in _windows(pairs):
            for pair, own in zip(window, self._layers(window), strict=True):
                regions = [regions_of(chain or "") for chain in pair]
                row = pool("", [None if one is None else one.last for one in own], regions)
                row |= pool("middle-layer-", [None if one is None else one.middle for one in own], regions)
                rows.append(row | self._first(own))
        return {name: np.stack([row[name] for row in rows]).astype(np.float64) for name in rows[0]}

    def residue_features(self, pairs: Sequence[Pair]) -> list[Floats]:
        found: list[Floats] = []
        for window in _windows(pairs):
            for own in self._layers(window):
                states = [one.last for one in own if one is not None]
                found.append(np.concatenate(states).astype(np.float64))
        return found

    @abstractmethod
    def log_likelihoods(self, pairs: Sequence[Pair]) -> list[Floats]: ...

    @abstractmethod
    def score(self, pairs: Sequence[Pair]) -> Floats: ...

    @abstractmethod
    def _layers(self, pairs: Sequence[Pair]) -> list[list[Layers | None]]:
        """The layers of both chains of each pair; None for a chain that is not there."""

    @abstractmethod
    def _first(self, own: list[Layers | None]) -> dict[str, Array]:
        """The feature `cls`, where the model has it."""


@dataclass(frozen=True, eq=False)
class EachChain(_FormOfPairs):
    """Chains that never see each other."""

    form: str = "each chain alone"

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """The mean of both chains' mean log-likelihoods, as AntiBERTy's are published."""
        rows, chains = _chains(pairs)
        means = np.full((len(pairs), 2), np.nan)
        for place, values in zip(rows, _each_once(self.model.log_likelihoods, chains), strict=True):
            means[place] = _mean(values)
        return np.array([_mean(row) for row in means])

    def log_likelihoods(self, pairs: Sequence[Pair]) -> list[Floats]:
        rows, chains = _chains(pairs)
        parts: list[list[Floats]] = [[] for _ in pairs]
        for (number, _), one in zip(rows, self.model.log_likelihoods(chains), strict=True):
            parts[number].append(one)
        return [np.concatenate(both) for both in parts]

    def _layers(self, pairs: Sequence[Pair]) -> list[list[Layers | None]]:
        rows, chains = _chains(pairs)
        found: list[list[Layers | None]] = [[None, None] for _ in pairs]
        for (number, place), one in zip(rows, _each_once(self.model.layers, chains), strict=True):
            found[number][place] = one
        return found

    def _first(self, own: list[Layers | None]) -> dict[str, Array]:
        known = next(one.first for one in own if one is not None)
        if known is None:
            return {}
        sides = [np.zeros_like(known) if one is None or one.first is None else one.first for one in own]
        return {"cls": np.concatenate(sides)}


@dataclass(frozen=True, eq=False)
class Linked(_FormOfPairs):
    """Both chains as one sequence with a linker between them, which is left out of every answer."""

    form: str = f"one sequence, joined by {len(LINKER)} G"

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """The mean over the residues of both chains, each given the rest of the pair."""
        return np.array([_mean(one) for one in self.log_likelihoods(pairs)])

    def log_likelihoods(self, pairs: Sequence[Pair]) -> list[Floats]:
        found = self.model.log_likelihoods(_joined(pairs))
        halves = [_split(pair, one) for pair, one in zip(pairs, found, strict=True)]
        return [np.concatenate([half for half in one if half is not None]) for one in halves]

    def _layers(self, pairs: Sequence[Pair]) -> list[list[Layers | None]]:
        found: list[list[Layers | None]] = []
        for pair, one in zip(pairs, self.model.layers(_joined(pairs)), strict=True):
            halves = zip(_split(pair, one.last), _split(pair, one.middle), strict=True)
            found.append(
                [
                    None if last is None or middle is None else Layers(last, middle, one.first)
                    for last, middle in halves
                ]
            )
        return found

    def _first(self, own: list[Layers | None]) -> dict[str, Array]:
        known = next(one.first for one in own if one is not None)
        return {} if known is None else {"cls": known}


def _each_once(answer: Callable[[Sequence[str]], list[Answer]], chains: Sequence[str]) -> list[Answer]:
    """The answer for each chain; variants of one antibody often share a chain, which is asked for once."""
    distinct = list(dict.fromkeys(chains))
    found = dict(zip(distinct, answer(distinct), strict=True))
    return [found[chain] for chain in chains]


def _joined(pairs: Sequence[Pair]) -> list[str]:
    return [LINKER.join(chain for chain in pair if chain is not None) for pair in pairs]


def _split(pair: Pair, values: npt.NDArray[np.floating]) -> list[npt.NDArray[np.floating] | None]:
    """The values of each chain's residues, without those of the linker."""
    heavy, light = (None if chain is None else len(chain) for chain in pair)
    first = None if heavy is None else values[:heavy]
    return [first, None if light is None else values[len(values) - light :]]


def _windows(pairs: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
    if not pairs:
        raise ValueError("there must be a pair to make features of; got none")
    for begin in range(0, len(pairs), _PAIRS_AT_ONCE):
        yield pairs[begin : begin + _PAIRS_AT_ONCE]


def _chains(pairs: Sequence[Pair]) -> tuple[list[tuple[int, int]], list[str]]:
    """All chains that are there, and of each the pair's number and 0 for heavy, 1 for light."""
    rows, chains = [], []
    for number, pair in enumerate(pairs):
        if all(chain is None for chain in pair):
            raise ValueError(f"record {number + 1:,} must have a chain; got none; leave it out")
        for place, chain in enumerate(pair):
            if chain is not None:
                rows.append((number, place))
                chains.append(chain)
    return rows, chains


def _mean(values: Floats) -> float:
    """The mean of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
