"""The parts of all sources merged into the order of their hashes; exact duplicates meet there and go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curr_ab.data.preparing.parts import (
    BUCKET_BITS,
    DROPPED_SCHEMA,
    KEYS,
    LZ4,
    PART_SCHEMA,
    part_path,
    read_ranges,
    write_ranges,
)
from curr_ab.files import replacing, write_json, write_parquet

ROWS_PER_PARTITION = 65_536  # about as many are held in memory while they are sorted


@dataclass(frozen=True)
class PartitionTask:
    """One of 2 ** `bits` ranges of the hash, over all parts; their number does not change the result."""

    number: int
    bits: int
    parts: Path
    num_parts: int
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

    def bucket_path(self, bucket: int) -> Path:
        return self.folder / f"bucket{bucket:02d}.arrow"


def partition_bits(num_rows: int) -> int:
    """Ranges enough for each to fit into memory, the hash being uniform."""
    return max(0, (num_rows // ROWS_PER_PARTITION).bit_length())


def _of_parts(task: PartitionTask, first: int, last: int) -> Iterator[pa.Table]:
    for number in range(task.num_parts):
        path = part_path(task.parts, number)
        if path.exists():  # a source that was set aside has none
            yield from read_ranges(path, BUCKET_BITS, first, last)


def spread_bucket(task: PartitionTask) -> None:
    """The rows of one of the parts' buckets, which do not fit into memory, cut into finer ranges.

    Only large data has more ranges than the parts have buckets. Without this step each of them would have to
    read the whole bucket in every part.
    """
    finer = task.bits - BUCKET_BITS
    bucket = task.number >> finer
    path = task.bucket_path(bucket)
    if path.exists():
        return
    held: list[pa.Table] = []
    with replacing(path) as temporary, pa.ipc.new_file(str(temporary), PART_SCHEMA, options=LZ4) as writer:

        def flush() -> None:
            rows = pa.concat_tables([PART_SCHEMA.empty_table(), *held])
            rows = rows.take(pa.array(np.argsort(rows["order"].to_numpy(), kind="stable")))
            write_ranges(writer, rows, finer, BUCKET_BITS)
            held.clear()

        for rows in _of_parts(task, bucket, bucket + 1):
            held.append(rows)
            if sum(map(len, held)) >= ROWS_PER_PARTITION:
                flush()
        flush()


def _slices(task: PartitionTask) -> Iterator[pa.Table]:
    """This range's rows, those of equal hash in the order of the sources."""
    if task.bits <= BUCKET_BITS:
        width = 1 << (BUCKET_BITS - task.bits)
        return _of_parts(task, task.number * width, (task.number + 1) * width)
    finer = task.bits - BUCKET_BITS
    place = task.number & ((1 << finer) - 1)
    return read_ranges(task.bucket_path(task.number >> finer), finer, place, place + 1)


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
        reasons = pa.repeat(pa.scalar("duplicate"), len(dropped))
        write_parquet(task.dropped_path, dropped.append_column("reason", reasons))
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
