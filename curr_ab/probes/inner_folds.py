"""Folds inside a training part, by which features and strengths are chosen; they hold groups apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from curr_ab.randomness import random_stream

Numbers = npt.NDArray[np.int64]
NUM_FOLDS = 5


def inner_folds(classes: Numbers, groups: Sequence[Hashable] | None, seed: int) -> Numbers:
    """The number of each row's fold, from 0; all are 0 where there is nothing to part.

    `classes` are dealt out in equal shares (give zeros for numbers); rows of one group stay together.
    """
    random = random_stream(seed, "inner folds")
    if groups is None:
        order = random.permutation(len(classes))
        order = order[np.argsort(classes[order], kind="stable")]
        folds = np.empty(len(classes), np.int64)
        folds[order] = np.arange(len(classes)) % NUM_FOLDS
        return folds
    numbers: dict[Hashable, int] = {}
    families = np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
    num_folds = min(NUM_FOLDS, len(numbers))
    shares = np.zeros((len(numbers), int(classes.max(initial=0)) + 1))
    np.add.at(shares, (families, classes), 1)
    shares /= np.maximum(shares.sum(axis=0), 1)
    # The largest first, each to the fold that has least of what it brings.
    order = np.lexsort((random.random(len(numbers)), -shares.sum(axis=1)))
    held, fold_of = np.zeros((num_folds, shares.shape[1])), np.zeros(len(numbers), np.int64)
    for family in order:
        fold = int((held @ shares[family] + 1e-9 * held.sum(axis=1)).argmin())
        fold_of[family] = fold
        held[fold] += shares[family]
    return np.asarray(fold_of[families])
