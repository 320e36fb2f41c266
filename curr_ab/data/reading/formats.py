"""Formats of sources, recognised by content: each is opened as a table."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

from curr_ab.data.reading.columnar import ARROW_FILE, ARROW_STREAM, open_arrow, open_parquet
from curr_ab.data.reading.delimited import open_delimited
from curr_ab.data.reading.fasta import open_fasta
from curr_ab.data.reading.json_records import is_json, open_json
from curr_ab.data.reading.remote import RemoteFile
from curr_ab.data.reading.sources import BUILTIN, MalformedSource
from curr_ab.data.reading.streams import read_head, refuse_documents
from curr_ab.data.reading.table import Table

# A zip archive that is a document itself, and the older Excel.
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def builtin_path() -> str:
    """Path of the built-in corpus in this installation."""
    return str(files("curr_ab.data") / "builtin.parquet")


def open_table(source: str | Table, sheet: str | None = None) -> Table:
    """Open a source, whose format is recognised by its content; `sheet` is that of a workbook."""
    if isinstance(source, Table):  # an object's
        return source
    if isinstance(source, RemoteFile):
        # Only what reads the table holds the copy: it goes when the table does.
        table = _open_file(source.copied(), sheet)
        return replace(table, source=str(table.source))
    return _open_file(source, sheet)


def _open_file(source: str, sheet: str | None) -> Table:
    if source == BUILTIN:
        return open_parquet(builtin_path(), source)
    head = read_head(source)
    if head.startswith(_WORKBOOKS):
        from curr_ab.data.reading.excel import open_workbook

        return open_workbook(source, sheet)
    if sheet is not None:
        raise MalformedSource(
            source, "a sheet can be named of a workbook alone; leave it out", fields=("sheet",)
        )
    if head.startswith(b"PAR1"):
        return open_parquet(source, source)
    if head.startswith((ARROW_FILE, ARROW_STREAM)):
        return open_arrow(source, stream=head.startswith(ARROW_STREAM))
    refuse_documents(source, head)
    if head.lstrip().startswith(b">"):
        return open_fasta(source)
    if is_json(head):
        return open_json(source)
    return open_delimited(source, head)
