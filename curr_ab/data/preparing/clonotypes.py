"""Clonotypes: heavy chains of one V gene, J gene and CDRH3 length whose CDRH3s are close, by single linkage.

A row without a V gene is linked by its CDRH3 and by the residues before it, which must be alike; one without
a J gene by V gene and CDRH3. Rows of different genes are linked too where those residues are alike and the
CDRH3s differ in one at most: sources name nearly equal genes differently. A row without a CDRH3 is linked to
equal heavy chains only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.data.preparing.components import Labels, unite
from curr_ab.data.preparing.genes import (
    FEWEST_BEFORE,
    NUM_BEFORE,
    Residues,
    align_cdr3s,
    are_alike,
    before_cdr3,
    cdr3_of,
    gene_of,
)
from curr_ab.data.preparing.order import PartitionTask, read_partition
from curr_ab.data.preparing.parts import LZ4
from curr_ab.files import read_object, replacing, write_json
from curr_ab.options import OptionError

Keys = npt.NDArray[np.uint64]
Decisive = npt.NDArray[np.bool_]  # two rows are linked only where one of them is
LEAST_KNOWN = 0.95  # share of the heavy chains whose CDRH3 must be known
LIKE_BEFORE = (
    0.8  # share of equal residues before the CDRH3, which stands for the V gene where that is unknown
)
_SCHEMA = pa.schema(
    [
        *(("row", pa.int64()), ("v", pa.uint64()), ("j", pa.uint64()), ("cdr3", pa.string())),
        ("before", pa.binary(NUM_BEFORE)),
    ]
)
_SORT_COST = 64  # of a row, in comparisons of two residues
_PAIRS_AT_ONCE = 1 << 22  # residues that are compared at once
_LINKS_AT_ONCE = 1 << 20
_ALL_COMPARED = 200  # rows; in larger groups each is compared with the first of its kind
# Odd numbers of the golden ratio and of splitmix64, which spread bits.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0xBF58476D1CE4E5B9)


def _path(task: PartitionTask) -> Path:
    return task.path.with_suffix(".clonotypes.arrow")


def _summary_path(task: PartitionTask) -> Path:
    return task.path.with_suffix(".clonotypes.json")


def _codes(calls: pa.ChunkedArray) -> Keys:
    """A number for each gene, 0 where it is not known; the same in every partition."""
    encoded = calls.combine_chunks().dictionary_encode()
    genes = [gene_of(call or "") for call in encoded.dictionary.to_pylist()]
    digests = [
        int.from_bytes(blake2b(gene.encode(), digest_size=8).digest()) if gene else 0 for gene in genes
    ]
    places = encoded.indices.fill_null(len(genes)).to_numpy(zero_copy_only=False)
    return np.asarray(np.array([*digests, 0], np.uint64)[places])


def _cdr3s(table: pa.Table, counts: Counter[str]) -> list[str]:
    """CDRH3 of each row, empty where it is not known; where they are from is counted."""
    columns = (table[name].to_pylist() for name in ("heavy", "cdr3_heavy", "region_mask_heavy"))
    found: list[str] = []
    unknown: dict[int, str] = {}
    for row, (heavy, cdr3, mask) in enumerate(zip(*columns, strict=True)):
        text, source = cdr3_of(heavy, cdr3, mask) if heavy else ("", "no_heavy_chain")
        counts[source] += 1
        found.append(text)
        if not source:
            unknown[row] = heavy
    for row, text in zip(unknown, align_cdr3s(list(unknown.values())), strict=True):
        found[row] = text
        counts["alignment"] += bool(text)
    counts["without_cdr3"] = counts.pop("", 0) - counts["alignment"]
    return found


def write_clonotypes(task: PartitionTask) -> dict[str, int]:
    """Write CDRH3 and genes of the partition's rows, a batch for each length; return where they are from."""
    if _summary_path(task).exists():
        return dict(read_object(_summary_path(task))["counts"])
    table = read_partition(task, ["heavy", "cdr3_heavy", "region_mask_heavy", "v_call_heavy", "j_call_heavy"])
    counts: Counter[str] = Counter()
    cdr3s = _cdr3s(table, counts)
    before = before_cdr3(table["heavy"].to_pylist(), cdr3s)
    lengths = np.array([len(text) for text in cdr3s])
    v, j = _codes(table["v_call_heavy"]), _codes(table["j_call_heavy"])
    known = lengths > 0
    counts["without_v_gene"] = int(np.count_nonzero(known & (v == 0)))
    few = np.count_nonzero(before, axis=1) < FEWEST_BEFORE
    counts["without_framework"] = int(np.count_nonzero(known & (v == 0) & few))
    counts["without_j_gene"] = int(np.count_nonzero(known & (j == 0)))
    present = np.unique(lengths[known]).tolist()
    with replacing(_path(task)) as path, pa.ipc.new_file(str(path), _SCHEMA, options=LZ4) as writer:
        for length in present:
            rows = np.flatnonzero(lengths == length)
            columns = [rows, v[rows], j[rows], [cdr3s[row] for row in rows]]
            arrays = [pa.array(values, kind) for values, kind in zip(columns, _SCHEMA.types, strict=False)]
            texts = pa.py_buffer(before[rows].tobytes())
            arrays.append(pa.FixedSizeBinaryArray.from_buffers(_SCHEMA.types[-1], len(rows), [None, texts]))
            writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
    write_json(_summary_path(task), {"counts": dict(counts), "lengths": present})
    return dict(counts)


