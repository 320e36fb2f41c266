"""Order of all rows by hash, an external sort of the parts into partitions that drops exact duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.preparing.components import new_array
from curr_ab.data.preparing.parts import (
    BUCKET_BITS,
    DROPPED_SCHEMA,
    KEYS,
    LZ4,
    PART_SCHEMA,
    FileTask,
    joined,
    part_path,
    read_buckets,
    write_buckets,
)
from curr_ab.files import read_object, replacing, write_json, write_parquet

ROWS_PER_PARTITION = 65_536  # about as many are in memory while they are sorted


@dataclass(frozen=True, kw_only=True)
class PartitionTask(FileTask):
    """Partition to write, one of 2 ** `bits`; their number does not change the result."""

    bits: int
    parts: Path
    num_parts: int
    keep_donors: bool = False  # of the duplicates too

    @property
    def donors_path(self) -> Path:
        return self.path.with_suffix(".donors.arrow")

    def bucket_path(self, bucket: int) -> Path:
        return self.folder / f"bucket{bucket:02d}.arrow"


def partition_bits(num_rows: int) -> int:
    """Bits that make partitions small enough for memory, as the hash is uniform."""
    return max(0, (num_rows // ROWS_PER_PARTITION).bit_length())


def _read_parts(task: PartitionTask, first: int, end: int) -> Iterator[pa.Table]:
    """Buckets `first` to before `end` of all parts."""
    for index in range(task.num_parts):
        path = part_path(task.parts, index)
        if path.exists():  # a source that was set aside has none
            yield from read_buckets(path, bits=BUCKET_BITS, first=first, end=end)


def spread_bucket(task: PartitionTask) -> None:
    """Cut a bucket of all parts, which does not fit into memory, into one bucket for each partition.

    Only large data has more partitions than a part has buckets. Without this step each partition would have
    to read the whole bucket in every part.
    """
    finer = task.bits - BUCKET_BITS
    bucket = task.index >> finer
    path = task.bucket_path(bucket)
    if path.exists():
        return
    with replacing(path) as temporary, pa.ipc.new_file(str(temporary), PART_SCHEMA, options=LZ4) as writer:
        for rows in joined(_read_parts(task, bucket, bucket + 1), ROWS_PER_PARTITION):
            rows = rows.take(pa.array(np.argsort(rows["order"].to_numpy(), kind="stable")))
            write_buckets(writer, rows, finer, BUCKET_BITS)


def _read_unsorted(task: PartitionTask) -> Iterator[pa.Table]:
    """Rows of the partition, those of equal hash in the order of the sources."""
    if task.bits <= BUCKET_BITS:
        width = 1 << (BUCKET_BITS - task.bits)
        return _read_parts(task, task.index * width, (task.index + 1) * width)
    finer = task.bits - BUCKET_BITS
    index = task.index & ((1 << finer) - 1)
    return read_buckets(task.bucket_path(task.index >> finer), bits=finer, first=index, end=index + 1)


def write_partition(task: PartitionTask) -> dict[str, Any]:
    """Write the rows in order without duplicates, of which the one that was read first is kept."""
    if task.summary_path.exists():
        return read_object(task.summary_path)
    rows = pa.concat_tables([PART_SCHEMA.empty_table(), *_read_unsorted(task)]).combine_chunks()
    high, low = (rows[key].to_numpy() for key in ("order", "order_low"))
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    repeated = np.zeros(len(order), bool)
    repeated[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    if task.keep_dropped:
        dropped = rows.select(DROPPED_SCHEMA.names[:-1]).take(pa.array(order[repeated]))
        reasons = pa.repeat(pa.scalar("duplicate"), len(dropped))
        write_parquet(task.dropped_path, dropped.append_column("reason", reasons))
    if task.keep_donors:
        row_of = np.cumsum(~repeated) - 1  # a duplicate's is that of the row that is kept
        donors = pa.table({"row": row_of, "donor": rows["donor"].take(pa.array(order))})
        donors = donors.filter(pc.greater(pc.binary_length(donors["donor"]), 0))
        with replacing(task.donors_path) as path, pa.ipc.new_file(str(path), donors.schema) as writer:
            writer.write_table(donors)
    rows = rows.take(pa.array(order[~repeated]))
    with replacing(task.path) as path, pa.ipc.new_file(str(path), PART_SCHEMA, options=LZ4) as writer:
        writer.write_table(rows, max_chunksize=16_384)
    summary = {"kept": len(rows), "duplicates": int(repeated.sum())}
    write_json(task.summary_path, summary)
    return summary


def read_partition(task: PartitionTask, columns: list[str] | None = None) -> pa.Table:
    """The rows of a partition, in order; of all columns or of these."""
    columns = PART_SCHEMA.names if columns is None else columns
    fields = [PART_SCHEMA.get_field_index(name) for name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
    with pa.OSFile(str(task.path)) as file, pa.ipc.open_file(file, options=options) as reader:
        return reader.read_all().select(columns)


def read_donors(task: PartitionTask) -> pa.Table:
    """The donors of each row that has any, its duplicates' included."""
    with pa.OSFile(str(task.donors_path)) as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()


def num_kept(task: PartitionTask) -> int:
    """Number of rows of a partition that is written."""
    return int(read_object(task.summary_path)["kept"])


def first_rows(tasks: Sequence[PartitionTask]) -> list[int]:
    """Number of the first row of each partition."""
    return list(accumulate(map(num_kept, tasks[:-1]), initial=0))


def gather_keys(tasks: list[PartitionTask], folder: Path) -> dict[str, Path]:
    """Write an array for each key, over the rows of all partitions; return their paths."""
    paths = {key: folder / f"{key}.npy" for key in KEYS if key != "order_low"}
    for key, path in paths.items():
        if not path.exists():
            with replacing(path) as temporary:
                keys = new_array(temporary, np.uint64, sum(map(num_kept, tasks)))
                for task, start in zip(tasks, first_rows(tasks), strict=True):
                    keys[start : start + num_kept(task)] = read_partition(task, [key])[key].to_numpy()
                keys.flush()
    return paths
