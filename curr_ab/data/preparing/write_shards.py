"""Shards: consecutive rows of one split, gathered from the partitions and written as token arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curr_ab.data.preparing.order import PartitionTask, read_partition
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.data.preparing.splits import SPLITS
from curr_ab.data.schema import PAIR_SCHEMA
from curr_ab.data.shards import write_shard
from curr_ab.files import write_json


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
    entry_path: Path


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
        done: dict[str, Any] = json.loads(task.entry_path.read_text())
        return done
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
    sizes = [json.loads(task.summary_path.read_text())["kept"] for task in partitions]
    starts = np.cumsum([0, *sizes])
    codes = np.load(splits, mmap_mode="r")
    tasks = []
    for code, split in enumerate(SPLITS):
        counts = [np.count_nonzero(codes[a:b] == code) for a, b in pairwise(starts.tolist())]
        ends = np.cumsum(counts)
        for index, first in enumerate(range(0, int(ends[-1]), plan.pairs_per_shard)):
            last = min(first + plan.pairs_per_shard, int(ends[-1]))
            begin, end = int(np.searchsorted(ends, first, "right")), int(np.searchsorted(ends, last)) + 1
            name = f"{split}-{index:05d}"
            task = ShardTask(
                name=name,
                split=code,
                skipped=first - int(ends[begin] - counts[begin]),
                num_pairs=last - first,
                partitions=tuple(partitions[begin:end]),
                starts=tuple(starts[begin : end + 1].tolist()),
                labels=labels,
                splits=splits,
                masks=masks,
                out=out,
                entry_path=labels.with_name(f"{name}.json"),
            )
            tasks.append(task)
    return tasks
