"""Pairs that differ by few residues, found by the parts of their text that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from curr_ab.benchmark.tasks.task import Indices, Pair

NEAR = 2  # residues of a whole pair: reads of one clone differ by so many
_PARTS = NEAR + 1  # of which near pairs share one at least
_MOST_OF_A_KIND = 2_000  # that share a part and are all compared; more are told apart by parts of the rest
_COMPARED = 200  # of still more, mutants of one antibody: enough to see that folds part them

Letters = npt.NDArray[np.uint8]


def near_pairs(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Rows whose pairs differ by one or two residues, in order; reads may lack a residue at a chain's end."""
    rows_of: dict[Pair, list[int]] = {}
    texts: dict[tuple[int, int], list[tuple[str, int, int]]] = {}  # by lengths: text, row, missing residues
    for row, pair in enumerate(pairs):
        rows_of.setdefault(pair, []).append(row)
        for lacking, forms in enumerate(([pair], sorted(_shortened(pair), key=str))):
            for heavy, light in forms:
                lengths = (len(heavy or ""), len(light or ""))
                texts.setdefault(lengths, []).append(((heavy or "") + (light or ""), row, lacking))
    found: set[tuple[int, int]] = set()
    for row, pair in enumerate(pairs):
        for once in _shortened(pair):
            for twice in _shortened(once):
                found.update((min(row, other), max(row, other)) for other in rows_of.get(twice, ()))
    for lengths, own_texts in texts.items():
        if not any(lengths):
            continue
        letters = np.array([list(text.encode()) for text, _, _ in own_texts], np.uint8)
        rows, missing = (np.array([text[place] for text in own_texts]) for place in (1, 2))
        columns = np.arange(sum(lengths))
        # With a residue missing one may differ at most, so that such pairs share two of three parts.
        for members, shared in ((np.flatnonzero(missing == 0), 1), (np.arange(len(own_texts)), NEAR)):
            for alike, compared in _alike(letters, members, columns, shared):
                for place, own in enumerate(alike[:compared]):
                    others = alike[place + 1 :]
                    differ = (letters[others] != letters[own]).sum(axis=1) + missing[others] + missing[own]
                    for other in others[differ <= NEAR]:
                        first, second = sorted((int(rows[own]), int(rows[other])))
                        if first != second and pairs[first] != pairs[second]:
                            found.add((first, second))
    return sorted(found)


def _shortened(pair: Pair) -> set[Pair]:
    """The pair without one residue at either end of either chain."""
    heavy, light = pair
    forms = {(heavy[1:], light), (heavy[:-1], light)} if heavy else set[Pair]()
    return forms | ({(heavy, light[1:]), (heavy, light[:-1])} if light else set[Pair]())


def _alike(
    letters: Letters, members: Indices, columns: Indices, shared: int, *, deeper: bool = True
) -> Iterator[tuple[Indices, int]]:
    """Members that share so many parts of the columns, and how many of them to compare with the rest."""
    parts = np.array_split(columns, _PARTS)
    for chosen in combinations(range(_PARTS), shared):
        own = np.concatenate([parts[part] for part in chosen])
        if not len(own):
            continue
        _, kinds = np.unique(letters[np.ix_(members, own)], axis=0, return_inverse=True)
        order = np.argsort(kinds.ravel(), kind="stable")
        for group in np.split(members[order], np.flatnonzero(np.diff(kinds.ravel()[order])) + 1):
            if len(group) > _MOST_OF_A_KIND and deeper:
                yield from _alike(letters, group, np.setdiff1d(columns, own), shared, deeper=False)
            elif len(group) > 1:
                yield group, len(group) if len(group) <= _MOST_OF_A_KIND else _COMPARED
