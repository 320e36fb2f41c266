"""Whole clusters to train, validation or test, with the proof that none crosses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.preparing import clusters
from curr_ab.data.preparing.clusters import Labels, blocks
from curr_ab.data.preparing.order import PartitionTask, read_partition
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.files import replacing
from curr_ab.options import OptionError

SPLITS = ("train", "validation", "test")
Splits = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint64]


def _shuffled(keys: Keys) -> Keys:
    """Another order than the keys' own, which is that of the training set (finaliser of splitmix64)."""
    mixed = keys + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def cluster_sizes(labels: Labels) -> npt.NDArray[np.int32]:
    """Rows of each cluster, at the place of its label; 0 elsewhere."""
    sizes = np.zeros(len(labels), np.int32)
    for block in blocks(len(labels)):
        np.add.at(sizes, labels[block], 1)
    return sizes


def _candidates(sizes: npt.NDArray[np.int32], keys: Keys, low: int, high: int) -> Labels:
    """Clusters whose shuffled key lies in [low, high), in its order."""
    found, found_keys = [], []
    for block in blocks(len(sizes)):
        shuffled = _shuffled(np.asarray(keys[block]))
        inside = (sizes[block] > 0) & (shuffled >= np.uint64(low)) & (shuffled <= np.uint64(high - 1))
        found.append(block.start + np.flatnonzero(inside))
        found_keys.append(shuffled[inside])
    return np.concatenate(found)[np.argsort(np.concatenate(found_keys), kind="stable")]


def held_out_rows(wanted: float, num_rows: int) -> int:
    """A share of the rows, or a number of them."""
    rows = round(wanted * num_rows) if isinstance(wanted, float) else wanted
    if rows < 0 or rows >= num_rows:
        raise ValueError(f"{wanted} of {num_rows:,} pairs cannot be held out")
    return rows


def assign_splits(labels: Labels, keys: Keys, splits: Splits, *, validation: float, test: float) -> None:
    """Clusters in shuffled order fill test, then validation; one that does not fit stays in training."""
    num_rows = len(labels)
    sizes = cluster_sizes(labels)
    rooms = {2: held_out_rows(test, num_rows), 1: held_out_rows(validation, num_rows)}
    wanted = dict(rooms)
    of_cluster = np.zeros(num_rows, np.uint8)
    # Only as many clusters are looked at as it takes to fill the rooms: the first range nearly always does.
    low, high = 0, min(1 << 64, int((1 << 64) * 2 * sum(rooms.values()) / num_rows) + 1)
    while sum(rooms.values()) and low < 1 << 64:
        for cluster in _candidates(sizes, keys, low, high).tolist():
            size = int(sizes[cluster])
            for split, room in rooms.items():
                if size <= room:
                    of_cluster[cluster] = split
                    rooms[split] -= size
                    break
            if not sum(rooms.values()):
                break
        low, high = high, min(1 << 64, 2 * high)
    for split, rows in wanted.items():
        if rows and rooms[split] == rows:
            smallest = int(sizes[sizes > 0].min())
            raise ValueError(
                f"no cluster fits into the {SPLITS[split]} set of {rows:,} pairs (the smallest has "
                f"{smallest:,}); ask for a larger one, or group by less"
            )
    for block in blocks(num_rows):
        splits[block] = of_cluster[labels[block]]


