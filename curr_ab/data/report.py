"""Report on the records of an input: a row for each with what became of it, to join with the user's table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from curr_ab.files import replacing
from curr_ab.formulas import guard_fields
from curr_ab.options import OptionError

_BATCH = 16_384
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# In a prepared folder: the dropped records; what was done to the others, and rows that are no record.
DROPPED_NAME, NOTES_NAME = "dropped.parquet", "notes.parquet"
KEPT, DROPPED, DUPLICATE, JOINED = "kept", "dropped", "duplicate", "joined"


class Outcome(NamedTuple):
    """One row of a report."""

    source: str  # file or object
    record: int  # its number there, from 1
    id: str
    outcome: str  # kept, dropped, duplicate, or joined with another record
    note: str | None  # the reason, the other record, or what was done to it, such as a cut


SCHEMA = pa.schema([(name, pa.int64() if name == "record" else pa.string()) for name in Outcome._fields])


def outcomes(columns: Mapping[str, Any] | pa.Table, outcome: str, note: Any) -> pa.RecordBatch:
    """Rows of a report on records that came out alike, from columns with their source, record and id."""
    num_rows = len(columns["record"])
    note = pa.repeat(pa.scalar(note), num_rows) if isinstance(note, str) else note
    names = [columns[name] for name in ("source", "record", "id")]
    of_all = [*names, pa.repeat(pa.scalar(outcome), num_rows), note]
    return pa.table(of_all, SCHEMA).combine_chunks().to_batches()[0]


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
        yield pa.RecordBatch.from_pylist([one._asdict() for one in block], SCHEMA)


def write_preparation_report(path: Path, folder: Path) -> None:
    """Write a row for each row of the sources, whether it went into the prepared folder or not."""
    names = ["source", "record", "id"]
    files = sorted(folder.glob("*-[0-9]*.parquet"))
    kept = pa.concat_tables([pyarrow.parquet.read_table(file, columns=names) for file in files])
    kept = kept.append_column("outcome", pa.repeat(pa.scalar(KEPT), len(kept)))
    dropped = pyarrow.parquet.read_table(folder / DROPPED_NAME, columns=[*names, "reason"])
    dropped = dropped.rename_columns([*names, "note"])
    outcome = pc.if_else(pc.equal(dropped["note"], DUPLICATE), DUPLICATE, DROPPED)
    tables = [dropped.append_column("outcome", outcome)]
    notes = pyarrow.parquet.read_table(folder / NOTES_NAME)
    is_kept = pc.equal(notes["outcome"], KEPT)
    tables.append(notes.filter(pc.invert(is_kept)))
    keys = names[:2]
    done = notes.filter(is_kept).group_by(keys, use_threads=False).aggregate([("note", "first")])
    kept = kept.join(done.select([*keys, "note_first"]).rename_columns([*keys, "note"]), keys)
    rows = pa.concat_tables([kept, *tables], promote_options="default")
    rows = rows.sort_by([("source", "ascending"), ("record", "ascending")]).select(SCHEMA.names).cast(SCHEMA)
    _write_batches(path, rows.to_batches(_BATCH))


def _write_batches(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    with replacing(path) as temporary, _writer(temporary, path.suffix) as writer:
        for batch in batches:
            writer.write_table(
                guard_fields(pa.table(batch)) if path.suffix in _DELIMITERS else pa.table(batch)
            )


def _writer(path: Path, suffix: str) -> Any:
    if suffix == ".parquet":
        return pa.parquet.ParquetWriter(path, SCHEMA, compression="zstd")
    options = pyarrow.csv.WriteOptions(delimiter=_DELIMITERS[suffix], quoting_style="needed")
    return pyarrow.csv.CSVWriter(path, SCHEMA, write_options=options)
