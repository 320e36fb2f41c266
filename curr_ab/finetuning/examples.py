"""All examples of a fine-tuning: read, completed by negatives where the recipe makes them, and checked."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.finetuning.label_counts import check_examples, notes_on_labels
from curr_ab.finetuning.labelled_pairs import Example, read_labelled_pairs
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.replicates import average_replicates
from curr_ab.options import OptionError

Indices = npt.NDArray[np.int64]
_SHUFFLED = 0  # index among the labels of a recipe that makes its negatives
# Lights are exchanged within a bundle of groups; so many for each part that the parts can balance.
_BUNDLES_PER_PART = 4


@dataclass(frozen=True)
class Examples:
    """All examples of a fine-tuning, in the order of the input."""

    items: tuple[Example, ...]
    label_names: tuple[str, ...]
    num_dropped: int = 0  # longer than the recipe's max_residues
    notes: tuple[str, ...] = ()  # what the user should know of how the data were read

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Example:
        return self.items[index]

    def take(self, indices: Iterable[int]) -> list[Example]:
        """The examples with these indices, such as those of a fold."""
        return [self.items[index] for index in indices]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of all examples: equal data in equal order have the same."""
        digest = hashlib.sha256(json.dumps(self.label_names).encode())
        for item in self.items:
            digest.update(json.dumps([item.id, item.heavy, item.light, item.label, item.group]).encode())
            if item.bounds or item.weight != 1:
                digest.update(json.dumps([item.bounds, item.weight]).encode())
        return digest.hexdigest()


def read_examples(recipe: Recipe, sources: Any, *, names: ColumnNames | None = None) -> Examples:
    """The labelled records of files or objects, as `read_pairs` takes them, checked and in order.

    Where the recipe makes its negatives, they follow the native pairs. `names` are columns beside those that
    the recipe names.
    """
    pairs, notes = read_labelled_pairs(recipe, sources, names)
    if recipe.replicates == "averaged":
        pairs, of_replicates = average_replicates(pairs)
        notes += of_replicates
    short = [pair for pair in pairs if pair.num_residues <= recipe.max_residues]
    num_dropped = len(pairs) - len(short)
    if num_dropped:
        notes.append(
            f"{num_dropped:,} of {len(pairs):,} pairs have more than {recipe.max_residues} residues: dropped"
        )
    if not short:
        raise OptionError(
            f"max_residues must leave a pair; got {recipe.max_residues}, and all have more", "max_residues"
        )
    if recipe.negatives == "given":
        items = short
        notes += _repetitions(items)
    else:
        items, of_negatives = make_negatives(short, recipe)
        notes += of_negatives
    check_examples(items, recipe)
    notes += notes_on_labels(items, recipe)
    return Examples(tuple(items), recipe.labels, num_dropped, tuple(notes))


def _repetitions(items: Sequence[Example]) -> Iterator[str]:
    """Pairs that occur again: measured twice, or labelled both ways."""
    first: dict[tuple[str | None, str | None], Example] = {}
    again = [(first.setdefault(item.chains, item), item) for item in items]
    repeated = [(old, new) for old, new in again if old is not new]
    if repeated:
        yield f"{len(repeated):,} pairs repeat the residues of an earlier one, such as {repeated[0][1].id!r}"
    if contradictions := [(old, new) for old, new in repeated if old.label != new.label]:
        old, new = contradictions[0]
        yield (
            f"{len(contradictions):,} of them have another label than the first, such as {new.id!r} and "
            f"{old.id!r}: no model can be right about both"
        )


def make_negatives(pairs: Sequence[Example], recipe: Recipe) -> tuple[list[Example], list[str]]:
    """The native pairs, then as many negatives, and what is to be said about them.

    Each chain of a native pair is in one negative, so that a chain by itself says nothing; pairs without a
    partner are dropped. Exchanges stay within what folds hold together.
    """
    random = np.random.default_rng(recipe.seed)
    groups = _groups(pairs, recipe, random)
    pools: dict[Hashable, list[int]] = {}
    for index, pair in enumerate(pairs):
        germline = (pair.v_gene_light, pair.light_is_mutated) if recipe.negatives == "matched" else None
        pools.setdefault((groups[index], pair.donor, germline), []).append(index)
    native = {pair.chains for pair in pairs}
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
    positives = [replace(pairs[index], group=groups[index]) for index in kept]
    negatives = []
    for number, index in enumerate(kept, start=last + 1):
        pair, other = pairs[index], pairs[exchanged[index]]
        name = f"{pair.id}/{other.id}"
        negatives.append(Example(name, pair.heavy, other.light, _SHUFFLED, groups[index], number))
    return positives + negatives, list(_notes(pairs, len(kept), recipe))


def _groups(pairs: Sequence[Example], recipe: Recipe, random: np.random.Generator) -> list[str | None]:
    """Groups that folds hold together, and within which light chains may be exchanged.

    A negative belongs to the groups of both its chains. Donors are whole groups already; clones are bundled,
    those of a donor together, for the exchange within a clone would find no foreign chain.
    """
    if recipe.fold_scheme == "rows" or recipe.group_by == "donor":
        return [pair.group for pair in pairs]
    families = family_numbers((p.group for p in pairs), (p.chains for p in pairs))
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
    pairs: Sequence[Example],
    members: Sequence[int],
    native: set[tuple[str | None, str | None]],
    random: np.random.Generator,
) -> dict[int, int]:
    """The partner of each pair that has one: the index of its new light chain; each is taken once."""
    while members:
        # What a sister cell has, or a cell with the same light chain, is hardly foreign.
        clones = (pairs[m].clone or pairs[m].heavy for m in members)
        kin = family_numbers(clones, (pairs[m].light for m in members))
        ranks = random.permutation(int(kin.max()) + 1)
        by_kin: dict[int, list[int]] = {}
        for member, rank in sorted(zip(members, ranks[kin].tolist(), strict=True), key=itemgetter(1)):
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


def _notes(pairs: Sequence[Example], num_kept: int, recipe: Recipe) -> Iterator[str]:
    yield f"{num_kept:,} native pairs, and as many negatives made of their chains ({recipe.negatives})"
    if alone := len(pairs) - num_kept:
        yield f"{alone:,} of {len(pairs):,} native pairs have no partner for an exchange: dropped"
    if unknown := sum(pair.donor is None for pair in pairs):
        yield f"{unknown:,} pairs name no donor: their light chains are exchanged without regard to it"


def family_numbers(keys: Iterable[Hashable], others: Iterable[Hashable]) -> Indices:
    """A number for each item, from 0; equal where items share a key of either kind, also through others."""
    from curr_ab.data.preparing.components import connected

    labels = []
    for column in (keys, others):
        first: dict[Hashable, int] = {}
        rows = [first.setdefault(key, row) for row, key in enumerate(column)]
        labels.append(np.array(rows, np.int64))
    return np.unique(connected(*labels), return_inverse=True)[1].astype(np.int64)
