"""Table of a source as it stands there, whatever its format: column names, and the columns asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

SOURCE_NAME = b"curr_ab.source"  # in the metadata of a Parquet file: how errors and results call it


@dataclass(frozen=True)
class Table:
    """Rows of one file or object; `read(columns)` gives columns from the first row on, in little memory."""

    source: str  # its name in errors
    form: str  # such as "TSV" or "Parquet"
    names: tuple[str, ...]  # of its columns, as they stand there
    read: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    metadata: Mapping[str, Any] = field(default_factory=dict)  # of an OAS data unit; empty elsewhere
    header_line: int | None = None  # where the names stand in a text file
