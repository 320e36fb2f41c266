"""Which pairs a step trains on, as a function of seed and step alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
_ROUNDS = 6  # an even number


def random_stream(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """Random numbers of one purpose at one place of the run, independent of all others."""
    return np.random.default_rng([seed, *purpose.encode(), *position])


def sampled(seed: int, source: str, places: Indices, size: int) -> Indices:
    """The item at each place of an endless stream: all `size` items, shuffled, and again shuffled anew.

    Nothing is stored and any place is found at once, so a run resumes from its step alone.
    """
    if size < 1:
        raise ValueError(f"the {source} data are empty")
    epochs = places // size
    items = np.empty_like(places)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        items[chosen] = shuffled(places[chosen] % size, size, random_stream(seed, source, int(epoch)))
    return items


def sampled_in_stretches(
    seed: int, source: str, places: Indices, bounds: Indices, shards_at_once: int
) -> Indices:
    """As `sampled`, but the items come from few shards at a time; shard i is the items from `bounds[i]` on.

    A pass takes the shards in random order, and a stretch of it shuffles the items of `shards_at_once`.
    """
    size = int(bounds[-1])
    if size < 1:
        raise ValueError(f"the {source} data are empty")
    epochs = places // size
    items = np.empty_like(places)
    for epoch in np.unique(epochs):
        in_epoch = np.flatnonzero(epochs == epoch)
        within = places[in_epoch] % size
        order = random_stream(seed, f"{source} shards", int(epoch)).permutation(len(bounds) - 1)
        ends = np.cumsum(np.diff(bounds)[order])  # of the shards, where they stand in this pass
        firsts = np.concatenate([[0], ends[:-1]])
        begins = np.append(firsts[::shards_at_once], size)
        stretches = np.searchsorted(begins, within, side="right") - 1
        for stretch in np.unique(stretches):
            chosen = np.flatnonzero(stretches == stretch)
            begin, end = begins[stretch : stretch + 2]
            randomness = random_stream(seed, source, int(epoch), int(stretch))
            stands = begin + shuffled(within[chosen] - begin, int(end - begin), randomness)
            shards = np.searchsorted(ends, stands, side="right")
            items[in_epoch[chosen]] = bounds[order[shards]] + stands - firsts[shards]
    return items


def shuffled(places: Indices, size: int, randomness: np.random.Generator) -> Indices:
    """Where a random permutation of `size` items sends these places.

    A Feistel network permutes the numbers of as many bits as `size` needs; what falls outside walks on until
    it is inside, which keeps it a permutation.
    """
    bits = max(2, (size - 1).bit_length())
    keys = randomness.integers(0, 1 << 63, size=_ROUNDS, dtype=np.uint64)
    items = places.astype(np.uint64)
    outside = np.arange(len(items))
    while len(outside):
        items[outside] = _permuted(items[outside], bits // 2, bits - bits // 2, keys)
        outside = outside[items[outside] >= size]
    return items.astype(np.int64)


def _permuted(
    items: npt.NDArray[np.uint64], left_bits: int, right_bits: int, keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    left, right = items >> np.uint64(right_bits), items & np.uint64((1 << right_bits) - 1)
    for key in keys:
        mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
        mixed = (mixed >> np.uint64(64 - left_bits)) ^ left
        # The halves change places, and so do their widths; an even number of rounds brings them back.
        left, right, left_bits, right_bits = right, mixed, right_bits, left_bits
    return (left << np.uint64(right_bits)) | right
