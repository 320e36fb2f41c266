"""Workbooks of Excel and OpenDocument as tables: the sheet that holds sequences, below its titles."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curr_ab.data.reading.sources import MalformedSource, locate
from curr_ab.data.reading.streams import OF_ARCHIVES, open_seekable, refuse_size
from curr_ab.data.reading.table import Table, check_names, grouped_names, text_batches
from curr_ab.extras import needs_extra

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

_HEAD_ROWS = 300
_SEQUENCE = re.compile(r"[ACDEFGHIKLMNPQRSTVWXY*.\-]{50,}", re.IGNORECASE)
_BETWEEN_CHAINS = re.compile(r"\s+|\[SEP\]|[|:/]")


@dataclass(frozen=True)
class _Sheet:
    name: str
    names: tuple[str, ...]  # of all columns, empty where there is none
    header_row: int  # from 1, as Excel counts
    num_sequences: int  # columns of sequences


def _text(value: Any) -> str | None:
    """A cell as Excel shows it: whole numbers without a point."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_sequence(text: str | None) -> bool:
    return text is not None and bool(_SEQUENCE.fullmatch(_BETWEEN_CHAINS.sub("", text)))


def _header(rows: Sequence[Sequence[str | None]], first: int, columns: list[int]) -> int | None:
    """The row of the names: the last above the first sequence that has text over each column of sequences."""
    for index in range(first - 1, -1, -1):
        texts = [rows[index][column] for column in columns]
        if all(texts) and not any(map(_is_sequence, texts)):
            return index
    return None


def _names(rows: Sequence[Sequence[str | None]], header: int) -> tuple[str, ...]:
    """Names of the columns; one that stands twice takes the words of the row above, too."""
    texts = [
        [" ".join((text or "").split()) for text in row] for row in rows[max(header - 1, 0) : header + 1]
    ]
    return grouped_names(texts[0], texts[1]) if header else tuple(texts[0])


def _look_at(workbook: CalamineWorkbook, name: str) -> _Sheet | None:
    """Content of a sheet; None where it has no sequences below a header."""
    sheet = workbook.get_sheet_by_name(name)
    if sheet.start is None:  # it is empty, of which early releases make a crash
        return None
    rows = [[_text(value) for value in row] for row in islice(sheet.iter_rows(), _HEAD_ROWS)]
    of_rows = [[column for column, text in enumerate(row) if _is_sequence(text)] for row in rows]
    columns = sorted({column for of_row in of_rows for column in of_row})
    first = next((index for index, of_row in enumerate(of_rows) if of_row), None)
    if first is None:
        return None
    for below in (columns, of_rows[first]):
        if (header := _header(rows, first, below)) is not None:
            return _Sheet(name, _names(rows, header), header + 1, len(columns))
    return None


def _choose(source: str, workbook: CalamineWorkbook, name: str | None) -> _Sheet:
    """The sheet that is named, else the one with the most columns of sequences, up to a pair's two."""
    names = workbook.sheet_names
    if name is not None:
        if name not in names:
            problem = f"the workbook must have the sheet {name!r}; it has {', '.join(names)}"
            raise MalformedSource(source, problem, fields=("sheet",))
        names = [name]
    sheets = [sheet for sheet in (_look_at(workbook, name) for name in names) if sheet]
    if not sheets:
        where = f"the sheet {name!r}" if name else f"the workbook, of the sheets {', '.join(names)},"
        raise MalformedSource(
            source,
            f"{where} must have columns of sequences below a header; it has none; name another sheet or file",
        )
    most = max(min(sheet.num_sequences, 2) for sheet in sheets)
    best = [sheet for sheet in sheets if min(sheet.num_sequences, 2) == most]
    if len(best) > 1:
        found = ", ".join(sheet.name for sheet in best)
        advice = f"name one, also as {locate(source)[0]}#{best[0].name}"
        problem = f"one sheet must hold the sequences; {found} do: {advice}"
        raise MalformedSource(source, problem, fields=("sheet",))
    return best[0]


def open_workbook(source: str, sheet: str | None) -> Table:
    """Open a workbook; its sheet may be named behind the file's name, too."""
    with needs_extra("excel"):
        from python_calamine import CalamineError, CalamineWorkbook, PasswordError, ZipError
    path, part = locate(source)

    def load() -> CalamineWorkbook:
        with open_seekable(path) as file:
            data = io.BytesIO(file.read())
        size = 0
        with suppress(*OF_ARCHIVES), zipfile.ZipFile(data) as archive:
            size = sum(member.file_size for member in archive.infolist())
        refuse_size(source, size)
        data.seek(0)
        try:
            return CalamineWorkbook.from_filelike(data)
        except PasswordError as error:
            raise MalformedSource(source, "the workbook is locked; save it without a password") from error
        except ZipError as error:
            raise MalformedSource(source, f"the workbook is damaged or cut off ({error})") from error
        except CalamineError as error:
            problem = f"the source must be a workbook with sheets; got another document ({error})"
            raise MalformedSource(source, f"{problem}; save the table in it as CSV") from error

    workbook = load()
    try:
        chosen = _choose(source, workbook, sheet or part)
    except CalamineError as error:
        raise MalformedSource(source, f"the workbook is damaged ({error})") from error
    check_names(source, chosen.names, chosen.header_row)

    def rows(wanted: Sequence[str]) -> Iterator[Sequence[str | None]]:
        places = [chosen.names.index(name) for name in wanted]
        for row in islice(load().get_sheet_by_name(chosen.name).iter_rows(), chosen.header_row, None):
            if any(value not in (None, "") for value in row):
                yield [_text(row[place]) for place in places]

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from text_batches(wanted, rows(wanted))
        except CalamineError as error:
            raise MalformedSource(source, f"the workbook is damaged ({error})") from error

    names = tuple(name for name in chosen.names if name)
    form = f"sheet {chosen.name!r} of a workbook"
    return Table(source, form, names, read, header_line=chosen.header_row)
