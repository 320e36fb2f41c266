"""Text tables as a stream of record batches, whatever divides their columns and stands above their header."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.csv

from curr_ab.data.reading.records import BLOCK_BYTES, BadText, line_of_record, num_lines, whole_records
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.data.reading.streams import HEAD_BYTES, open_text, read_head
from curr_ab.data.reading.table import BATCH_ROWS, Table, check_names, grouped_names
from curr_ab.formulas import read_guarded, read_guarded_fields

_DELIMITERS = "\t,;|"
_BLANKS, _WHOLE_LINE = " ", "\x1f"  # runs of blanks count as one; lines are columns
_FORMS = {"\t": "TSV", ";": "CSV with semicolons", "|": "table with |", _BLANKS: "table with blanks"}
_SAMPLE_LINES = 20
_HEADER_BYTES = 64 << 20
_NEWLINE = re.compile(rb"\r\n|\n|\r")
_SEPARATOR_LINE = re.compile(rb'"?sep=.?"?[ ]*')  # Excel's own, for a CSV that it will open
_ROW = re.compile(r"Row #(\d+): ?")
_COUNTS = re.compile(r"Expected \d+ columns, got \d+")
_ROW_OF = re.compile(r"^.*(?=Expected \d+ columns)", re.DOTALL)
# Residues or nucleotides, also with blanks between them: longer than a column's name and without its letters.
_RESIDUES = re.compile(r"[A-Za-z*.\-]{40,}|[A-Za-z*](?: [A-Za-z*]){39,}")
_CHAIN = rf"(?:{_RESIDUES.pattern})"
_CHAINS = re.compile(rf"\s*{_CHAIN}(?:\s*(?:\[SEP\]|<\w+>|[|:/])+\s*{_CHAIN})*\s*")


@dataclass(frozen=True)
class _Layout:
    """Head of a text table: what divides its columns, their names, and where the records begin."""

    delimiter: str
    names: tuple[str, ...]
    header_line: int | None
    first_byte: int  # of the records
    metadata: dict[str, Any] = field(default_factory=dict)


def _decode(source: str, line: bytes, line_number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise MalformedSource(source, _not_utf8(line, error.start), line_number) from error


def _not_utf8(line: bytes, place: int) -> str:
    shown = line[max(0, place - 30) : place + 30]
    return f"the text is not UTF-8 ({shown!r}); convert it, for example with iconv -f latin1 -t utf8"


def _metadata(source: str, line: str, line_number: int) -> dict[str, Any]:
    """Read the metadata: OAS writes the JSON as one quoted CSV field, other exports write it bare."""
    for candidate in (line, *_fields(line, ",")[:1]):
        try:
            metadata = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(metadata, dict):
            return metadata
    raise MalformedSource(source, f"the metadata line must be JSON; got {line[:60]!r}", line_number)


def _fields(line: str, delimiter: str) -> list[str]:
    """Fields of a line without quotes and blanks around them."""
    if delimiter == _BLANKS:
        return [part.strip('"') for part in line.split()]
    if delimiter == _WHOLE_LINE:
        return [line]
    mark = re.escape(delimiter)
    one = rf'(?:\A|{mark})(?:[ ]*+"((?:[^"]|"")*+)"[ ]*+(?={mark}|\Z)|([^{mark}]*+))'
    return [(bare or quoted.replace('""', '"')).strip() for quoted, bare in re.findall(one, line)]


def _record_end(head: bytes, start: int) -> int | None:
    """End of the record, whose quoted fields may hold newlines; None where the head ends before."""
    for newline in _NEWLINE.finditer(head, start):
        if head.count(b'"', start, newline.start()) % 2 == 0:
            return newline.start()
        if newline.start() - start > HEAD_BYTES:
            break  # a stray quote, rather than a header of such a length
    return None


def _next_line(head: bytes, start: int) -> int:
    newline = _NEWLINE.search(head, start)
    return newline.end() if newline else len(head)


def _delimiter(source: str, header: str, sample: list[str], line: int) -> str:
    """The delimiter that divides header and records into as many columns; the most, where several do."""
    columns = {mark: len(_fields(header, mark)) for mark in (*_DELIMITERS, _BLANKS)}

    def of_records(mark: str) -> set[int]:
        return {len(_fields(record, mark)) for record in sample}

    agreed = [mark for mark in _DELIMITERS if columns[mark] > 1 and of_records(mark) <= {columns[mark]}]
    # Each field of a good table may hold as many of another sign.
    for mark in _DELIMITERS if not agreed else ():
        if columns[mark] == 1 and len(of_records(mark)) == 1 and min(of_records(mark)) > 2:
            problem = (
                f"the line above the header must be JSON, or begin with #; got {header[:60]!r}; remove it"
            )
            raise MalformedSource(source, problem, line)
    if not agreed and all(columns[mark] == 1 for mark in _DELIMITERS):
        return _BLANKS if columns[_BLANKS] > 1 and of_records(_BLANKS) <= {columns[_BLANKS]} else ","
    return max(agreed or _DELIMITERS, key=lambda mark: columns[mark])


def _is_comment(head: bytes, start: int, end: int) -> bool:
    """A line that begins with #, unless it is a header: as many columns as the records that follow it."""
    if not head.startswith(b"#", start):
        return False
    following = head[_next_line(head, end) :].lstrip(b"\r\n")
    record = following[: _next_line(following, 0)].decode(errors="replace").strip()
    line = head[start:end].decode(errors="replace")
    for mark in _DELIMITERS:
        fields = _fields(record, mark)
        if len(fields) > 1 and len(fields) == len(_fields(line, mark)):
            return not any(_RESIDUES.fullmatch(text) for text in fields)
    return True


