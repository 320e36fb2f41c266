"""Rows that are linked, as labels: each row's label is the index of the first row of its component.

The arrays lie in files and may be larger than memory. While links are added, a label is any earlier row of
the same component, and `settle` makes it the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
BLOCK = 1 << 22  # rows of an array that are in memory at once


def blocks(num_rows: int) -> Iterator[slice]:
    """Cut the rows into blocks that fit into memory."""
    for start in range(0, num_rows, BLOCK):
        yield slice(start, min(start + BLOCK, num_rows))


def new_array(path: Path, dtype: type, num_rows: int) -> Any:
    """An array in a file, mapped into memory; its room on the disk is taken first.

    Otherwise a disk that fills up kills the process by SIGBUS at the first write that finds no room.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, (num_rows,))
    if hasattr(os, "posix_fallocate"):  # macOS and Windows have none
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def label_equal(keys: npt.NDArray[np.uint64], labels: Labels) -> None:
    """Give rows of equal keys the index of the first of them; one range of keys is in memory at a time."""
    num_ranges = 1 + len(keys) // BLOCK
    bounds = [index * (1 << 64) // num_ranges for index in range(num_ranges + 1)]
    for low, high in pairwise(bounds):
        rows = []
        for block in blocks(len(keys)):
            inside = (keys[block] >= np.uint64(low)) & (keys[block] <= np.uint64(high - 1))
            rows.append(block.start + np.flatnonzero(inside))
        chosen = np.concatenate([*rows, np.zeros(0, np.int64)])
        _, first, inverse = np.unique(keys[chosen], return_index=True, return_inverse=True)
        labels[chosen] = chosen[first][inverse]


def find(labels: Labels, rows: Labels) -> Labels:
    """The first known row of each row's component; the way there is halved for the next who asks."""
    found = np.asarray(labels[rows])
    while True:
        above = np.asarray(labels[found])
        if np.array_equal(above, found):
            return found
        higher = np.asarray(labels[above])
        labels[found] = higher
        found = higher


def unite(labels: Labels, rows: Labels, others: Labels) -> None:
    """Link each of `rows` with the one of `others` at its place; memory holds these rows alone."""
    while len(rows):
        ends = find(labels, rows), find(labels, others)
        low, high = np.minimum(*ends), np.maximum(*ends)
        apart = low != high
        rows, others = low[apart], high[apart]
        np.minimum.at(labels, others, rows)  # to an earlier row only, so that no circle arises


def settle(labels: Labels) -> None:
    """Make every label the first row of its component, after the last link."""
    for block in blocks(len(labels)):
        labels[block] = find(labels, np.arange(block.start, block.stop))


def connected(labels: Labels, others: Labels) -> Labels:
    """The first of the rows with which each is linked: by a label of either kind, also through others."""
    linked = np.arange(len(labels))
    for kind in (labels, others):
        unite(linked, np.arange(len(labels)), np.asarray(kind))
    settle(linked)
    return linked
