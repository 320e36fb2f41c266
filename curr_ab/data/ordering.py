"""The parts of all sources merged into the order of their hashes; exact duplicates meet there and go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from curr_ab.data.atomic import replacing, write_json
from curr_ab.data.parts import DROPPED_SCHEMA, KEYS, LZ4, PART_SCHEMA, PartTask

ROWS_PER_PARTITION = 65_536  # a partition is held in memory while it is sorted
_HASHES = 1 << 64


@dataclass(frozen=True)
class PartitionTask:
    """One range of the hash, over all parts; the result does not depend on how many ranges there are."""

    number: int
    num_partitions: int
    parts: tuple[PartTask, ...]
    folder: Path
    keep_dropped: bool

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number:06d}.arrow"

    @property
    def keys_path(self) -> Path:
        return self.path.with_suffix(".keys.npy")

    @property
    def summary_path(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def dropped_path(self) -> Path:
        return self.path.with_suffix(".dropped.parquet")


def _slices(task: PartitionTask) -> Iterator[pa.Table]:
    """This range's rows of every part, in the order of the sources."""
    low = task.number * _HASHES // task.num_partitions
    high = (task.number + 1) * _HASHES // task.num_partitions - 1
    for part in task.parts:
        ranges = json.loads(part.summary_path.read_text())["ranges"]
        hits = [place for place, (first, last) in enumerate(ranges) if first <= high and last >= low]
        if not hits:
            continue
        with pa.OSFile(str(part.path)) as file, pa.ipc.open_file(file) as reader:
            for place in hits:
                batch = reader.get_batch(place)
                first, last = ranges[place]
                if first < low or last > high:
                    inside = pc.and_(
                        pc.greater_equal(batch["order"], pa.scalar(low, pa.uint64())),
                        pc.less_equal(batch["order"], pa.scalar(high, pa.uint64())),
                    )
                    batch = batch.filter(inside)
                yield pa.Table.from_batches([batch])


def write_partition(task: PartitionTask) -> dict[str, Any]:
    """The ordered rows without duplicates, of which the one that was read first stays."""
    if task.summary_path.exists():
        done: dict[str, Any] = json.loads(task.summary_path.read_text())
        return done
    rows = pa.concat_tables([PART_SCHEMA.empty_table(), *_slices(task)])
    high, low = (rows[key].to_numpy() for key in ("order", "order_low"))
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    repeated = np.zeros(len(order), bool)
    repeated[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    if task.keep_dropped:
        dropped = rows.select(DROPPED_SCHEMA.names[:-1]).take(pa.array(order[repeated]))
        with replacing(task.dropped_path) as path:
            reasons = pa.repeat(pa.scalar("duplicate"), len(dropped))
            pa.parquet.write_table(dropped.append_column("reason", reasons), path, compression="zstd")
    rows = rows.take(pa.array(order[~repeated]))
    with replacing(task.keys_path) as path, path.open("wb") as file:
        np.save(file, np.stack([rows[key].to_numpy() for key in KEYS]))
    with replacing(task.path) as path, pa.ipc.new_file(str(path), PART_SCHEMA, options=LZ4) as writer:
        writer.write_table(rows, max_chunksize=16_384)
    summary = {"kept": len(rows), "duplicates": int(repeated.sum())}
    write_json(task.summary_path, summary)
    return summary


def read_partition(task: PartitionTask, columns: list[str] | None = None) -> pa.Table:
    """The rows of one range, in order."""
    with pa.OSFile(str(task.path)) as file, pa.ipc.open_file(file) as reader:
        table = reader.read_all()
    return table if columns is None else table.select(columns)


def gather_keys(tasks: list[PartitionTask], folder: Path) -> dict[str, Path]:
    """One array on disk for each key, over all rows in order."""
    paths = {key: folder / f"{key}.npy" for key in KEYS}
    if all(path.exists() for path in paths.values()):
        return paths
    num_rows = sum(np.load(task.keys_path, mmap_mode="r").shape[1] for task in tasks)
    for row, path in enumerate(paths.values()):
        with replacing(path) as temporary:
            keys = np.lib.format.open_memmap(temporary, "w+", np.uint64, (num_rows,))
            start = 0
            for task in tasks:
                values = np.load(task.keys_path, mmap_mode="r")[row]
                keys[start : start + len(values)] = values
                start += len(values)
            keys.flush()
    return paths
