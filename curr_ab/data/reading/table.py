"""Table of a source as it stands there, whatever its format: column names, and the columns asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.sources import MalformedSource

BATCH_ROWS = 16_384
SOURCE_NAME = b"curr_ab.source"  # in the metadata of a Parquet file: how errors and results call it
Read = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
_NO_SCHEMA = pa.schema([])
_NULL_WORDS = ("", "NA", "None", "null", "nan", "NaN")


@dataclass(frozen=True, eq=False)  # two openings of a file are two tables
class Table:
    """Rows of one file or object; `read(columns)` gives columns from the first row on, in little memory."""

    source: str  # its name in errors
    form: str  # such as "TSV" or "Parquet"
    names: tuple[str, ...]  # of its columns, as they stand there
    read: Read
    metadata: Mapping[str, Any] = field(default_factory=dict)  # of an OAS data unit; empty elsewhere
    header_line: int | None = None  # where the names stand in a text file
    # What a column of a typed table holds where that is not text, such as "list<item: string>".
    not_text: Mapping[str, str] = field(default_factory=dict)


def check_names(source: str, names: Sequence[str], line: int | None = None) -> None:
    """Refuse a name that stands twice: whoever asks for it may mean either column."""
    for name in names:
        if name and (number := names.index(name)) < (last := len(names) - 1 - names[::-1].index(name)):
            columns = f"columns {number + 1} and {last + 1}"
            raise MalformedSource(
                source, f"the column names must differ; {name!r} is of {columns}; rename one", line
            )


def grouped_names(groups: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Names of columns below a row of groups; one that stands twice takes the words of its group, too."""
    group, wide = "", list[str]()
    for text in groups:  # a group stands above the first of its columns
        group = text or group
        wide.append(group)
    return tuple(
        f"{group} {name}" if group and name and names.count(name) > 1 else name
        for name, group in zip(names, wide, strict=True)
    )


def without_null_words(values: pa.Array) -> pa.Array:
    """The column with null for words such as NA; readers leave them, because an id may be one."""
    if not pa.types.is_string(values.type):
        return values
    short = pc.less_equal(pc.binary_length(values), max(map(len, _NULL_WORDS)))
    if not pc.any(short).as_py():
        return values
    words = pa.array(_NULL_WORDS)
    if not pc.any(pc.is_in(values.filter(short), value_set=words)).as_py():
        return values
    return pc.if_else(pc.is_in(values, value_set=words), pa.scalar(None, values.type), values)


def text_batches(names: Sequence[str], rows: Iterable[Sequence[str | None]]) -> Iterator[pa.RecordBatch]:
    """Batches of text of rows in the order of the names."""
    rows = iter(rows)
    while block := list(islice(rows, BATCH_ROWS)):
        columns = zip(*block, strict=True)
        yield pa.record_batch([pa.array(column, pa.string()) for column in columns], names=list(names))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    texts = (pa.string(), pa.large_string(), pa.string_view(), pa.null())
    return kind in (*texts, pa.binary(), pa.large_binary(), pa.binary_view())


def _plain(values: pa.Array) -> pa.Array:
    """Text of every kind as plain text, numbers as they are, and what is nested as JSON."""
    kind = values.type
    if pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
        # As Polars writes categories: Arrow cannot decode them.
        values = pa.DictionaryArray.from_arrays(values.indices, values.dictionary.cast(pa.string()))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind):
        return values
    if _is_text(kind) or not pa.types.is_nested(kind):
        return values.cast(pa.string())
    items = (None if item is None else json.dumps(item, default=str) for item in values.to_pylist())
    return pa.array(items, pa.string())


def typed_table(
    source: str, form: str, names: Iterable[Any], read: Read, schema: pa.Schema = _NO_SCHEMA
) -> Table:
    """A table of what has types: it gives text and numbers alone, a few rows at a time.

    Damaged text is an ArrowInvalid when it is read. The schema says which columns do not hold text.
    """

    def plain(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in read(names):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                rows = batch.slice(start, BATCH_ROWS)
                columns = pa.record_batch([_plain(rows[name]) for name in names], names=list(names))
                columns.validate(full=True)
                yield columns

    texts = tuple(map(str, names))
    check_names(source, texts)
    not_text = {column.name: str(column.type) for column in schema if not _is_text(column.type)}
    return Table(source, form, texts, plain, not_text=not_text)


@dataclass
class Recognised:
    """Layout that was recognised of a source, and the fate of its rows; the counts grow while it is read."""

    source: str
    form: str
    layout: str
    columns: dict[str, list[str]]  # field → the columns that it is read from
    rows: int = 0
    translated: int = 0  # chains that were nucleotides
    chains: int = 0
    aligned: dict[str, int] = field(default_factory=dict)  # those of them that were, by outcome
    left_out: dict[str, int] = field(default_factory=dict)  # rows, by reason
    emptied: dict[str, int] = field(default_factory=dict)  # values that could not be understood, by field

    def count(self, kind: dict[str, int], name: str, number: int) -> None:
        if number:
            kind[name] = kind.get(name, 0) + number

    def add(self, other: Recognised) -> None:
        """Add the counts of another source."""
        self.rows += other.rows
        self.translated += other.translated
        self.chains += other.chains
        for counts in ("aligned", "left_out", "emptied"):
            for name, number in getattr(other, counts).items():
                self.count(getattr(self, counts), name, number)

    def lines(self) -> list[str]:
        """Lines for people: the layout with its columns, then what was changed or left out."""
        columns = ", ".join(f"{name} from {', else '.join(read)}" for name, read in self.columns.items())
        lines = [f"{self.form}, {self.layout}: {columns}"]
        if self.translated:
            lines.append(f"{self.translated:,} chains translated from nucleotides")
        lines += self._lines_of_cutting()
        lines += [f"{number:,} rows left out: {reason}" for reason, number in self.left_out.items()]
        lines += [
            f"{number:,} values of {name} left empty: they could not be understood"
            for name, number in self.emptied.items()
        ]
        return lines

    def _lines_of_cutting(self) -> list[str]:
        if not self.chains:
            return []
        if not self.aligned:
            return [f"none of {self.chains:,} chains was cut: a sample of them is of variable domains alone"]
        lines = [f"cut to the variable domain: {self.aligned.get('cut', 0):,} of {self.chains:,} chains"]
        others = [
            f"{name} {number:,}" for name, number in self.aligned.items() if name not in ("cut", "unchanged")
        ]
        return lines + [f"not one whole variable domain of its kind: {', '.join(others)}"] * bool(others)


def summaries(recognised: Sequence[Recognised]) -> list[tuple[str, list[str]]]:
    """The layout of each source and what became of its rows; sources of one layout are added up."""
    alike: dict[str, list[Recognised]] = {}
    for one in recognised:
        alike.setdefault(one.lines()[0], []).append(one)
    out = []
    for layout, (first, *others) in alike.items():
        whole = deepcopy(first)
        for other in others:
            whole.add(other)
        more = f" and {len(others):,} more" if others else ""
        out.append((f"{first.source}{more}: {layout}", whole.lines()[1:]))
    return out
