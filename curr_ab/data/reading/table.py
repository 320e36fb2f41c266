"""Table of a source as it stands there, whatever its format: column names, and the columns asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Table:
    """Rows of one file or object; `read(columns)` gives columns from the first row on, in little memory."""

    source: str  # its name in errors
    form: str  # such as "TSV" or "Parquet"
    names: tuple[str, ...]  # of its columns, as they stand there
    read: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    metadata: Mapping[str, Any] = field(default_factory=dict)  # of an OAS data unit; empty elsewhere
    header_line: int | None = None  # where the names stand in a text file


@dataclass
class Recognised:
    """What was recognised of a source, and what became of its rows; the counts grow while it is read."""

    source: str
    form: str
    layout: str
    columns: dict[str, list[str]]  # field → the columns that it is read from
    rows: int = 0
    translated: int = 0  # chains that were nucleotides
    left_out: dict[str, int] = field(default_factory=dict)  # rows, by reason
    emptied: dict[str, int] = field(default_factory=dict)  # values that could not be understood, by field

    def count(self, kind: dict[str, int], name: str, number: int) -> None:
        if number:
            kind[name] = kind.get(name, 0) + number

    def lines(self) -> list[str]:
        """Lines for people: the layout with its columns, then what was changed or left out."""
        columns = ", ".join(f"{name} from {' + '.join(read)}" for name, read in self.columns.items())
        lines = [f"{self.form}, {self.layout}: {columns}"]
        if self.translated:
            lines.append(f"{self.translated:,} chains translated from nucleotides")
        lines += [f"{number:,} rows left out: {reason}" for reason, number in self.left_out.items()]
        lines += [
            f"{number:,} values of {name} left empty: they could not be understood"
            for name, number in self.emptied.items()
        ]
        return lines
