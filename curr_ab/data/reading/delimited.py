"""CSV and TSV as a stream of record batches, OAS metadata line included; problems name file and line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv

from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.columns import Layout, find_layout
from curr_ab.data.reading.sources import MalformedSource, damaged, open_stream, read_head

_BLOCK_BYTES = 8 << 20
_ROW = re.compile(r"Row #(\d+): ?")
_ROW_OF = re.compile(r"^.*(?=Expected \d+ columns)", re.DOTALL)


@dataclass(frozen=True)
class DelimitedHeader:
    """What stands above the records of a text table."""

    delimiter: str
    names: tuple[str, ...]
    layout: Layout
    metadata: Mapping[str, Any]  # of an OAS data unit; empty elsewhere
    num_lines: int


def _decode(path: str, line: bytes, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise MalformedSource(path, _not_utf8(line), number) from error


def _not_utf8(line: bytes) -> str:
    return f"the text is not UTF-8 ({line[:60]!r}); convert it, for example with iconv -f latin1 -t utf8"


def _metadata(path: str, line: str) -> dict[str, Any]:
    """OAS writes the JSON as one quoted CSV field; other exports write it bare."""
    for candidate in (line, next(csv.reader([line]), [""])[0]):
        try:
            metadata = json.loads(candidate)
        except json.JSONDecodeError:
            continue
        if isinstance(metadata, dict):
            return metadata
    raise MalformedSource(path, f"the metadata line is not JSON ({line[:60]!r})", 1)


def _split(line: str) -> tuple[str, tuple[str, ...]]:
    """The delimiter is the one that shows the most columns."""
    rows = {delimiter: tuple(next(csv.reader([line], delimiter=delimiter), [])) for delimiter in "\t,;"}
    delimiter = max(rows, key=lambda key: len(rows[key]))
    return delimiter, rows[delimiter]


def read_names(path: str) -> tuple[str, ...]:
    """The column names of a text table, whatever they mean."""
    first, second = (*re.split(rb"\r\n|\n|\r", read_head(path)), b"")[:2]
    has_metadata = first.lstrip().startswith((b"{", b'"{'))
    number, line = (2, second) if has_metadata else (1, first)
    return _split(_decode(path, line, number))[1]


def _layout(
    path: str, line: str, number: int, names: ColumnNames
) -> tuple[str, tuple[str, ...], Layout | None]:
    """Delimiter, column names and layout."""
    delimiter, columns = _split(line)
    try:
        return delimiter, columns, find_layout(columns, names)
    except ValueError as error:
        raise MalformedSource(path, str(error), number) from error


def read_header(path: str, names: ColumnNames) -> DelimitedHeader:
    """The header of a text table; raises where the columns do not say which chain is where."""
    lines = re.split(rb"\r\n|\n|\r", read_head(path))
    first = _decode(path, lines[0], 1)
    metadata: dict[str, Any] = {}
    number = 1
    if first.lstrip().startswith(("{", '"{')):
        metadata = _metadata(path, first)
        number = 2
        if len(lines) < 2 or not lines[1].strip():
            raise MalformedSource(path, "there is no header after the metadata line", 2)
    header = _decode(path, lines[number - 1], number)
    delimiter, columns, layout = _layout(path, header, number, names)
    if layout is None:
        if (
            number == 1
            and len(lines) > 1
            and _layout(path, lines[1].decode(errors="replace"), 2, ColumnNames())[2]
        ):
            raise MalformedSource(
                path, f"line 2 is the header, but this is not JSON metadata ({first[:60]!r})", 1
            )
        shown = ", ".join(columns[:8]) + (", ..." if len(columns) > 8 else "")
        raise MalformedSource(path, f"no sequence column is known among {shown}; name them by hand", number)
    return DelimitedHeader(delimiter, columns, layout, metadata, number)


def _failure(path: str, error: pa.ArrowInvalid) -> MalformedSource:
    """Arrow counts physical records; a second pass finds the bytes that are not UTF-8."""
    text = str(error)
    if "UTF8" in text:
        with open_stream(path) as stream:
            rest, number = b"", 0
            while block := stream.read(1 << 20):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    number += 1
                    try:
                        line.decode()
                    except UnicodeDecodeError:
                        return MalformedSource(path, _not_utf8(line), number)
            return MalformedSource(path, _not_utf8(rest), number + 1)
    row = _ROW.search(text)
    return MalformedSource(path, _ROW_OF.sub("", text)[:200], int(row.group(1)) if row else None)


def read_delimited(path: str, header: DelimitedHeader) -> Iterator[pa.RecordBatch]:
    """The columns of the layout as text, under the schema's names."""
    places = {field: header.names.index(column) for field, column in header.layout.columns.items()}
    labels = [f"column{number}" for number in range(len(header.names))]  # names may repeat, places do not
    wanted = [labels[place] for place in dict.fromkeys(places.values())]
    with open_stream(path) as stream:
        try:
            reader = pyarrow.csv.open_csv(
                stream,
                pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK_BYTES,
                    column_names=labels,
                    skip_rows=header.num_lines,
                ),
                pyarrow.csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
                pyarrow.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.string()),
                    strings_can_be_null=True,
                    null_values=["", "NA", "None", "null", "nan", "NaN"],
                ),
            )
            for batch in reader:
                yield pa.record_batch({field: batch[labels[place]] for field, place in places.items()})
        except pa.ArrowInvalid as error:
            # What Arrow says of a table that ends with its header, with or without a newline.
            if not str(error).startswith(("Empty CSV file", "Could not skip initial")):
                raise _failure(path, error) from error
        except OSError as error:
            raise damaged(path, error) from error