def join_groups(labels: Labels, groups: Labels) -> None:
    """Clusters that share a group, such as a donor, become one; what is connected cannot be held apart."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num_rows = len(labels)
    edges = coo_array(
        (np.ones(num_rows, np.int8), (np.asarray(labels), np.asarray(groups))), (num_rows, num_rows)
    )
    _, component = connected_components(edges, directed=False)
    _, first, inverse = np.unique(component[np.asarray(labels)], return_index=True, return_inverse=True)
    labels[:] = first[inverse]


def crossing(labels: Labels, splits: Splits) -> int:
    """How many clusters have rows in more than one split: the proof, from the final split alone."""
    seen = np.zeros(len(labels), np.uint8)
    for block in blocks(len(labels)):
        np.bitwise_or.at(seen, labels[block], np.left_shift(np.uint8(1), splits[block]))
    return sum(int(np.isin(seen[block], (0, 1, 2, 4), invert=True).sum()) for block in blocks(len(labels)))


def split_report(labels: Labels, splits: Splits) -> dict[str, Any]:
    """Clusters and pairs of each split, how many clusters have which size, and the number that cross."""
    sizes = cluster_sizes(labels)
    clusters, pairs, histogram = Counter[str](), Counter[str](), Counter[int]()
    for block in blocks(len(labels)):
        firsts = sizes[block] > 0  # a cluster is named after its first row, which has the split of all
        for code, name in enumerate(SPLITS):
            of_split = splits[block] == code
            pairs[name] += int(np.count_nonzero(of_split))
            clusters[name] += int(np.count_nonzero(of_split & firsts))
        for size, count in zip(*np.unique(sizes[block][firsts], return_counts=True), strict=True):
            histogram[int(size)] += int(count)
    return {
        "clusters": {name: clusters[name] for name in SPLITS},
        "pairs": {name: pairs[name] for name in SPLITS},
        "cluster_sizes": dict(sorted(histogram.items())),
        "clusters_in_several_splits": crossing(labels, splits),
    }


def subset_sizes(wanted: Mapping[str, float], num_train: int) -> dict[str, int]:
    """Pairs of each nested subset, largest first; each is the beginning of the training set."""
    sizes = {
        name: round(size * num_train) if isinstance(size, float) else size for name, size in wanted.items()
    }
    for name, size in sizes.items():
        if not 0 < size <= num_train:
            raise ValueError(f"subset {name} wants {size:,} pairs, and the training set has {num_train:,}")
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def write_labels(
    plan: PreparationPlan, partitions: list[PartitionTask], keys: Path, folder: Path, processes: int
) -> Path:
    """The file of cluster labels, from disk where an earlier run got so far."""
    path = folder / "labels.npy"
    if path.exists():
        return path
    sequence_keys = np.load(keys, mmap_mode="r")
    with replacing(path) as temporary:
        labels = clusters.create_labels(temporary, len(sequence_keys))
        if plan.cluster == "exact":
            clusters.label_equal(sequence_keys, labels)
        elif plan.cluster == "source":
            clusters.label_column(partitions, "clone", labels)
        else:
            clusters.label_similar(
                partitions,
                labels,
                identity=plan.identity,
                coverage=plan.coverage,
                threads=processes,
                folder=folder,
            )
        if plan.group_by_donor:
            with replacing(folder / "donors.npy") as donors_path:
                donors = clusters.create_labels(donors_path, len(labels))
                clusters.label_column(partitions, "donor", donors)
                join_groups(labels, donors)
    return path


def _given_splits(partitions: list[PartitionTask], splits: Splits) -> None:
    row = 0
    for task in partitions:
        column = read_partition(task, ["split"])["split"].combine_chunks()
        if column.null_count:
            raise OptionError(
                "cluster must be mmseqs or exact where a record has no split; got source", "cluster"
            )
        codes = pc.index_in(column, pa.array(SPLITS))
        splits[row : row + len(column)] = codes.to_numpy(zero_copy_only=False)
        row += len(column)


def write_splits(
    plan: PreparationPlan, partitions: list[PartitionTask], order: Path, labels_path: Path
) -> Path:
    """The file of splits, next to the labels, from disk where an earlier run got so far."""
    path = labels_path.with_name("splits.npy")
    if path.exists():
        return path
    keys, labels = np.load(order, mmap_mode="r"), np.load(labels_path, mmap_mode="r")
    with replacing(path) as temporary:
        splits = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(labels),))
        if plan.cluster == "source":
            _given_splits(partitions, splits)
        else:
            assign_splits(labels, keys, splits, validation=plan.validation, test=plan.test)
    return path
