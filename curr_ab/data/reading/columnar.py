"""Parquet and Arrow files as tables; a damaged one is an error that names it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet

from curr_ab.data.reading.sources import MalformedSource
from curr_ab.data.reading.streams import open_seekable
from curr_ab.data.reading.table import BATCH_ROWS, SOURCE_NAME, Read, Table, typed_table

_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
ARROW_FILE, ARROW_STREAM = b"ARROW1", b"\xff\xff\xff\xff"


def open_parquet(path: str, source: str) -> Table:
    """Open a Parquet file; `source` is its name in errors."""
    try:
        file = pyarrow.parquet.ParquetFile(open_seekable(path), page_checksum_verification=True)
    except _DAMAGE as error:
        raise MalformedSource(source, f"the Parquet file is damaged or cut off ({error})") from error
    source = (file.schema_arrow.metadata or {}).get(SOURCE_NAME, source.encode()).decode()
    return _table(
        source, "Parquet", file.schema_arrow, lambda names: file.iter_batches(BATCH_ROWS, columns=list(names))
    )


def open_arrow(source: str, *, stream: bool) -> Table:
    """Open an Arrow file, which Feather is too, or a stream of record batches in a file."""
    try:
        file = open_seekable(source)
        schema = (pa.ipc.open_stream(file) if stream else pa.ipc.open_file(file)).schema
    except _DAMAGE as error:
        raise MalformedSource(source, f"the Arrow file is damaged or cut off ({error})") from error

    def batches(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if stream:
            yield from pa.ipc.open_stream(open_seekable(source))
            return
        options = pa.ipc.IpcReadOptions(included_fields=[schema.names.index(name) for name in names])
        reader = pa.ipc.open_file(open_seekable(source), options=options)
        yield from (reader.get_batch(index) for index in range(reader.num_record_batches))

    return _table(source, "Arrow", schema, batches)


def _table(source: str, form: str, schema: pa.Schema, batches: Read) -> Table:
    table = typed_table(source, form, schema.names, batches, schema)

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from table.read(names)
        except _DAMAGE as error:
            raise MalformedSource(source, f"the {form} file is damaged ({error})") from error

    return replace(table, read=read)
