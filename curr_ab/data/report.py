"""Report on the records of an input: a row for each with what became of it, to join with the user's table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from curr_ab.files import replacing
from curr_ab.options import OptionError

_BATCH = 16_384
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
KEPT, DROPPED, DUPLICATE = "kept", "dropped", "duplicate"
SCHEMA = pa.schema(
    [
        ("source", pa.string()),  # file or object
        ("record", pa.int64()),  # its number there, from 1
        ("id", pa.string()),
        ("outcome", pa.string()),  # kept, dropped or duplicate
        ("note", pa.string()),  # the reason, or what was done to it, such as a cut
    ]
)


class Outcome(NamedTuple):
    """One row of a report."""

    source: str
    record: int
    id: str
    outcome: str
    note: str | None


def check_report(path: Path | None) -> None:
    """Refuse a name that says no format."""
    if path is not None and path.suffix not in (*_DELIMITERS, ".parquet"):
        raise OptionError(f"report must end in {', '.join(_DELIMITERS)} or .parquet; got {path}", "report")


def write_report(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write the rows in the format that the file's name asks for."""
    _write_batches(path, _batches(outcomes))


def _batches(outcomes: Iterable[Outcome]) -> Iterator[pa.RecordBatch]:
    rows = iter(outcomes)
    while block := list(islice(rows, _BATCH)):
        columns = [
            pa.array(column, kind)
            for column, kind in zip(zip(*block, strict=True), SCHEMA.types, strict=True)
        ]
        yield pa.record_batch(columns, schema=SCHEMA)


def write_preparation_report(path: Path, folder: Path) -> None:
    """Write a row for each record that went into a prepared folder, or was dropped on the way."""
    kept = [
        pyarrow.parquet.read_table(file, columns=["source", "record", "id"])
        for file in sorted(folder.glob("*-[0-9]*.parquet"))
    ]
    dropped = pyarrow.parquet.read_table(
        folder / "dropped.parquet", columns=["source", "record", "id", "reason"]
    ).rename_columns(["source", "record", "id", "note"])
    outcome = pc.if_else(pc.equal(dropped["note"], DUPLICATE), DUPLICATE, DROPPED)
    rows = pa.concat_tables(
        [
            *(table.append_column("outcome", pa.repeat(pa.scalar(KEPT), len(table))) for table in kept),
            dropped.append_column("outcome", outcome),
        ],
        promote_options="default",
    )
    rows = rows.sort_by([("source", "ascending"), ("record", "ascending")]).select(SCHEMA.names).cast(SCHEMA)
    _write_batches(path, rows.to_batches(_BATCH))


def _write_batches(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    with replacing(path) as temporary, _writer(temporary, path.suffix) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _writer(path: Path, suffix: str) -> Any:
    if suffix == ".parquet":
        return pa.parquet.ParquetWriter(path, SCHEMA, compression="zstd")
    options = pyarrow.csv.WriteOptions(delimiter=_DELIMITERS[suffix], quoting_style="needed")
    return pyarrow.csv.CSVWriter(path, SCHEMA, write_options=options)
