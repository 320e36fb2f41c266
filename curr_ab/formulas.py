"""Text of users in CSV that a spreadsheet would run as a formula: behind an apostrophe it stays text.

Numbers stay as they are, and the readers of tables take the apostrophe away again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# Apostrophes before the sign get one more, so that taking one away always gives the text as it was.
_FORMULA = r"(?s)^'*[=+\-@\t\r]."
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_GUARDED = r"(?s)^'('*[=+\-@\t\r].)"


def guard(text: str) -> str:
    """A field or a column's name, as it is written."""
    return f"'{text}" if re.match(_FORMULA, text) and not re.match(_NUMBER, text) else text


def guard_fields(table: pa.Table) -> pa.Table:
    """All text of a table, and the names of its columns, as they are written."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_string(column.type):
            is_number = pc.match_substring_regex(column, _NUMBER)
            risky = pc.and_not(pc.match_substring_regex(column, _FORMULA), is_number)
            if pc.any(risky).as_py():
                column = pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column)
        columns[guard(name)] = column
    return pa.table(columns)


def read_guarded(text: str) -> str:
    """The text of a field or name that `guard` may have written."""
    return re.sub(_GUARDED, r"\1", text)


def read_guarded_fields(batch: pa.Table) -> pa.Table:
    """The text of fields that `guard_fields` may have written."""
    for place, column in enumerate(batch.columns):
        if pc.any(pc.starts_with(column, "'")).as_py():  # which few have, and costs little to see
            column = pc.replace_substring_regex(column, _GUARDED, r"\1")
            batch = batch.set_column(place, batch.column_names[place], column)
    return batch


def guard_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row by name, as they are written."""
    return {guard(name): guard(value) if isinstance(value, str) else value for name, value in row.items()}
