"""Clonotypes: heavy chains of one V gene, J gene and CDRH3 length whose CDRH3s are close, by single linkage.

A row without a V gene is linked by its CDRH3 and by the residues before it, which must be alike; one without
a J gene by V gene and CDRH3. Rows of different genes are linked too where those residues are alike and the
CDRH3s differ in one at most: sources name nearly equal genes differently. A row without a CDRH3 is linked to
equal heavy chains only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.data.preparing.components import Labels, find, settle, spread_bits, unite
from curr_ab.data.preparing.genes import (
    FEWEST_BEFORE,
    NUM_BEFORE,
    Residues,
    are_alike,
    before_cdr3,
    find_cdr3,
    gene_of,
)
from curr_ab.data.preparing.order import PartitionTask, read_partition
from curr_ab.data.preparing.parts import LZ4, UNTHREADED
from curr_ab.files import read_object, replacing, write_json
from curr_ab.options import OptionError

Keys = npt.NDArray[np.uint64]
Decisive = npt.NDArray[np.bool_]  # two rows are linked only where one of them is
LEAST_KNOWN = 0.95  # share of the heavy chains whose CDRH3 must be known
# Share of equal residues before the CDRH3, which stands for the V gene where that is unknown.
LIKE_BEFORE = 0.8
_SCHEMA = pa.schema(
    [
        *(("row", pa.int64()), ("v", pa.uint64()), ("j", pa.uint64()), ("cdr3", pa.string())),
        ("before", pa.binary(NUM_BEFORE)),
    ]
)
_SORT_COST = 64  # of a row, in comparisons of two residues
_PAIRS_AT_ONCE = 1 << 22  # residues that are compared at once
_EQUAL_PIECES = 3  # of the pieces into which CDRH3s are cut, in two that are close
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
    found = [find_cdr3(*row) for row in zip(*columns, strict=True)]
    counts.update(source for _, source in found)
    counts["without_cdr3"] += 0  # a number also where it is none
    return [text for text, _ in found]


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
            with pa.OSFile(str(_path(task))) as file, pa.ipc.open_file(file, options=UNTHREADED) as reader:
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
        unite(labels, rows, rows[close_rows(v, j, cdr3s, mismatches, before)])


def allowed_mismatches(length: int, identity: float) -> int:
    """Residues that may differ between CDRH3s of this length: one, or more in long ones."""
    return max(1, int(length * (1 - identity) + 1e-9))


def close_rows(
    v: Keys, j: Keys, residues: Residues, mismatches: int, before: Residues | None = None
) -> Labels:
    """Labels that connect all rows of matching genes whose CDRH3s differ in at most so many residues.

    `before` are the residues before the CDRH3s, which must be alike where a V gene is not known. They link
    rows of different genes too, whose CDRH3s differ in one at most. Without them the CDRH3 stands alone.
    """
    genes, text = (v * _STEP) ^ (j * _SPREAD), _sums(residues)
    frames = np.zeros_like(text) if before is None else _sums(before)
    order = np.lexsort((frames, (genes + _SPREAD) * _STEP ^ text))
    equal = (text[order][1:] == text[order][:-1]) & (genes[order][1:] == genes[order][:-1])
    same = equal & (frames[order][1:] == frames[order][:-1])
    linked = equal & ((v[order][1:] != 0) | same)
    labels = np.arange(len(order))
    unite(labels, order[1:][linked], order[:-1][linked])
    # One row of each kind, with the residues before the CDRH3 and without.
    rows, texts = (np.sort(order[np.concatenate([[True], ~repeated])]) for repeated in (same, equal))
    everyone, no_genes = np.ones(len(v), bool), np.zeros_like(v)
    without_v, without_j = v == 0, (v != 0) & (j == 0)
    # Pairs of rows by the genes that both know; of each pair one row at least knows no more than these.
    stages: list[tuple[Labels, Keys, Decisive, Residues | None, int]] = [
        (texts[(v[texts] != 0) & (j[texts] != 0)], genes, everyone, None, mismatches)
    ]
    if without_j.any():
        stages.append((texts[v[texts] != 0], v, without_j, None, mismatches))
    if without_v.any():
        stages.append((rows, no_genes, without_v, before, mismatches))
    # Sources differ in the names of genes that are nearly equal, such as IGHV3-53 and IGHV3-66.
    if before is not None and not without_v.all():
        known = np.count_nonzero(before[rows], axis=1) >= FEWEST_BEFORE
        stages.append((rows[known], no_genes, everyone, before, 1))
    for chosen, keys, decisive, alike, most in stages:
        chosen = chosen[np.argsort(keys[chosen], kind="stable")]
        cuts = np.flatnonzero(np.diff(keys[chosen])) + 1
        for bucket in np.split(chosen, cuts):
            if len(bucket) > 1 and decisive[bucket].any():
                _Bucket(
                    labels=labels,
                    rows=bucket,
                    residues=residues[bucket],
                    decisive=decisive[bucket],
                    mismatches=min(most, residues.shape[1]),
                    before=None if alike is None else alike[bucket],
                ).link()
    settle(labels)
    return labels


@dataclass(frozen=True, kw_only=True)
class _Bucket:
    """Rows that are linked where their CDRH3s are close, by the labels of all rows.

    Rows that are connected already are not compared: which links connect them makes no difference.
    """

    labels: Labels
    rows: Labels
    residues: Residues
    decisive: Decisive
    mismatches: int
    before: Residues | None

    def link(self) -> None:
        """Compare all with all where that is less work than a sort for each way to differ."""
        num_rows, length = self.residues.shape
        # Some of them are equal in two close rows: the fewer, the more rows to compare, but fewer ways to
        # differ. Where residues before the CDRH3 decide, each is a residue, so that few are compared.
        num_pieces = length if self.before is not None else min(length, self.mismatches + _EQUAL_PIECES)
        if num_rows * length <= comb(num_pieces, self.mismatches) * _SORT_COST:
            self._compare_all()
        elif not self._sort(num_pieces):
            self._sort(length)

    def _labels(self, some: Labels) -> Labels:
        return find(self.labels, self.rows[some])

    def _unite(self, some: Labels, others: Labels) -> None:
        unite(self.labels, self.rows[some], self.rows[others])

    def _compare_all(self) -> None:
        num_rows, length = self.residues.shape
        step = max(1, _PAIRS_AT_ONCE // (num_rows * length))
        for start in range(0, num_rows, step):
            # Of each two rows the later one is compared with the earlier.
            some, rest = self.residues[start : start + step], self.residues[start:]
            distances = (some[:, None, :] != rest[None]).sum(-1, dtype=np.uint16)
            near = distances <= self.mismatches
            near &= self.decisive[start : start + step, None] | self.decisive[None, start:]
            one, other = np.nonzero(np.triu(near, 1))
            self._unite_alike(one + start, other + start)

    def _unite_alike(self, some: Labels, others: Labels) -> None:
        if self.before is not None:
            apart = self._labels(some) != self._labels(others)
            some, others = some[apart], others[apart]
            alike = _alike(self.before, some, others)
            some, others = some[alike], others[alike]
        self._unite(some, others)

    def _sort(self, num_pieces: int) -> bool:
        """Link rows by their order without some pieces; false where that is no gain over single residues."""
        num_rows, length = self.residues.shape
        numbers = _numbers(length)
        cuts = np.arange(num_pieces) * length // num_pieces
        values = np.stack([numbers[place][self.residues[:, place]] for place in range(length)])
        pieces: Keys = np.add.reduceat(values, cuts, axis=0)
        whole = pieces.sum(axis=0, dtype=np.uint64)
        for left_out in combinations(range(num_pieces), self.mismatches):
            keys = whole - pieces[list(left_out)].sum(axis=0, dtype=np.uint64)
            order = np.argsort(keys)
            equal = keys[order][1:] == keys[order][:-1]
            if not equal.any():
                continue
            group = np.concatenate([[0], np.cumsum(~equal)])
            order, group = self._worth(order, group)
            if self.before is not None:
                self._link_alike(order, group)
            elif num_pieces == length:
                same = group[1:] == group[:-1]
                self._unite(order[1:][same], order[:-1][same])
            elif (
                length * np.sum(np.bincount(group) ** 2)
                > num_rows * comb(length, self.mismatches) * _SORT_COST
            ):
                return False
            else:
                self._link_near(order, group)
        return True

    def _worth(self, order: Labels, group: Labels) -> tuple[Labels, Labels]:
        """The groups in which something is left to link, each in the order of its rows."""
        labels = self._labels(order)
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        several = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
        several &= np.logical_or.reduceat(self.decisive[order], starts)
        kept = np.repeat(several, np.diff(starts, append=len(order)))
        order, group = order[kept], group[kept]
        sorted_again = np.lexsort((order, group))
        return order[sorted_again], group[sorted_again]

    def _link_near(self, order: Labels, group: Labels) -> None:
        """Link the rows of one group that are near: each is compared with those behind it."""
        labels = self._labels(order)
        behind = np.searchsorted(group, group, "right") - np.arange(1, len(group) + 1)
        pieces = np.cumsum(behind) * self.residues.shape[1] // _PAIRS_AT_ONCE
        for places in np.split(np.arange(len(order)), np.flatnonzero(np.diff(pieces)) + 1):
            counts = behind[places]
            one = np.repeat(places, counts)
            other = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)
            apart = labels[one] != labels[other]
            some, others = order[one[apart]], order[other[apart]]
            near = (self.residues[some] != self.residues[others]).sum(-1, dtype=np.uint16) <= self.mismatches
            near &= self.decisive[some] | self.decisive[others]
            self._unite(some[near], others[near])

    def _link_alike(self, order: Labels, group: Labels) -> None:
        """Link the rows of one group that are alike before the CDRH3; each decisive row takes its turn.

        In large groups those that were linked to an earlier one have no turn of their own, so that the work
        grows with the number of rows times that of V genes.
        """
        assert self.before is not None
        waits = self.decisive[order]
        while waits.any():
            _, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
            turns = np.flatnonzero(waits)
            first = np.full(len(sizes), -1)
            first[group[turns][::-1]] = turns[::-1]  # the last assignment is the first row
            left = first[group] >= 0
            left[first[first >= 0]] = False
            leaders = order[first[group[left]]]
            order, group, waits = order[left], group[left], waits[left]
            few = sizes[group] <= _ALL_COMPARED
            asked = ~few | (self._labels(order) != self._labels(leaders))
            alike = np.zeros(len(order), bool)
            alike[asked] = _alike(self.before, order[asked], leaders[asked])
            self._unite(order[alike], leaders[alike])
            waits &= ~alike | few


def _alike(before: Residues, one: Labels, other: Labels) -> Decisive:
    """Tell, two by two, if the residues before the CDRH3s of these rows are alike."""
    step = _PAIRS_AT_ONCE // NUM_BEFORE
    pieces = [np.zeros(0, bool)]
    for start in range(0, len(one), step):
        some, others = before[one[start : start + step]], before[other[start : start + step]]
        pieces.append(are_alike(some, others, LIKE_BEFORE))
    return np.concatenate(pieces)


def _numbers(length: int) -> Keys:
    """A number for each letter at each position, of which sums stand for texts."""
    return spread_bits(np.arange(1, length * 256 + 1, dtype=np.uint64) * _SPREAD).reshape(length, 256)


def _sums(residues: Residues) -> Keys:
    sums = np.zeros(len(residues), np.uint64)
    for position, numbers in enumerate(_numbers(residues.shape[1])):
        sums += numbers[residues[:, position]]
    return sums