def _is_title(line: str) -> bool:
    """A row that fills its first column alone, or none: a title above the table of a sheet."""
    fields = max((_fields(line, mark) for mark in _DELIMITERS), key=len)
    return len(fields) > 2 and not any(fields[1:])


def _is_group(names: list[str], below: list[str], sample: list[str]) -> bool:
    """A row that groups columns, above their names: `Heavy chain,,Light chain,` or a word for each column."""
    words = [name for name in below if name]
    is_above = names.count("") > 1 or len(set(names)) < len(names)
    are_values = any(re.fullmatch(rf"[\d.,]+|{_CHAIN}", word) for word in words)
    are_names = len(set(words)) < len(words) and not are_values
    records_follow = any(_RESIDUES.search(record) for record in sample[1:])
    return len(names) == len(below) and is_above and are_names and records_follow


def _lay_out(source: str, head: bytes, *, whole: bool) -> _Layout | None:
    """The head's layout; None where the header does not end in it."""
    start, line, metadata = 0, 1, dict[str, Any]()
    while start < len(head):
        newline = _NEWLINE.search(head, start)
        end = newline.start() if newline else len(head)
        text = head[start:end]
        if b"\0" in text:
            problem = f"the source must be a text table; got bytes that are no text ({text[:20]!r})"
            raise MalformedSource(source, problem, line)
        if newline is None and not whole:
            return None
        if text.lstrip().startswith((b"{", b'"{')):
            metadata = _metadata(source, _decode(source, text, line), line)
        elif text.strip() and not (
            _SEPARATOR_LINE.fullmatch(text)
            or _is_comment(head, start, end)
            or _is_title(text.decode(errors="replace"))
        ):
            break
        start, line = _next_line(head, end), line + 1
    else:
        above = "metadata line" if metadata else "comments"
        raise MalformedSource(source, f"the header is missing after the {above}", line)
    header_end = _record_end(head, start)
    if header_end is None:
        header_end = end  # the last line, or one with a stray quote
    text = head[start:header_end]
    header = _decode(source, text, line).lstrip("#")
    first_byte = _next_line(head, header_end)
    pieces = _NEWLINE.split(head[first_byte:], _SAMPLE_LINES)
    pieces = pieces[:_SAMPLE_LINES] if whole else pieces[:-1]  # without the rest and a line that is cut off
    sample = [record.decode(errors="replace") for record in pieces if record.strip()]
    if _CHAINS.fullmatch(header):
        return _Layout(_WHOLE_LINE, ("sequence",), None, start, metadata)
    delimiter = _delimiter(source, header, sample, line)
    names = list(map(read_guarded, _fields(header, delimiter)))
    if sample and _is_group(names, below := _fields(sample[0], delimiter), sample):
        names = list(grouped_names(names, below))
        line += num_lines(head[start:first_byte])
        first_byte = _next_line(head, first_byte)
    if any(_RESIDUES.fullmatch(name) for name in names):
        problem = "the header is missing: this line holds residues"
        raise MalformedSource(
            source, f"{problem}; write the names of the columns above it, such as heavy,light", line
        )
    check_names(source, names, line)
    return _Layout(delimiter, tuple(names), line, first_byte, metadata)


