"""Parts: the cleaned rows of each source with their hashes, sorted block by block, and a count of drops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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
from curr_ab.data.preparing.genes import fill_genes, read_v_genes
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.data.reading.formats import builtin_path
from curr_ab.data.reading.pairs import read_source
from curr_ab.data.reading.remote import RemoteFile, here
from curr_ab.data.reading.sources import BUILTIN, MalformedSource, locate
from curr_ab.data.reading.table import Recognised
from curr_ab.data.report import KEPT, SCHEMA, outcomes
from curr_ab.data.schema import ANNOTATIONS, PAIR_SCHEMA
from curr_ab.data.tokens import encode_pairs
from curr_ab.files import file_digest, read_object, replacing, write_json

_BLOCK_ROWS = 32_768  # of a part: sorted in memory at once
# `order` and `order_low` are a hash of the pair, of 128 bits: duplicates are equal in it, and it orders the
# data set. It depends on the seed and on the residues, not on where a record was read.
KEYS = ("order", "order_low", "sequence_key")
PART_SCHEMA = pa.schema([*PAIR_SCHEMA, *((key, pa.uint64()) for key in KEYS)])
DROPPED_SCHEMA = pa.schema(
    [PAIR_SCHEMA.field(name) for name in ("source", "record", "id", "heavy", "light")]
    + [("reason", pa.string())]
)
# The summary of a source that was set aside.
_NOTHING = {"kept": 0, "drops": {}, "annotated": {}, "recognised": [], "v_genes": 0}
BUCKET_BITS = 6  # of the hash: each block of a part is written in 64 buckets
# Without Arrow's threads: for batches of 200 rows they cost more processor time than the work itself.
LZ4 = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
UNTHREADED = pa.ipc.IpcReadOptions(use_threads=False)


def part_path(folder: Path, index: int) -> Path:
    """Path of the cleaned rows of a source."""
    return folder / f"{index:06d}.arrow"


@dataclass(frozen=True, kw_only=True)
class FileTask:
    """Task that leaves a file of rows, a summary and, on request, the dropped rows."""

    index: int
    folder: Path
    keep_dropped: bool

    @property
    def path(self) -> Path:
        return part_path(self.folder, self.index)

    @property
    def summary_path(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def dropped_path(self) -> Path:
        return self.path.with_suffix(".dropped.parquet")


def _path(source: str) -> Path:
    return Path(builtin_path() if source == BUILTIN else locate(source)[0])


def source_identity(source: str) -> list[Any]:
    """Name, size and time of a source, by which a change since an earlier run is noticed."""
    if isinstance(source, RemoteFile):
        return source.identity()
    path = _path(source)
    stat = path.stat() if path.exists() else None
    return [source, stat.st_size if stat else 0, stat.st_mtime_ns if stat else 0]


def source_digest(source: str) -> str | None:
    """SHA-256 of a source, which tells a change from a copy; None for one that is not here."""
    path = _path(source)
    return file_digest(path) if path.exists() else None


@dataclass(frozen=True, kw_only=True)
class PartTask(FileTask):
    """Source to clean."""

    source: tuple[str, ...]  # one file, or several that are a sample
    plan: PreparationPlan
    keep_going: bool
    keep_notes: bool = False

    def identity(self) -> list[list[Any]]:
        return [source_identity(source) for source in self.source]

    @property
    def notes_path(self) -> Path:
        return self.path.with_suffix(".notes.parquet")

    @property
    def scratch(self) -> Path:
        """Folder of the files that reading needs on the way."""
        return self.folder.with_name("scratch")


def _digests(texts: Iterable[bytes | memoryview], size: int, key: bytes = b"") -> npt.NDArray[np.uint64]:
    """Digests of so many bytes as numbers, end to end."""
    empty = blake2b(digest_size=size, key=key)  # copied, for a new one takes half as long again

    def digest(text: bytes | memoryview) -> bytes:
        one = empty.copy()
        one.update(text)
        return one.digest()

    return np.frombuffer(b"".join(map(digest, texts)), ">u8").astype(np.uint64)


def _with_keys(rows: pa.Table, seed: int) -> pa.Table:
    """The rows with their keys, sorted by the pair's hash; equal ones stay in the order of the source."""
    heavy, light = (rows[chain].combine_chunks() for chain in ("heavy", "light"))
    tokens, offsets = encode_pairs(heavy, light)
    view, key = tokens.data, seed.to_bytes(8, "big", signed=True)
    of_pairs = (view[start:end] for start, end in pairwise(offsets.tolist()))
    order = _digests(of_pairs, 16, key).reshape(-1, 2)
    sequence_keys = _digests(pc.coalesce(heavy, light).cast(pa.binary()).to_pylist(), 8)
    keys = [order[:, 0], order[:, 1], sequence_keys]
    for name, values in zip(KEYS, keys, strict=True):
        rows = rows.append_column(name, pa.array(values))
    return rows.take(pa.array(np.argsort(order[:, 0], kind="stable")))


