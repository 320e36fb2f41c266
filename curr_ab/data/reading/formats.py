"""Formats of sources, recognised by content: text tables, Parquet, FASTA, data sets of the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files

import pyarrow as pa
import pyarrow.parquet

from curr_ab.data.reading.delimited import open_delimited
from curr_ab.data.reading.fasta import read_fasta
from curr_ab.data.reading.sources import BUILTIN, HUB_PREFIX, MalformedSource, read_head, read_hub
from curr_ab.data.reading.table import SOURCE_NAME, Table

_BATCH = 16_384


def builtin_path() -> str:
    """Path of the built-in corpus in this installation."""
    return str(files("curr_ab.data") / "builtin.parquet")


def open_table(source: str | Table) -> Table:
    """Open a source, whose format is recognised by its content."""
    if isinstance(source, Table):  # an object's
        return source
    if source.startswith(HUB_PREFIX):
        return _open_hub(source)
    path = builtin_path() if source == BUILTIN else source
    head = read_head(path)
    if head.startswith(b"PAR1"):
        return _open_parquet(path, source)
    if head.lstrip().startswith(b">"):
        return Table(
            source,
            "FASTA",
            ("id", "heavy", "light"),
            lambda names: (b.select(names) for b in read_fasta(path)),
        )
    return open_delimited(path)


def _open_hub(source: str) -> Table:
    names, _ = read_hub(source)
    return Table(
        source, "Hub data set", tuple(names), lambda names: (b.select(names) for b in read_hub(source)[1])
    )


def _open_parquet(path: str, source: str) -> Table:
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise MalformedSource(source, f"the Parquet file is damaged or cut off ({error})") from error
    source = (file.schema_arrow.metadata or {}).get(SOURCE_NAME, source.encode()).decode()

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            for batch in file.iter_batches(_BATCH, columns=list(names)):
                yield batch.select(names)
        except (pa.ArrowInvalid, OSError) as error:
            raise MalformedSource(source, f"the Parquet file is damaged ({error})") from error

    return Table(source, "Parquet", tuple(file.schema_arrow.names), read)
