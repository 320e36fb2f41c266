"""Which items belong together because they share something, also over several steps."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt


def family_numbers(keys: Sequence[Iterable[Hashable]]) -> npt.NDArray[np.int64]:
    """A number for each item, from 0; equal for those that share a key, or are linked by others that do."""
    parent = list(range(len(keys)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    first: dict[Hashable, int] = {}
    for place, of_item in enumerate(keys):
        for key in of_item:
            one, other = sorted((root(first.setdefault(key, place)), root(place)))
            parent[other] = one
    roots = [root(place) for place in range(len(keys))]
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)