def joined(tables: Iterable[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """The tables as blocks of so many rows and a few more."""
    block: list[pa.Table] = []
    for table in tables:
        block.append(table)
        if sum(map(len, block)) >= num_rows:
            yield pa.concat_tables(block)
            block = []
    if block:
        yield pa.concat_tables(block)


def _kept(
    task: PartTask,
    drops: Counter[str],
    dropped: pa.parquet.ParquetWriter | None,
    notes: pa.parquet.ParquetWriter | None,
    recognised: list[Recognised],
) -> Iterator[pa.Table]:
    """Usable records of the source; the others are counted in `drops`, and written to `dropped`.

    What was done to usable ones, and what became of rows that are no record, is written to `notes`.
    """
    batches = read_source(
        task.source,
        task.plan.names,
        task.plan.chains,
        annotate=task.plan.annotate,
        recognised=recognised,
        scratch=task.scratch,
        aside=notes and notes.write_batch,
    )
    for batch in batches:
        reasons = drop_reasons(batch, task.plan.limits, paired=task.plan.chains == "paired")
        if notes is not None:
            noted = batch.filter(pc.and_(reasons.is_null(), batch["note"].is_valid()))
            if noted.num_rows:
                notes.write_batch(outcomes(noted, KEPT, noted["note"]))
        batch = batch.select(PAIR_SCHEMA.names)
        drops.update(pc.drop_null(reasons).to_pylist())
        if reasons.null_count < len(reasons):
            if dropped is not None:
                bad = batch.append_column("reason", reasons).filter(reasons.is_valid())
                dropped.write_batch(bad.select(DROPPED_SCHEMA.names))
            batch = batch.filter(reasons.is_null())
        yield pa.Table.from_batches([batch])


def _write(task: PartTask) -> dict[str, Any]:
    drops: Counter[str] = Counter()
    annotated: Counter[str] = Counter()
    recognised: list[Recognised] = []
    kept = num_genes = 0
    with (
        replacing(task.path) as path,
        _rows_aside(task.dropped_path, DROPPED_SCHEMA, wanted=task.keep_dropped) as dropped,
        _rows_aside(task.notes_path, SCHEMA, wanted=task.keep_notes) as notes,
        pa.ipc.new_file(str(path), PART_SCHEMA, options=LZ4) as writer,
    ):
        for block in joined(_kept(task, drops, dropped, notes, recognised), _BLOCK_ROWS):
            if task.plan.v_genes is not None:
                block, num_filled = fill_genes(block, read_v_genes(task.plan.v_genes))
                num_genes += num_filled
            annotated.update({name: len(block) - block[name].null_count for name in ANNOTATIONS})
            kept += len(block)
            write_buckets(writer, _with_keys(block, task.plan.seed).cast(PART_SCHEMA), BUCKET_BITS)
    return {
        "kept": kept,
        "drops": dict(drops),
        "annotated": dict(annotated),
        "recognised": [asdict(one) for one in recognised],
        "v_genes": num_genes,
        "set_aside": None,
    }


@contextmanager
def _rows_aside(path: Path, schema: pa.Schema, *, wanted: bool) -> Iterator[pa.parquet.ParquetWriter | None]:
    """A table of rows beside the part, which appears whole; none where nobody wants it."""
    if not wanted:
        yield None
        return
    with (
        replacing(path) as temporary,
        pa.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        yield writer


def write_part(task: PartTask) -> dict[str, Any]:
    """Write the part, unless an earlier run did from the same source; return its summary."""
    identity = task.identity()
    if task.summary_path.exists():
        done = read_object(task.summary_path)
        if isinstance(done["source"], str):  # of the time when a part was of one file and kept less of it
            digests = [source_digest(done["source"])]
            done |= {"source": [done["source"]], "identity": [done["identity"]], "sha256": digests}
            done |= {"recognised": []}
        if done["identity"] == identity and (task.keep_going or done["set_aside"] is None):
            return done
    task = replace(task, source=tuple(here(source, task.scratch) for source in task.source))
    try:
        summary = _write(task)
    except MalformedSource as error:
        if not task.keep_going:
            raise
        for earlier in (task.path, task.dropped_path, task.notes_path):  # of the source before it changed
            earlier.unlink(missing_ok=True)
        summary = {**_NOTHING, "set_aside": str(error)}
    digests = [source_digest(source) for source in task.source]
    if task.identity() != identity:
        raise ValueError(
            f"{', '.join(task.source)} changed while it was read; run the same command again when it is whole"
        )
    summary |= {"source": task.source, "identity": identity, "sha256": digests}
    write_json(task.summary_path, summary)
    return summary


def write_buckets(writer: pa.RecordBatchWriter, rows: pa.Table, bits: int, first_bit: int = 0) -> None:
    """Write a block, sorted by hash, as a batch for each value of the `bits` that follow `first_bit`."""
    buckets = rows["order"].to_numpy() >> np.uint64(64 - first_bit - bits)
    buckets &= np.uint64((1 << bits) - 1)
    cuts = np.searchsorted(buckets, np.arange((1 << bits) + 1, dtype=np.uint64))
    batches = rows.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=rows.schema)]
    for start, stop in pairwise(cuts.tolist()):
        writer.write_batch(batches[0].slice(start, stop - start))


def read_buckets(path: Path, *, bits: int, first: int, end: int) -> Iterator[pa.Table]:
    """Buckets `first` to before `end` of every block, in the order of writing."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file, options=UNTHREADED) as reader:
        for block in range(0, reader.num_record_batches, 1 << bits):
            for index in range(block + first, block + end):
                batch = reader.get_batch(index)
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])
