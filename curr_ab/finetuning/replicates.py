"""Records of the same chains that were measured more than once, made into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curr_ab.finetuning.labelled_pairs import Example


def average_replicates(examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """One example, at the place of the first, for all of the same chains and group; and what is to be said.

    Its numbers are means by the weights, and its weight is the sum, also of a column that few of them have:
    an example has one weight. A bound has no mean: it stays by itself.
    """
    together: dict[object, list[Example]] = {}
    for example in examples:
        alone = example.number if example.bounds else None
        together.setdefault((example.chains, example.group, alone), []).append(example)
    several = [members for members in together.values() if len(members) > 1]
    if not several:
        return list(examples), []
    note = f"{sum(map(len, several)):,} records of {len(several):,} antibodies are averaged, those of each"
    return [_mean(members) for members in together.values()], [note]


def _mean(members: Sequence[Example]) -> Example:
    if len(members) == 1:
        return members[0]
    numbers = np.array([member.label for member in members], np.float64)  # None is NaN
    weights = np.array([member.weight for member in members])
    shares = np.where(np.isnan(numbers), 0, weights[:, None] if numbers.ndim > 1 else weights)
    sums, known = np.nansum(numbers * shares, axis=0), shares.sum(axis=0)
    if numbers.ndim == 1:
        label: float | tuple[float | None, ...] = float(sums / known)
    else:
        pairs = zip(sums.tolist(), known.tolist(), strict=True)
        label = tuple(total / share if share else None for total, share in pairs)
    return replace(members[0], label=label, weight=float(weights.sum()))
