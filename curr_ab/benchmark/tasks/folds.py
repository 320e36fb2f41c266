"""Folds of a task: those that a file brings are checked for leaks, others are made of whole groups."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.task import Fold, Indices, Pair
from curr_ab.domains import CHAIN_OF, find_domains
from curr_ab.options import OptionError
from curr_ab.randomness import random_stream

# Two CDR3s of one length are of one clone where this share of their residues differs, or two of a short one:
# else reads of a clone, which differ by so many, would be on both sides of a fold.
DIFFERENT, FEW = 0.2, 2
UNKNOWN = "chain"  # instead of the kind of CDR3, where none is found
_STRATA = 5  # quantiles of a number that parts hold in equal shares
_MOST_NAMED = 5


def given_folds(numbers: Sequence[str | None], name: Callable[[int], str]) -> tuple[Fold, ...]:
    """A fold for each value of a file's column of folds, in its order; `name` tells a row for the error."""
    for row, text in enumerate(numbers):
        if text is None:
            raise ValueError(
                f"{name(row)} must have a fold; got an empty cell; complete or remove the record"
            )
    values = np.array([str(text).removesuffix(".0") for text in numbers])
    distinct = sorted(set(values.tolist()), key=lambda text: (len(text), text))
    if len(distinct) < 2:
        raise ValueError(f"the column of folds must have two or more values; got {', '.join(distinct)}")
    return tuple((np.flatnonzero(values != one), np.flatnonzero(values == one)) for one in distinct)


def find_leaks(
    ids: Sequence[str], pairs: Sequence[Pair], groups: Sequence[str] | None, folds: Sequence[Fold]
) -> list[str]:
    """What training and test part of a fold share, a pair or a group, with the names of the records."""
    leaks: dict[str, None] = {}
    shared: list[tuple[str, Sequence[Hashable]]] = [("the same pair", pairs)]
    if groups is not None:
        shared.append(("the same group", groups))
    for train, test in folds:
        for what, keys in shared:
            first = {keys[row]: row for row in reversed(train.tolist())}
            for row in test.tolist():
                if (other := first.get(keys[row])) is not None:
                    one, two = sorted((row, other))
                    leaks[f"{ids[one]} and {ids[two]} ({what})"] = None
    return list(leaks)


def check_leaks(
    source: str, leaks: Sequence[str], options: TaskOptions, way_out: str = "correct the folds"
) -> tuple[str, ...]:
    """The leaks that the user keeps; an error that names them where they are refused."""
    if leaks and options.leaks == "refuse":
        more = f" and {len(leaks) - _MOST_NAMED:,} more" if len(leaks) > _MOST_NAMED else ""
        raise OptionError(
            f"{source}: folds must hold pairs and groups apart; on both sides of a fold are "
            f"{'; '.join(leaks[:_MOST_NAMED])}{more}; {way_out}, or set leaks to keep and have them marked",
            "leaks",
        )
    return tuple(leaks)


def clone_groups(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The clone of each pair, named by its first CDR3: one length and close residues, by single linkage.

    The CDR3 is the heavy chain's, or the light one's where that stands alone; the V gene is left out of it,
    which joins more pairs rather than fewer. A chain whose CDR3 is not found is linked to equal ones.
    """
    texts = [_cdr3(pair) for pair in pairs]
    by_length: dict[tuple[str, int], list[str]] = {}
    for kind, text in sorted(set(texts)):
        by_length.setdefault((kind, len(text)), []).append(text)
    clone_of: dict[tuple[str, str], str] = {}
    for (kind, length), members in by_length.items():
        labels = np.arange(len(members))
        if kind != UNKNOWN:
            letters = np.array([list(text.encode()) for text in members], np.uint8).reshape(-1, length)
            for number, own in enumerate(letters):
                differences = (letters[:number] != own).sum(axis=1)
                linked = np.unique(labels[:number][differences <= max(FEW, DIFFERENT * length)])
                if len(linked):
                    labels[number] = linked[0]
                    labels[np.isin(labels, linked)] = linked[0]
        for text, label in zip(members, labels.tolist(), strict=True):
            clone_of[kind, text] = members[label]
    return tuple(f"{kind} {clone_of[kind, text]}" for kind, text in texts)


@lru_cache(maxsize=100_000)  # several tasks of a file have the same pairs
def _cdr3(pair: Pair) -> tuple[str, str]:
    """Kind and residues of the CDR3 that tells the clone."""
    chain = pair[0] or pair[1] or ""
    wanted = "heavy" if pair[0] else "light"
    domain = next((one for one in find_domains(chain) if CHAIN_OF[one.chain] == wanted), None)
    text = chain[domain.cdr3] if domain else ""
    return (wanted, text) if text else (UNKNOWN, chain)


def grouped_folds(groups: Sequence[Hashable], labels: Any, options: TaskOptions) -> tuple[Fold, ...]:
    """Folds of whole groups with like shares of the classes, or of the quantiles of a number."""
    codes = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    if len(codes) < options.folds:
        raise OptionError(
            f"folds must be at most the number of groups, {len(codes)}; got {options.folds}; take fewer",
            "folds",
        )
    of_rows = np.array([codes[group] for group in groups])
    strata = _strata(labels)
    counts = np.zeros((len(codes), strata.max() + 1))
    np.add.at(counts, (of_rows, strata), 1)
    shuffled = random_stream(options.seed, "benchmark folds").permutation(len(codes))
    # The largest first, for small ones fill up what those leave uneven.
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    totals = counts.sum(axis=0)
    held = np.zeros((options.folds, counts.shape[1]))
    fold_of = np.zeros(len(codes), np.int64)
    for group in order:
        # Spread of the strata over the folds, were the group in each of them; then the emptier fold.
        trials = held[None] + np.eye(options.folds)[:, :, None] * counts[group]
        spread = (trials / totals).std(axis=1).mean(axis=1).round(12)
        fold = min(range(options.folds), key=lambda one: (spread[one], held[one].sum(), one))
        held[fold] += counts[group]
        fold_of[group] = fold
    rows = fold_of[of_rows]
    return tuple(_parts(rows, options.folds))


def _parts(fold_of: Indices, count: int) -> Iterator[Fold]:
    for fold in range(count):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def _strata(labels: Any) -> Indices:
    """A stratum for each row: its class, or the quantile of its number."""
    values = np.asarray(labels)
    if values.dtype.kind != "f":
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    edges = np.quantile(values, np.linspace(0, 1, _STRATA + 1)[1:-1])
    return np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)[1].astype(np.int64)
