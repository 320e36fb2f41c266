"""Means of the states of residues over the parts of a pair, by the names that members' features have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from curr_ab.probes.feature_names import CDR3, CDRS

Array = npt.NDArray[np.float32]


def pool(prefix: str, chains: Sequence[Array | None], regions: Sequence[str]) -> dict[str, Array]:
    """The features of one layer; zeros for a chain that is not there."""
    states = np.concatenate([one for one in chains if one is not None])
    masks = [np.array(list(own)) for own in regions]
    parts = {
        "mean-per-chain": [np.ones(len(mask), bool) for mask in masks],
        "cdrs": [np.isin(mask, list(CDRS)) for mask in masks],
        "cdr3s": [mask == CDR3 for mask in masks],
    }
    found = {f"{prefix}mean": states.mean(axis=0)}
    for name, inside in parts.items():
        means = [
            np.zeros_like(states[0]) if one is None else one[own].mean(axis=0)
            for one, own in zip(chains, inside, strict=True)
        ]
        found[f"{prefix}{name}"] = np.concatenate(means)
    return found
