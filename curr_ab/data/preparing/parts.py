"""One source cleaned and hashed: a part file in runs sorted by hash, and a summary of what was dropped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from curr_ab.data.preparing.clean import drop_reasons
from curr_ab.data.preparing.plan import CleaningLimits
from curr_ab.data.reading.column_names import Chains, ColumnNames
from curr_ab.data.reading.pairs import builtin_path, read_source
from curr_ab.data.reading.sources import BUILTIN, MalformedSource
from curr_ab.data.schema import ANNOTATIONS, PAIR_SCHEMA
from curr_ab.data.tokens import encode_pairs
from curr_ab.files import replacing, write_json

_RUN_ROWS = 32_768  # rows in memory while they are sorted
# The 128 bits of `order` and `order_low` name the pair: duplicates are equal in them, and the data set has
# their order. They depend on the seed and on the residues, not on where a record was read.
KEYS = ("order", "order_low", "sequence_key", "id_key")
PART_SCHEMA = pa.schema([*PAIR_SCHEMA, *((key, pa.uint64()) for key in KEYS)])
DROPPED_SCHEMA = pa.schema(
    [PAIR_SCHEMA.field(name) for name in ("source", "record", "id", "heavy", "light")]
    + [("reason", pa.string())]
)
BUCKET_BITS = 6  # of the hash: a part holds each of its runs in 64 ranges
LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def part_path(folder: Path, number: int) -> Path:
    """Where the cleaned rows of a source lie."""
    return folder / f"{number:06d}.arrow"


@dataclass(frozen=True)
class PartTask:
    """One source and what to do with it."""

    number: int
    source: str
    names: ColumnNames
    chains: Chains
    limits: CleaningLimits
    seed: int
    folder: Path
    keep_going: bool
    keep_dropped: bool

    @property
    def path(self) -> Path:
        return part_path(self.folder, self.number)

    @property
    def summary_path(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def dropped_path(self) -> Path:
        return self.path.with_suffix(".dropped.parquet")

    def identity(self) -> list[Any]:
        """What tells that the source is still the file that was read."""
        path = Path(builtin_path() if self.source == BUILTIN else self.source)
        stat = path.stat() if path.exists() else None
        return [self.source, stat.st_size if stat else 0, stat.st_mtime_ns if stat else 0]


def _text_keys(column: pa.Array) -> npt.NDArray[np.uint64]:
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in column.to_pylist())
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _with_keys(rows: pa.Table, seed: int) -> pa.Table:
    """The rows with their keys, sorted by the pair's hash; equal ones stay in the order of reading."""
    heavy, light = (rows[chain].combine_chunks() for chain in ("heavy", "light"))
    tokens, offsets = encode_pairs(heavy, light)
    view, key = memoryview(tokens.tobytes()), seed.to_bytes(8, "big", signed=True)
    digests = (blake2b(view[a:b], digest_size=16, key=key).digest() for a, b in pairwise(offsets.tolist()))
    order = np.frombuffer(b"".join(digests), ">u8").astype(np.uint64).reshape(-1, 2)
    keys = [order[:, 0], order[:, 1], _text_keys(pc.coalesce(heavy, light)), _text_keys(rows["id"])]
    for name, values in zip(KEYS, keys, strict=True):
        rows = rows.append_column(name, pa.array(values))
    return rows.take(pa.array(np.argsort(order[:, 0], kind="stable")))


def _runs(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(one.num_rows for one in held) >= _RUN_ROWS:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _kept(
    task: PartTask, drops: Counter[str], dropped: pa.parquet.ParquetWriter | None
) -> Iterator[pa.RecordBatch]:
    for batch in read_source(task.source, task.names, task.chains):
        reasons = drop_reasons(batch, task.limits, paired=task.chains == "paired")
        batch = batch.select(PAIR_SCHEMA.names)
        drops.update(reason.as_py() for reason in pc.drop_null(reasons))
        if dropped is not None and reasons.null_count < len(reasons):
            bad = batch.append_column("reason", reasons).filter(reasons.is_valid())
            dropped.write_batch(bad.select(DROPPED_SCHEMA.names))
        yield batch.filter(reasons.is_null())


def _write(task: PartTask, path: Path, dropped: pa.parquet.ParquetWriter | None) -> dict[str, Any]:
    drops: Counter[str] = Counter()
    annotated: Counter[str] = Counter()
    kept = 0
    with pa.ipc.new_file(str(path), PART_SCHEMA, options=LZ4) as writer:
        for run in _runs(_kept(task, drops, dropped)):
            annotated.update({name: len(run) - run[name].null_count for name in ANNOTATIONS})
            kept += len(run)
            write_ranges(writer, _with_keys(run, task.seed).cast(PART_SCHEMA), BUCKET_BITS)
    return {"kept": kept, "drops": dict(drops), "annotated": dict(annotated), "set_aside": None}


def write_part(task: PartTask) -> dict[str, Any]:
    """The summary of the part, from disk where an earlier run finished it and the source has not changed."""
    identity = task.identity()
    if task.summary_path.exists():
        done: dict[str, Any] = json.loads(task.summary_path.read_text())
        if done["identity"] == identity and (task.keep_going or done["set_aside"] is None):
            return done
    try:
        with (
            replacing(task.path) as path,
            replacing(task.dropped_path) as dropped_path,
            pa.parquet.ParquetWriter(dropped_path, DROPPED_SCHEMA, compression="zstd") as dropped,
        ):
            summary = _write(task, path, dropped if task.keep_dropped else None)
    except MalformedSource as error:
        if not task.keep_going:
            raise
        for earlier in (task.path, task.dropped_path):  # of the source before it changed
            earlier.unlink(missing_ok=True)
        summary = {"kept": 0, "drops": {}, "annotated": {}, "set_aside": str(error)}
    summary |= {"source": task.source, "identity": identity}
    write_json(task.summary_path, summary)
    return summary


def write_ranges(writer: pa.RecordBatchWriter, rows: pa.Table, bits: int, first_bit: int = 0) -> None:
    """One run, sorted by hash and equal in its first bits, as a batch for each value of the next ones."""
    places = rows["order"].to_numpy() >> np.uint64(64 - first_bit - bits)
    places &= np.uint64((1 << bits) - 1)
    cuts = np.searchsorted(places, np.arange((1 << bits) + 1, dtype=np.uint64))
    whole = rows.combine_chunks()
    for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        batches = whole.slice(start, stop - start).to_batches()
        writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=rows.schema))


def read_ranges(path: Path, bits: int, first: int, last: int) -> Iterator[pa.Table]:
    """The ranges from `first` to before `last` of every run, in the order of writing."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        for run in range(0, reader.num_record_batches, 1 << bits):
            for place in range(run + first, run + last):
                batch = reader.get_batch(place)
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])
