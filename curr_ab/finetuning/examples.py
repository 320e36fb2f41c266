"""Labelled pairs out of any table, for a recipe."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curr_ab.finetuning.labels import UNKNOWN_RESIDUE, Label
from curr_ab.finetuning.recipe import Recipe

_LARGEST_OFFSET = 1e4  # of numbers, in standard deviations: weights have seven digits


@dataclass(frozen=True)
class Example:
    """A pair and what is to be learnt of it."""

    id: str
    heavy: str
    light: str
    label: Label  # place of a class; a number; or a class for each residue of heavy and light, -100 unknown
    group: str | None  # folds hold groups apart; None where the recipe names none
    number: int  # place in the input, from 1; negatives follow


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

    def __getitem__(self, place: int) -> Example:
        return self.items[place]

    def take(self, places: Iterable[int]) -> list[Example]:
        """The examples at these places, such as those of a fold."""
        return [self.items[place] for place in places]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of all examples: equal data in equal order have the same."""
        digest = hashlib.sha256(json.dumps(self.label_names).encode())
        for one in self.items:
            digest.update(json.dumps([one.id, one.heavy, one.light, one.label, one.group]).encode())
        return digest.hexdigest()


def read_examples(recipe: Recipe, sources: Sequence[str]) -> Examples:
    """The labelled pairs of files, patterns, `builtin` or `hf://owner/name`, checked and in order.

    Where the recipe makes its negatives, they follow the native pairs.
    """
    from curr_ab.finetuning.labelled_pairs import read_labelled_pairs
    from curr_ab.finetuning.shuffling import make_negatives

    pairs, notes = read_labelled_pairs(recipe, sources)
    short = [pair for pair in pairs if len(pair.heavy) + len(pair.light) <= recipe.max_residues]
    num_dropped = len(pairs) - len(short)
    if num_dropped:
        notes.append(
            f"{num_dropped:,} of {len(pairs):,} pairs have more than {recipe.max_residues} residues: dropped"
        )
    if not short:
        raise ValueError(f"no pair is left with at most {recipe.max_residues} residues (--max-residues)")
    if recipe.negatives == "given":
        items = [Example(p.id, p.heavy, p.light, p.label, p.group, p.number) for p in short]
        notes += _repetitions(items)
    else:
        items, told = make_negatives(short, recipe)
        notes += told
    _check(items, recipe)
    return Examples(tuple(items), recipe.labels, num_dropped, tuple(notes))


def _repetitions(items: Sequence[Example]) -> Iterator[str]:
    """Pairs that occur again: measured twice, or labelled both ways."""
    first: dict[tuple[str, str], Example] = {}
    again = [(first.setdefault((one.heavy, one.light), one), one) for one in items]
    repeated = [(old, new) for old, new in again if old is not new]
    if repeated:
        yield f"{len(repeated):,} pairs repeat the residues of an earlier one, such as {repeated[0][1].id!r}"
    if contradictions := [(old, new) for old, new in repeated if old.label != new.label]:
        old, new = contradictions[0]
        yield (
            f"{len(contradictions):,} of them have another label than the first, such as {new.id!r} and "
            f"{old.id!r}: no model can be right about both"
        )


def _check(items: Sequence[Example], recipe: Recipe) -> None:
    """What no fold can be made of."""
    fewest = recipe.num_parts
    if len(items) < fewest:
        raise ValueError(f"{len(items)} examples are fewer than the {fewest} parts of the folds")
    if recipe.target == "number":
        if len({one.label for one in items}) == 1:
            raise ValueError(f"every value of {recipe.label_column!r} is {items[0].label}: nothing to learn")
        numbers = np.array([one.label for one in items], np.float64)
        if abs(numbers.mean()) > _LARGEST_OFFSET * numbers.std():
            raise ValueError(
                f"column {recipe.label_column!r} is {numbers.mean():.10g} ± {numbers.std():.3g}: a model's "
                "weights cannot hold such numbers to that degree; subtract a constant"
            )
        return
    if recipe.target == "residues":
        labels = np.concatenate([np.asarray(one.label) for one in items])
        counts = Counter(labels[labels != UNKNOWN_RESIDUE].tolist())
        what, fewest = "residue", 1
    else:
        counts = Counter(one.label for one in items)
        what = "example"
    if len(counts) == 1:
        (only,) = counts
        raise ValueError(
            f"every {what} is labelled {recipe.labels[only]!r}; a class is learnt against another"
        )
    for place, name in enumerate(recipe.labels):
        if counts[place] == 0:
            raise ValueError(
                f"no {what} is labelled {name!r}; leave the class out (--labels) or add examples"
            )
        if counts[place] < fewest:
            raise ValueError(
                f"{counts[place]} {what}s labelled {name!r} are fewer than the {fewest} parts of the folds; "
                "take fewer folds (--folds) or add examples"
            )
