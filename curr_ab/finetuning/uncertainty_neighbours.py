"""Distance of pairs from the training set: identity to the nearest training pair by IMGT position."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curr_ab.measures.metrics import Flags, Floats, Labels
from curr_ab.measures.repertoires import POSITIONS, Residues, nearest, read_chains
from curr_ab.words import CHAINS

Pair = tuple[str | None, str | None]
PERCENTILES = np.arange(101)
LEAST_PERCENTILE = 5  # below it a pair is farther away than 19 of 20 that the run was measured on
_AT_ONCE = 1024


def residues_of(pairs: Sequence[Pair]) -> Residues:
    """Residues of both chains [pairs, 2 x positions]; 0 where nothing stands, or a chain has no number."""
    chains = [read_chains([pair[place] for pair in pairs], kind) for place, kind in enumerate(CHAINS)]
    return np.concatenate([one.residues for one in chains], axis=1)


def nearest_training(residues: Residues, training: Residues) -> tuple[Labels, Floats]:
    """The nearest training pair, and its identity over the chains that a pair has; -1 and NaN without any."""
    rows, shares = np.full(len(residues), -1), np.full(len(residues), np.nan)
    present = np.stack([part.any(axis=1) for part in np.split(residues, 2, axis=1)], axis=1)
    for pattern in ((True, True), (True, False), (False, True)):
        columns = np.repeat(pattern, len(POSITIONS))
        [own] = np.nonzero((present == pattern).all(axis=1))
        for start in range(0, len(own), _AT_ONCE):
            some = own[start : start + _AT_ONCE]
            rows[some], shares[some] = nearest(residues[some][:, columns], training[:, columns])
    return rows, shares


def fold_identities(residues: Residues, folds: Iterable[tuple[Labels, Labels]]) -> Floats:
    """Identities of test pairs to the nearest pair that their fold's model was fitted on."""
    found = [nearest_training(residues[test], residues[fitted])[1] for fitted, test in folds]
    shares = np.concatenate(found)
    return shares[np.isfinite(shares)]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The training set, and how near to theirs the pairs were that the run was measured on."""

    training: Residues
    percentiles: Floats  # identities at 0 ... 100 %

    @cached_property
    def least_identity(self) -> float:
        return float(self.percentiles[LEAST_PERCENTILE])

    @property
    def rule(self) -> str:
        """The words of what is applicable."""
        return (
            f"applicable: at least {self.least_identity:.1%} of the IMGT positions as in a training pair, "
            f"which is so of {100 - LEAST_PERCENTILE} % of the pairs that the folds were measured on"
        )

    def place(self, pairs: Sequence[Pair]) -> tuple[Floats, Floats, Flags]:
        """Identity to the nearest training pair, its percentile, and whether the rule holds."""
        _, shares = nearest_training(residues_of(pairs), self.training)
        places = np.clip(np.searchsorted(self.percentiles, shares, side="right") - 1, 0, 100)
        percentiles = places.astype(np.float64)
        percentiles[np.isnan(shares)] = np.nan
        return shares, percentiles, np.asarray(shares >= self.least_identity - 1e-6)
