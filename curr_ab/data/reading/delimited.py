"""CSV and TSV as a stream of record batches, with the metadata line of OAS; errors name file and line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv

from curr_ab.data.reading.sources import MalformedSource, damaged, open_stream, read_head
from curr_ab.data.reading.table import Table

_BLOCK_BYTES = 8 << 20
_ROW = re.compile(r"Row #(\d+): ?")
_ROW_OF = re.compile(r"^.*(?=Expected \d+ columns)", re.DOTALL)


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


def open_delimited(path: str) -> Table:
    """Open a text table: its header, and the line of metadata above it where there is one."""
    lines, line_number = _first_lines(path)
    metadata: dict[str, Any] = {}
    if line_number == 2:
        metadata = _metadata(path, _decode(path, lines[0], 1))
        if not b"".join(lines[1:2]).strip():
            raise MalformedSource(path, "the header is missing after the metadata line", 2)
    delimiter, names = _split(_decode(path, lines[line_number - 1], line_number))

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return _read(path, delimiter, names, line_number, wanted)

    form = {"\t": "TSV"}.get(delimiter, "CSV")
    return Table(path, form, names, read, metadata, line_number)


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


def _read(
    path: str, delimiter: str, names: Sequence[str], num_lines: int, wanted: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Read the columns that are wanted as text; `num_lines` stand above the records."""
    labels = [f"column{index}" for index in range(len(names))]  # names may repeat, these do not
    needed = {name: labels[names.index(name)] for name in wanted}
    with open_stream(path) as stream:
        try:
            reader = pyarrow.csv.open_csv(
                stream,
                pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK_BYTES,
                    column_names=labels,
                    skip_rows=num_lines,
                ),
                pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                pyarrow.csv.ConvertOptions(
                    include_columns=list(needed.values()),
                    column_types=dict.fromkeys(needed.values(), pa.string()),
                    strings_can_be_null=True,
                    null_values=["", "NA", "None", "null", "nan", "NaN"],
                ),
            )
            for batch in reader:
                yield pa.record_batch({name: batch[label] for name, label in needed.items()})
        except pa.ArrowInvalid as error:
            # Arrow says this of a table that ends with its header, with or without a newline.
            if not str(error).startswith(("Empty CSV file", "Could not skip initial")):
                raise _failure(path, error) from error
        except OSError as error:
            raise damaged(path, error) from error
