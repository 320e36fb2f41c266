"""Pairs that were never one cell: light chains exchanged within a donor, or among equals in germline too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from curr_ab.finetuning.examples import Example
from curr_ab.finetuning.labelled_pairs import LabelledPair
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.relatives import family_numbers

_SHUFFLED, _NATIVE = 0, 1
# Lights are exchanged within a bundle of groups; so many for each part that the parts can balance.
_BUNDLES_PER_PART = 4


def make_negatives(pairs: Sequence[LabelledPair], recipe: Recipe) -> tuple[list[Example], list[str]]:
    """The native pairs, then as many negatives, and what is to be said about them.

    Each chain of a native pair is in one negative, so that a chain by itself says nothing; pairs without a
    partner are dropped. Exchanges stay within what folds hold together.
    """
    random = np.random.default_rng(recipe.seed)
    groups = _groups(pairs, recipe, random)
    pools: dict[Hashable, list[int]] = {}
    for place, pair in enumerate(pairs):
        germline = (pair.v_gene_light, pair.light_is_mutated) if recipe.negatives == "matched" else None
        pools.setdefault((groups[place], pair.donor, germline), []).append(place)
    native = {(pair.heavy, pair.light) for pair in pairs}
    exchanged: dict[int, int] = {}
    for members in pools.values():
        exchanged |= _exchange(pairs, members, native, random)
    if not exchanged:
        raise ValueError(
            f"no light chain can be exchanged ({recipe.negatives}): the pairs of each donor are one clone, "
            "or no two of them are equal in germline"
        )
    kept = sorted(exchanged)
    last = max(pair.number for pair in pairs)
    positives = [
        Example(pair.id, pair.heavy, pair.light, _NATIVE, groups[place], pair.number)
        for place in kept
        for pair in [pairs[place]]
    ]
    negatives = [
        Example(f"{one.id}/{other.id}", one.heavy, other.light, _SHUFFLED, groups[place], last + count)
        for count, place in enumerate(kept, start=1)
        for one, other in [(pairs[place], pairs[exchanged[place]])]
    ]
    return positives + negatives, list(_notes(pairs, len(kept), recipe))


def _groups(pairs: Sequence[LabelledPair], recipe: Recipe, random: np.random.Generator) -> list[str | None]:
    """What folds hold together, and so where light chains may be exchanged.

    A negative belongs to the groups of both its chains. Donors are whole groups already; clones are bundled,
    those of a donor together, for the exchange within a clone would find no foreign chain.
    """
    if recipe.fold_scheme == "rows" or recipe.group_by == "donor":
        return [pair.group for pair in pairs]
    families = family_numbers([(("group", p.group), ("pair", p.heavy, p.light)) for p in pairs])
    donors = {int(family): pair.donor or "" for pair, family in zip(pairs, families, strict=True)}
    order = sorted(donors, key=lambda family: (donors[family], random.random()))
    sizes = Counter(families.tolist())
    per_bundle = len(pairs) / (_BUNDLES_PER_PART * recipe.num_parts)
    bundle_of, num_before = {}, 0
    for family in order:
        bundle_of[family] = f"bundle {int(num_before / per_bundle):03d}"
        num_before += sizes[family]
    return [bundle_of[int(family)] for family in families]


def _exchange(
    pairs: Sequence[LabelledPair],
    members: Sequence[int],
    native: set[tuple[str, str]],
    random: np.random.Generator,
) -> dict[int, int]:
    """For each place whose heavy chain finds one the place of its foreign light chain; each is taken once."""
    while members:
        # What a sister cell has, or a cell with the same light chain, is hardly foreign.
        kin = family_numbers(
            [(("clone", pairs[m].clone or pairs[m].heavy), ("light", pairs[m].light)) for m in members]
        )
        ranks = random.permutation(int(kin.max()) + 1)
        by_kin: dict[int, list[int]] = {}
        for member, rank in sorted(zip(members, ranks[kin].tolist(), strict=True), key=lambda one: one[1]):
            by_kin.setdefault(rank, []).append(member)
        largest = max(by_kin.values(), key=len)
        del largest[len(members) - len(largest) :]  # more than all others together find no partner
        ordered = [member for kindred in by_kin.values() for member in kindred]
        # Kin stand side by side: the largest number of them is far enough to reach somebody else's.
        partners = dict(zip(ordered, np.roll(ordered, -len(largest)).tolist(), strict=True))
        members = [m for m, other in partners.items() if (pairs[m].heavy, pairs[other].light) not in native]
        if len(members) == len(partners):
            return partners
    return {}


def _notes(pairs: Sequence[LabelledPair], num_kept: int, recipe: Recipe) -> Iterator[str]:
    yield f"{num_kept:,} native pairs, and as many negatives made of their chains ({recipe.negatives})"
    if alone := len(pairs) - num_kept:
        yield f"{alone:,} of {len(pairs):,} native pairs found no partner for an exchange: dropped"
    if unknown := sum(pair.donor is None for pair in pairs):
        yield f"{unknown:,} pairs name no donor: their light chains are exchanged without regard to it"