def require_known(counts: Counter[str]) -> None:
    """Refuse to call it a clonotype where too few CDRH3s are known."""
    num_heavy = sum(counts[name] for name in ("cdr3", "region_mask", "alignment", "without_cdr3"))
    num_known = num_heavy - counts["without_cdr3"]
    if num_known < LEAST_KNOWN * num_heavy:
        raise OptionError(
            f"cluster must be mmseqs or exact where the CDRH3 of fewer than {LEAST_KNOWN:.0%} of the heavy "
            f"chains is known ({num_known:,} of {num_heavy:,} here); got clonotype",
            "cluster",
        )


def _of_length(
    partitions: Sequence[PartitionTask], starts: Sequence[int], length: int
) -> tuple[Labels, Keys, Keys, Residues, Residues]:
    """Rows of all partitions with a CDRH3 of this length: number, genes, CDRH3 and what is before it."""
    batches = []
    for task, start in zip(partitions, starts, strict=True):
        lengths = read_object(_summary_path(task))["lengths"]
        if length in lengths:
            with pa.OSFile(str(_path(task))) as file, pa.ipc.open_file(file) as reader:
                batch = reader.get_batch(lengths.index(length))
            rows, v, j = (batch[name].to_numpy() for name in ("row", "v", "j"))
            cdr3s = np.frombuffer(batch["cdr3"].buffers()[2], np.uint8, count=length * len(rows))
            before = np.frombuffer(batch["before"].buffers()[1], np.uint8, count=NUM_BEFORE * len(rows))
            texts = cdr3s.reshape(-1, length), before.reshape(-1, NUM_BEFORE)
            batches.append((rows + start, v, j, *texts))
    rows, v, j, cdr3s, before = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return rows, v, j, cdr3s, before


def link_clonotypes(
    partitions: Sequence[PartitionTask], starts: Sequence[int], labels: Labels, identity: float
) -> None:
    """Unite the rows of each clonotype; one length of CDRH3 is in memory at a time."""
    present = [read_object(_summary_path(task))["lengths"] for task in partitions]
    for length in sorted(set().union(*present)):
        mismatches = allowed_mismatches(length, identity)
        rows, v, j, cdr3s, before = _of_length(partitions, starts, length)
        waiting: list[tuple[Labels, Labels]] = []
        for link in close_rows(v, j, cdr3s, mismatches, before):
            waiting.append(link)
            if sum(len(one) for one, _ in waiting) >= _LINKS_AT_ONCE:
                _unite(labels, rows, waiting)
        _unite(labels, rows, waiting)


def _unite(labels: Labels, rows: Labels, waiting: list[tuple[Labels, Labels]]) -> None:
    if waiting:
        unite(labels, *(rows[np.concatenate(ends)] for ends in zip(*waiting, strict=True)))
        waiting.clear()


def allowed_mismatches(length: int, identity: float) -> int:
    """Residues that may differ between CDRH3s of this length: one, or more in long ones."""
    return max(1, int(length * (1 - identity) + 1e-9))


def close_rows(
    v: Keys, j: Keys, residues: Residues, mismatches: int, before: Residues | None = None
) -> Iterator[tuple[Labels, Labels]]:
    """Links that connect all rows of matching genes whose CDRH3s differ in at most so many residues.

    `before` are the residues before the CDRH3s, which must be alike where a V gene is not known. They link
    rows of different genes too, whose CDRH3s differ in one at most. Without them the CDRH3 stands alone.
    """
    genes, text = (v * _STEP) ^ (j * _SPREAD), _sums(residues)
    frames = np.zeros_like(text) if before is None else _sums(before)
    order = np.lexsort((frames, (genes + _SPREAD) * _STEP ^ text))
    equal = (text[order][1:] == text[order][:-1]) & (genes[order][1:] == genes[order][:-1])
    same = equal & (frames[order][1:] == frames[order][:-1])
    linked = equal & ((v[order][1:] != 0) | same)
    yield order[1:][linked], order[:-1][linked]
    rows = order[np.concatenate([[True], ~same])]  # the rest are of one each
    v, j, residues = v[rows], j[rows], residues[rows]
    before = None if before is None else before[rows]
    without_v, without_j = v == 0, (v != 0) & (j == 0)
    everyone, no_genes = np.ones(len(rows), bool), np.zeros_like(v)
    # Pairs of rows by the genes that both know; of each pair one row at least knows no more than these.
    stages = [(~without_v & ~without_j, genes[rows], everyone, None, mismatches)]
    if without_j.any():
        stages.append((~without_v, v, without_j, None, mismatches))
    if without_v.any():
        stages.append((everyone, no_genes, without_v, before, mismatches))
    # Sources differ in the names of genes that are nearly equal, such as IGHV3-53 and IGHV3-66.
    if before is not None and not without_v.all():
        known = np.count_nonzero(before, axis=1) >= FEWEST_BEFORE
        stages.append((known, no_genes, everyone, before, 1))
    for inside, keys, decisive, alike, most in stages:
        chosen = np.flatnonzero(inside)
        chosen = chosen[np.argsort(keys[chosen], kind="stable")]
        cuts = np.flatnonzero(np.diff(keys[chosen])) + 1
        for bucket in np.split(chosen, cuts):
            if len(bucket) > 1 and decisive[bucket].any():
                frames_of_bucket = None if alike is None else alike[bucket]
                for one, other in _close(residues[bucket], decisive[bucket], most, frames_of_bucket):
                    yield rows[bucket[one]], rows[bucket[other]]


