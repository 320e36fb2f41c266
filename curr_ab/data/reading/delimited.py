"""CSV and TSV as a stream of record batches, with the metadata line of OAS; errors name file and line."""

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
from curr_ab.data.reading.sources import MalformedSource, damaged, open_stream, read_head, unknown_columns
from curr_ab.options import OptionError

_BLOCK_BYTES = 8 << 20
_ROW = re.compile(r"Row #(\d+): ?")
_ROW_OF = re.compile(r"^.*(?=Expected \d+ columns)", re.DOTALL)


@dataclass(frozen=True)
class DelimitedHeader:
    """Header of a text table: the lines above its records."""

    delimiter: str
    names: tuple[str, ...]
    layout: Layout
    metadata: Mapping[str, Any]  # of an OAS data unit; empty elsewhere
    num_lines: int


def _decode(path: str, line: bytes, line_number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise MalformedSource(path, _not_utf8(line), line_number) from error


def _not_utf8(line: bytes) -> str:
    return f"the text is not UTF-8 ({line[:60]!r}); convert it, for example with iconv -f latin1 -t utf8"


def _metadata(path: str, line: str) -> dict[str, Any]:
    """Read the metadata: OAS writes the JSON as one quoted CSV field, other exports write it bare."""
    for candidate in (line, next(csv.reader([line]), [""])[0]):
        try:
            metadata = json.loads(candidate)
        except json.JSONDecodeError:
            continue
        if isinstance(metadata, dict):
            return metadata
    raise MalformedSource(path, f"the metadata line must be JSON; got {line[:60]!r}", 1)


def _split(line: str) -> tuple[str, tuple[str, ...]]:
    """Split by the delimiter that gives the most columns, and return it with them."""
    rows = {delimiter: tuple(next(csv.reader([line], delimiter=delimiter), [])) for delimiter in "\t,;"}
    delimiter = max(rows, key=lambda key: len(rows[key]))
    return delimiter, rows[delimiter]


def _first_lines(path: str) -> tuple[list[bytes], int]:
    """The first lines, and the number of the header among them: a line of metadata may stand above it."""
    lines = re.split(rb"\r\n|\n|\r", read_head(path))
    return lines, 2 if lines[0].lstrip().startswith((b"{", b'"{')) else 1


def read_names(path: str) -> tuple[str, ...]:
    """Column names of a text table, as they stand there."""
    lines, line_number = _first_lines(path)
    return _split(_decode(path, (*lines, b"")[line_number - 1], line_number))[1]


def _layout(
    path: str, line: str, line_number: int, names: ColumnNames
) -> tuple[str, tuple[str, ...], Layout | None]:
    """Delimiter, column names and layout by a header line."""
    delimiter, columns = _split(line)
    try:
        return delimiter, columns, find_layout(columns, names)
    except OptionError as error:
        raise MalformedSource(path, str(error), line_number, error.fields) from error


def read_header(path: str, names: ColumnNames) -> DelimitedHeader:
    """Read the header of a text table; it is an error when no column is known to hold a sequence."""
    lines, line_number = _first_lines(path)
    metadata: dict[str, Any] = {}
    if line_number == 2:
        metadata = _metadata(path, _decode(path, lines[0], 1))
        if not b"".join(lines[1:2]).strip():
            raise MalformedSource(path, "the header is missing after the metadata line", 2)
    header = _decode(path, lines[line_number - 1], line_number)
    delimiter, columns, layout = _layout(path, header, line_number, names)
    if layout is None:
        second = b"".join(lines[1:2]).decode(errors="replace")
        if line_number == 1 and _layout(path, second, 2, ColumnNames())[2]:
            problem = f"a line above the header must be JSON metadata; got {header[:60]!r}"
            raise MalformedSource(path, problem, 1)
        raise unknown_columns(path, columns, line_number)
    return DelimitedHeader(delimiter, columns, layout, metadata, line_number)


def _failure(path: str, error: pa.ArrowInvalid) -> MalformedSource:
    """The error with its line: Arrow counts records, and bytes that are not UTF-8 take a second pass."""
    text = str(error)
    if "UTF8" in text:
        with open_stream(path) as stream:
            rest, line_number = b"", 0
            while block := stream.read(1 << 20):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    line_number += 1
                    try:
                        line.decode()
                    except UnicodeDecodeError:
                        return MalformedSource(path, _not_utf8(line), line_number)
            return MalformedSource(path, _not_utf8(rest), line_number + 1)
    row = _ROW.search(text)
    return MalformedSource(path, _ROW_OF.sub("", text)[:200], int(row.group(1)) if row else None)


def read_delimited(path: str, header: DelimitedHeader) -> Iterator[pa.RecordBatch]:
    """Read the columns of the layout as text, under the schema's names."""
    indices = {field: header.names.index(column) for field, column in header.layout.columns.items()}
    labels = [f"column{index}" for index in range(len(header.names))]  # names may repeat, these do not
    needed = [labels[index] for index in dict.fromkeys(indices.values())]
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
                    include_columns=needed,
                    column_types=dict.fromkeys(needed, pa.string()),
                    strings_can_be_null=True,
                    null_values=["", "NA", "None", "null", "nan", "NaN"],
                ),
            )
            for batch in reader:
                yield pa.record_batch({field: batch[labels[index]] for field, index in indices.items()})
        except pa.ArrowInvalid as error:
            # Arrow says this of a table that ends with its header, with or without a newline.
            if not str(error).startswith(("Empty CSV file", "Could not skip initial")):
                raise _failure(path, error) from error
        except OSError as error:
            raise damaged(path, error) from error
