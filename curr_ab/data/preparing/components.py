"""Rows that are linked, as labels: each row's label is the index of the first row of its component.

The arrays lie in files and may be larger than memory. While links are added, a label is any earlier row of
the same component, and `settle` makes it the first.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
BLOCK = 1 << 22  # rows of an array that are in memory at once
_KEYED = np.dtype([("key", np.uint64), ("row", np.int64)])


def spread_bits(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Other numbers, of which each bit depends on all bits of the first (finaliser of splitmix64)."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


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


def repeated(keys: npt.NDArray[np.uint64], folder: Path) -> Iterator[tuple[Labels, Labels]]:
    """Rows with the key of an earlier row, each with the first row of that key.

    Keys are spread over files in `folder` by their first bits, so that memory holds one file at a time and
    the work grows with the number of rows.
    """
    bits = (len(keys) // BLOCK).bit_length()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        paths = [Path(scratch, str(number)) for number in range(1 << bits)]
        for block in blocks(len(keys)):
            found = np.empty(block.stop - block.start, _KEYED)
            found["key"], found["row"] = keys[block], np.arange(block.start, block.stop)
            files = (found["key"] >> np.uint64(1) >> np.uint64(63 - bits)).astype(np.uint16)
            found = found[np.argsort(files, kind="stable")]
            ends = np.cumsum(np.bincount(files, minlength=len(paths)))
            for path, some in zip(paths, np.split(found, ends[:-1]), strict=True):
                with path.open("ab") as file:  # not kept open: there may be more than a process may have
                    file.write(some.tobytes())
        for path in paths:
            found = np.fromfile(path, _KEYED)
            path.unlink()
            order = np.argsort(found["key"].copy())
            ordered, rows = found["key"][order], found["row"][order]
            is_first = np.ones(len(ordered), bool)
            is_first[1:] = ordered[1:] != ordered[:-1]
            firsts = np.minimum.reduceat(rows, np.flatnonzero(is_first)) if len(rows) else rows
            firsts = firsts[np.cumsum(is_first) - 1]
            yield rows[rows != firsts], firsts[rows != firsts]


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
