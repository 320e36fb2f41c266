"""Splits and their shards: whole clusters go to train, validation or test, and each split into shards.

A shard is gathered from the partitions in which its rows lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from curr_ab.data.preparing.components import Labels, blocks, new_array, spread_bits
from curr_ab.data.preparing.order import PartitionTask, first_rows, num_kept, read_partition
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.data.schema import PAIR_SCHEMA
from curr_ab.data.shards import ANNOTATION_DIGEST, parquet_digests, parquet_path, write_shard
from curr_ab.files import read_object, replacing, write_json
from curr_ab.options import OptionError

SPLITS = ("train", "validation", "test")
Splits = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint64]


def cluster_sizes(labels: Labels) -> npt.NDArray[np.int32]:
    """Number of rows of each cluster, at the index that is its label; 0 elsewhere."""
    sizes = np.zeros(len(labels), np.int32)
    for block in blocks(len(labels)):
        np.add.at(sizes, labels[block], 1)
    return sizes


def _candidates(sizes: npt.NDArray[np.int32], keys: Keys, low: int, high: int) -> Labels:
    """Clusters whose shuffled keys lie in [low, high), in the order of these."""
    clusters, cluster_keys = [], []
    for block in blocks(len(sizes)):
        # In another order than that of the keys, which is the training set's.
        shuffled = spread_bits(np.asarray(keys[block]) + np.uint64(0x9E3779B97F4A7C15))
        inside = (sizes[block] > 0) & (shuffled >= np.uint64(low)) & (shuffled <= np.uint64(high - 1))
        clusters.append(block.start + np.flatnonzero(inside))
        cluster_keys.append(shuffled[inside])
    return np.concatenate(clusters)[np.argsort(np.concatenate(cluster_keys), kind="stable")]


def held_out_rows(split: str, size: float, num_rows: int) -> int:
    """Rows of a split whose size is a share of all rows, or a number of them."""
    rows = round(size * num_rows) if isinstance(size, float) else size
    if rows < 0 or rows >= num_rows:
        message = f"{split} must be at least 0 and less than all {num_rows:,} pairs; got {size}"
        raise OptionError(message, split)
    return rows


def assign_splits(labels: Labels, keys: Keys, splits: Splits, *, validation: float, test: float) -> None:
    """Fill test, then validation, with clusters in shuffled order; what does not fit stays in training."""
    num_rows = len(labels)
    sizes = cluster_sizes(labels)
    targets = {
        2: held_out_rows("test", test, num_rows),
        1: held_out_rows("validation", validation, num_rows),
    }
    free = dict(targets)  # rows that each split still takes
    of_cluster = np.zeros(num_rows, np.uint8)
    # Only as many clusters are looked at as it takes to fill both: the first range nearly always does.
    low, high = 0, min(1 << 64, int((1 << 64) * 2 * sum(free.values()) / num_rows) + 1)
    while sum(free.values()) and low < 1 << 64:
        for cluster in _candidates(sizes, keys, low, high).tolist():
            size = int(sizes[cluster])
            for split, rows in free.items():
                if size <= rows:
                    of_cluster[cluster] = split
                    free[split] -= size
                    break
            if not sum(free.values()):
                break
        low, high = high, min(1 << 64, 2 * high)
    for split, rows in targets.items():
        if rows and free[split] == rows:
            smallest = int(sizes[sizes > 0].min())
            raise ValueError(
                f"no cluster fits into the {SPLITS[split]} set of {rows:,} pairs (the smallest has "
                f"{smallest:,}); ask for a larger set, or for smaller clusters"
            )
    for block in blocks(num_rows):
        splits[block] = of_cluster[labels[block]]


def crossing(labels: Labels, splits: Splits) -> int:
    """Number of clusters with rows in more than one split."""
    seen = np.zeros(len(labels), np.uint8)
    for block in blocks(len(labels)):
        np.bitwise_or.at(seen, labels[block], np.left_shift(np.uint8(1), splits[block]))
    return sum(int(np.isin(seen[block], (0, 1, 2, 4), invert=True).sum()) for block in blocks(len(labels)))


def split_report(labels: Labels, splits: Splits) -> dict[str, Any]:
    """Clusters and pairs of each split, and the histogram of cluster sizes."""
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
    }


def subset_sizes(subsets: Mapping[str, float], num_train: int) -> dict[str, int]:
    """Number of pairs of each nested subset, largest first; each is the beginning of the training set."""
    sizes = {
        name: round(size * num_train) if isinstance(size, float) else size for name, size in subsets.items()
    }
    for name, size in sizes.items():
        if not 0 < size <= num_train:
            raise OptionError(
                f"subset {name} wants {size:,} pairs, and the training set has at most {num_train:,}; "
                "make it at least 1 and at most that",
                "subsets",
            )
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _copy_source_splits(partitions: list[PartitionTask], splits: Splits) -> None:
    for task, row in zip(partitions, first_rows(partitions), strict=True):
        column = read_partition(task, ["split"])["split"].combine_chunks()
        if column.null_count:
            raise OptionError(
                "cluster must be clonotype, mmseqs or exact where a record has no split; got source",
                "cluster",
            )
        codes = pc.index_in(column, pa.array(SPLITS))
        splits[row : row + len(column)] = codes.to_numpy(zero_copy_only=False)


def write_splits(
    plan: PreparationPlan, partitions: list[PartitionTask], *, order_keys: Path, labels: Path
) -> Path:
    """Write the splits of all rows next to the labels, unless an earlier run did; return their path."""
    path = labels.with_name("splits.npy")
    if path.exists():
        return path
    keys, clusters = np.load(order_keys, mmap_mode="r"), np.load(labels, mmap_mode="r")
    with replacing(path) as temporary:
        splits = new_array(temporary, np.uint8, len(clusters))
        if plan.cluster == "source":
            _copy_source_splits(partitions, splits)
            if (cut := crossing(clusters, splits)) and not plan.allow_cut_clusters:
                raise OptionError(
                    f"the source's own splits cut {cut:,} of its clusters, so that relatives of test pairs "
                    "are in training; choose the cluster clonotype, or take them with allow_cut_clusters",
                    *("cluster", "allow_cut_clusters"),
                )
        else:
            assign_splits(clusters, keys, splits, validation=plan.validation, test=plan.test)
    return path


@dataclass(frozen=True)
class ShardTask:
    """Shard to write, and the partitions in which its rows lie."""

    name: str
    split: int
    skipped: int  # pairs of the split in these partitions before the shard
    num_pairs: int
    partitions: tuple[PartitionTask, ...]
    starts: tuple[int, ...]  # first row of each of these partitions, and the end of the last
    labels: Path
    splits: Path
    masks: tuple[str, ...]
    out: Path

    @property
    def entry_path(self) -> Path:
        return self.labels.with_name(f"{self.name}.json")


def _rows(task: ShardTask) -> Iterator[pa.Table]:
    """Rows of the shard with their clusters, partition by partition."""
    splits, labels = np.load(task.splits, mmap_mode="r"), np.load(task.labels, mmap_mode="r")
    first, end, seen = task.skipped, task.skipped + task.num_pairs, 0
    for partition, start, stop in zip(task.partitions, task.starts[:-1], task.starts[1:], strict=True):
        of_split = np.flatnonzero(splits[start:stop] == task.split)
        rows = of_split[max(0, first - seen) : max(0, end - seen)]
        seen += len(of_split)
        table = read_partition(partition, PAIR_SCHEMA.names).take(pa.array(rows))
        split = pa.repeat(pa.scalar(SPLITS[task.split]), len(rows))
        table = table.set_column(table.schema.get_field_index("split"), "split", split)
        yield table.append_column("cluster", pa.array(labels[start:stop][rows]))


def write_task_shard(task: ShardTask) -> dict[str, Any]:
    """Write the shard, unless an earlier run did; return its entry in the index."""
    if task.entry_path.exists():
        entry = read_object(task.entry_path)
        if ANNOTATION_DIGEST in entry:
            return entry
        # Work that was begun before there were these digests.
        pairs = pyarrow.parquet.read_table(parquet_path(task.out, task.name))
        return {**entry, **parquet_digests(task.out, task.name, pairs)}
    entry = write_shard(task.out, task.name, pa.concat_tables(_rows(task)).combine_chunks(), task.masks)
    write_json(task.entry_path, entry)
    return entry


def shard_tasks(
    plan: PreparationPlan,
    partitions: Sequence[PartitionTask],
    *,
    labels: Path,
    splits: Path,
    masks: tuple[str, ...],
    out: Path,
) -> list[ShardTask]:
    """Shards of all splits."""
    starts = np.cumsum([0, *map(num_kept, partitions)])
    codes = np.load(splits, mmap_mode="r")
    tasks = []
    for code, split in enumerate(SPLITS):
        counts = [np.count_nonzero(codes[a:b] == code) for a, b in pairwise(starts.tolist())]
        ends = np.cumsum(counts)
        for index, first in enumerate(range(0, int(ends[-1]), plan.pairs_per_shard)):
            last = min(first + plan.pairs_per_shard, int(ends[-1]))
            begin, end = int(np.searchsorted(ends, first, "right")), int(np.searchsorted(ends, last)) + 1
            task = ShardTask(
                name=f"{split}-{index:05d}",
                split=code,
                skipped=first - int(ends[begin] - counts[begin]),
                num_pairs=last - first,
                partitions=tuple(partitions[begin:end]),
                starts=tuple(starts[begin : end + 1].tolist()),
                labels=labels,
                splits=splits,
                masks=masks,
                out=out,
            )
            tasks.append(task)
    return tasks