def open_delimited(source: str, head: bytes) -> Table:
    """Open a text table: its header, and the line of metadata above it where there is one."""
    size = HEAD_BYTES
    while (layout := _lay_out(source, head, whole=len(head) < size)) is None:
        size *= 16
        if size > _HEADER_BYTES:
            problem = (
                f"a line above the records must be shorter than {_HEADER_BYTES >> 20} MB; is this a table?"
            )
            raise MalformedSource(source, problem)
        head = read_head(source, size)
    form = "text lines" if layout.delimiter == _WHOLE_LINE else _FORMS.get(layout.delimiter, "CSV")
    names = tuple(name for name in layout.names if name)  # a column without a name cannot be asked for
    return Table(
        source,
        form,
        names,
        lambda wanted: _larger(_read(source, layout, wanted)),
        layout.metadata,
        layout.header_line,
    )


def _line_at(source: str, place: int) -> int:
    """Line of a place in the text: counted when there is an error, for that takes a second pass."""
    line = 1
    with open_text(source) as stream:
        while place > 0 and (block := bytes(stream.read(min(place, BLOCK_BYTES)))):
            if block.endswith(b"\r") and len(block) < place:  # its newline may go on
                block += bytes(stream.read(1))
            line, place = line + num_lines(block), place - len(block)
    return line


def _failure(source: str, block: bytes, line: int, delimiter: bytes, error: Exception) -> MalformedSource:
    """The error with its line; the block begins in `line`."""
    text = str(error)
    if "UTF8" in text:
        for record in _NEWLINE.split(block):
            try:
                record.decode()
            except UnicodeDecodeError as error:
                return MalformedSource(source, _not_utf8(record, error.start), line)
            line += 1
    if row := _ROW.search(text):
        line += line_of_record(block, delimiter, int(row[1]))
    problem = _ROW_OF.sub("", text)
    if counts := _COUNTS.match(problem):  # the row behind it may be long
        problem = f"{counts[0]}; complete the line, or quote a field that holds the delimiter"
    return MalformedSource(source, problem[:200], line)


def _larger(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches joined behind the first, which a look at the first rows takes alone.

    A block of a table with 200 columns has 500 rows, for which a call into Arrow costs more than its work.
    """
    held, num_rows, size = list[pa.RecordBatch](), BATCH_ROWS, 0
    for batch in batches:
        held.append(batch)
        num_rows, size = num_rows + batch.num_rows, size + batch.nbytes
        if num_rows >= BATCH_ROWS or size >= BLOCK_BYTES:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held, num_rows, size = [], 0, 0
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def _read(source: str, layout: _Layout, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read the columns that are wanted as text, block by block."""
    labels = [f"column{index}" for index in range(len(layout.names))]  # names may be missing, these are not
    needed = {name: labels[layout.names.index(name)] for name in wanted}
    mark = "\t" if layout.delimiter == _BLANKS else layout.delimiter
    parse = pyarrow.csv.ParseOptions(delimiter=mark, newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(
        include_columns=list(needed.values()),
        column_types=dict.fromkeys(needed.values(), pa.string()),
        strings_can_be_null=True,
        null_values=[""],
    )
    try:
        with open_text(source) as stream:
            stream.read(layout.first_byte)
            for records, place in whole_records(stream, mark.encode()):
                block: bytes | memoryview = records
                if layout.delimiter == _BLANKS:
                    block = re.sub(rb"[ \t]+", b"\t", re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", block))
                options = pyarrow.csv.ReadOptions(
                    use_threads=False, block_size=len(block) + 1, column_names=labels
                )
                try:
                    table = pyarrow.csv.read_csv(pa.BufferReader(block), options, parse, convert)
                except pa.ArrowInvalid as error:
                    text = bytes(block)
                    if not text.strip():  # Arrow refuses text without records
                        continue
                    line = _line_at(source, layout.first_byte + place)
                    raise _failure(source, text, line, mark.encode(), error) from error
                table = read_guarded_fields(table.select(list(needed.values())))
                yield from table.rename_columns(list(needed)).to_batches()
    except BadText as error:
        line = _line_at(source, layout.first_byte + error.place)
        raise MalformedSource(source, str(error), line) from error