def _close(
    residues: Residues, decisive: Decisive, mismatches: int, before: Residues | None
) -> Iterator[tuple[Any, Any]]:
    """Links within one bucket: all against all where that is less work than a sort for each way to differ."""
    num_rows, length = residues.shape
    mismatches = min(mismatches, length)
    if num_rows * length <= comb(length, mismatches) * _SORT_COST:
        return _compared(residues, decisive, mismatches, before)
    return _sorted(residues, decisive, mismatches, before)


def _compared(
    residues: Residues, decisive: Decisive, mismatches: int, before: Residues | None
) -> Iterator[tuple[Any, Any]]:
    num_rows, length = residues.shape
    step = max(1, _PAIRS_AT_ONCE // (num_rows * length))
    for start in range(0, num_rows, step):
        # Of each two rows the later one is compared with the earlier.
        some, rest = residues[start : start + step], residues[start:]
        distances = (some[:, None, :] != rest[None]).sum(-1, dtype=np.uint16)
        near = distances <= mismatches
        near &= decisive[start : start + step, None] | decisive[None, start:]
        one, other = np.nonzero(near)
        one, other = one[one < other] + start, other[one < other] + start
        if before is not None:
            alike = _alike(before, one, other)
            one, other = one[alike], other[alike]
        yield one, other


def _sorted(
    residues: Residues, decisive: Decisive, mismatches: int, before: Residues | None
) -> Iterator[tuple[Any, Any]]:
    """Rows that are equal but for some positions are neighbours in the order of all the others."""
    numbers, whole = _numbers(residues.shape[1]), _sums(residues)
    for left_out in combinations(range(residues.shape[1]), mismatches):
        keys = whole.copy()
        for position in left_out:
            keys -= numbers[position][residues[:, position]]
        order = np.argsort(keys)
        equal = keys[order][1:] == keys[order][:-1]
        if not equal.any():
            continue
        group = np.concatenate([[0], np.cumsum(~equal)])
        num_decisive = np.bincount(group, decisive[order])
        if before is None:
            equal &= num_decisive[group][1:] > 0
            yield order[1:][equal], order[:-1][equal]
        else:
            worth = ((np.bincount(group) > 1) & (num_decisive > 0))[group]
            yield from _alike_in_groups(order[worth], group[worth], decisive, before)


def _alike(before: Residues, one: Labels, other: Labels) -> Decisive:
    """Tell, two by two, if the residues before the CDRH3s of these rows are alike."""
    step = _PAIRS_AT_ONCE // NUM_BEFORE
    pieces = [np.zeros(0, bool)]
    for start in range(0, len(one), step):
        some, others = before[one[start : start + step]], before[other[start : start + step]]
        pieces.append(are_alike(some, others, LIKE_BEFORE))
    return np.concatenate(pieces)


def _alike_in_groups(
    order: Labels, group: Labels, decisive: Decisive, before: Residues
) -> Iterator[tuple[Any, Any]]:
    """Links of rows of one group that are alike before the CDRH3; each decisive row takes its turn.

    In large groups those that were linked to an earlier one have no turn of their own, so that the work grows
    with the number of rows times that of V genes.
    """
    waits = decisive[order]
    while waits.any():
        _, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
        turns = np.flatnonzero(waits)
        first = np.full(len(sizes), -1)
        first[group[turns][::-1]] = turns[::-1]  # the last assignment is the first row
        left = first[group] >= 0
        left[first[first >= 0]] = False
        leaders = order[first[group[left]]]
        order, group, waits = order[left], group[left], waits[left]
        alike = _alike(before, order, leaders)
        yield order[alike], leaders[alike]
        waits &= ~alike | (sizes[group] <= _ALL_COMPARED)


def _numbers(length: int) -> Keys:
    """A number for each letter at each position (splitmix64), of which sums stand for texts."""
    mixed = np.arange(1, length * 256 + 1, dtype=np.uint64) * _SPREAD
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _STEP
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31))).reshape(length, 256)


def _sums(residues: Residues) -> Keys:
    sums = np.zeros(len(residues), np.uint64)
    for position, numbers in enumerate(_numbers(residues.shape[1])):
        sums += numbers[residues[:, position]]
    return sums
