"""Parquet and Arrow files as tables; a damaged one is an error that names it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet

from curr_ab.data.reading.sources import MalformedSource
from curr_ab.data.reading.streams import open_seekable
from curr_ab.data.reading.table import (
    BATCH_ROWS,
    SOURCE_NAME,
    Table,
    check_names,
    kinds_not_text,
    plain_batch,
)

_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
ARROW_FILE, ARROW_STREAM = b"ARROW1", b"\xff\xff\xff\xff"


def open_parquet(path: str, source: str) -> Table:
    """Open a Parquet file; `source` is its name in errors."""
    try:
        file = pyarrow.parquet.ParquetFile(open_seekable(path), page_checksum_verification=True)
    except _DAMAGE as error:
        raise MalformedSource(source, f"the Parquet file is damaged or cut off ({error})") from error
    schema = file.schema_arrow
    source = (schema.metadata or {}).get(SOURCE_NAME, source.encode()).decode()
    check_names(source, schema.names)

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(names)):
                yield plain_batch(batch, names)
        except _DAMAGE as error:
            raise MalformedSource(source, f"the Parquet file is damaged ({error})") from error

    return Table(source, "Parquet", tuple(schema.names), read, not_text=kinds_not_text(schema))


def open_arrow(source: str, *, stream: bool) -> Table:
    """Open an Arrow file, which Feather is too, or a stream of record batches in a file."""

    try:
        file = open_seekable(source)
        schema = (pa.ipc.open_stream(file) if stream else pa.ipc.open_file(file)).schema
    except _DAMAGE as error:
        raise MalformedSource(source, f"the Arrow file is damaged or cut off ({error})") from error
    check_names(source, schema.names)

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            if stream:
                found = iter(pa.ipc.open_stream(open_seekable(source)))
            else:
                options = pa.ipc.IpcReadOptions(included_fields=[schema.names.index(name) for name in names])
                reader = pa.ipc.open_file(open_seekable(source), options=options)
                found = (reader.get_batch(index) for index in range(reader.num_record_batches))
            for batch in found:
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield plain_batch(batch.slice(start, BATCH_ROWS), names)
        except _DAMAGE as error:
            raise MalformedSource(source, f"the Arrow file is damaged ({error})") from error

    return Table(source, "Arrow", tuple(schema.names), read, not_text=kinds_not_text(schema))
