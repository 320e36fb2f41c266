"""Workbooks: the sheet with sequences, titles above the header, and those that cannot be read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa
import pytest
from support.pair_files import pairs_of

from curr_ab.data import ColumnNames, MalformedSource, read_pairs
from curr_ab.data.reading.formats import open_table
from curr_ab.data.reading.pairs import read_source

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def _cell(place: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'


def workbook(sheets: Mapping[str, Sequence[Sequence[Any]]]) -> bytes:
    """An .xlsx file of the cells."""
    parts, books, links = {"[Content_Types].xml": "<Types/>"}, "", ""
    for number, (name, rows) in enumerate(sheets.items(), 1):
        body = "".join(
            f'<row r="{r}">' + "".join(_cell(f"{chr(64 + c)}{r}", v) for c, v in enumerate(row, 1)) + "</row>"
            for r, row in enumerate(rows, 1)
        )
        target = f"worksheets/sheet{number}.xml"
        parts[f"xl/{target}"] = f'<worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData></worksheet>'
        books += f'<sheet name="{escape(name)}" sheetId="{number}" r:id="rId{number}"/>'
        links += f'<Relationship Id="rId{number}" Type="{_OFFICE}/worksheet" Target="{target}"/>'
    book = f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{books}</sheets></workbook>'
    root = f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
    for name, content in (("xl/_rels/workbook.xml.rels", links), ("_rels/.rels", root)):
        parts[name] = f'<Relationships xmlns="{_PACKAGE}/relationships">{content}</Relationships>'
    parts["xl/workbook.xml"] = book
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def table_rows(corpus: list[dict[str, Any]]) -> list[list[Any]]:
    return [[row["id"], row["heavy"], row["light"], 0.5] for row in corpus]


HEADER = ["Name", "VH", "VL", "Kd"]


def pairs(source: str) -> list[tuple[str, str]]:
    table = pa.Table.from_batches(read_pairs(source))
    return list(zip(table["heavy"].to_pylist(), table["light"].to_pylist(), strict=True))


def test_the_sheet_with_sequences_below_its_titles(corpus, write) -> None:
    rows = table_rows(corpus[:9])
    titles = [["Table S3. Antibodies of this study, their sequences and what they bind to in all assays"], []]
    sheets = {
        "Notes": [["See", "the paper"], ["x", "y"]],
        "Antibodies": [*titles, HEADER, ["none", None, "ND", None], [], *rows],
        "Antigens": [["antigen", "sequence"], ["spike", corpus[0]["heavy"]]],
    }
    path = write("supplement.csv", workbook(sheets))  # whatever its name
    table = open_table(path)
    assert (table.form, table.header_line, table.names) == (
        "sheet 'Antibodies' of a workbook",
        3,
        tuple(HEADER),
    )
    assert [pair for pair in pairs(path) if None not in pair] == pairs_of(corpus[:9])
    (batch,) = table.read(["Kd", "Name"])
    assert batch.to_pylist()[1] == {"Kd": "0.5", "Name": rows[0][0]}


def test_cells_as_excel_shows_them(corpus, write) -> None:
    rows = [[1, corpus[0]["heavy"], True, 2.5, None], [20_000_000, corpus[1]["heavy"], False, "x", None]]
    (batch,) = (
        table := open_table(write("a.xlsx", workbook({"1": [["id", "H", "b", "n", None], *rows]})))
    ).read(["id", "b", "n"])
    assert batch.to_pylist() == [
        {"id": "1", "b": "true", "n": "2.5"},
        {"id": "20000000", "b": "false", "n": "x"},
    ]
    assert table.names == ("id", "H", "b", "n")


def test_names_that_the_row_above_tells_apart(corpus, write) -> None:
    head = [[None, "Heavy chain", None, "Light chain", None], ["Name", "AA", "CDR3", "AA", "CDR3"]]
    row = ["a", corpus[0]["heavy"], "ARDY", corpus[0]["light"], "QQY"]
    table = open_table(write("a.xlsx", workbook({"1": [*head, row]})))
    assert table.names == ("Name", "Heavy chain AA", "Heavy chain CDR3", "Light chain AA", "Light chain CDR3")
    with pytest.raises(
        MalformedSource, match=r"a\.xlsx, line 1: the column names must differ; 'AA' is of columns 2 and 4"
    ):
        open_table(write("a.xlsx", workbook({"1": [head[1], row]})))


def test_sheets_are_named(corpus, write) -> None:
    one, two = [HEADER, *table_rows(corpus[:3])], [HEADER, *table_rows(corpus[3:5])]
    path = write("a.xlsx", workbook({"one": one, "two": two, "empty": []}))
    with pytest.raises(
        MalformedSource,
        match=r"one sheet must hold the sequences; one, two do: name one, also as .*a\.xlsx#one",
    ) as failure:
        pairs(path)
    assert failure.value.fields == ("sheet",)
    assert pairs(f"{path}#two") == pairs_of(corpus[3:5])
    assert next(read_source(path, ColumnNames(sheet="two"), "paired")).num_rows == 2
    with pytest.raises(MalformedSource, match="must have the sheet 'three'; it has one, two, empty"):
        pairs(f"{path}#three")
    with pytest.raises(MalformedSource, match="'empty' must have columns of sequences below a header"):
        pairs(f"{path}#empty")
    with pytest.raises(MalformedSource, match="a sheet can be named of a workbook alone"):
        next(read_source(write("a.csv", "heavy,light\nEV,DI\n"), ColumnNames(sheet="two"), "paired"))


def test_other_documents_and_damaged_workbooks(corpus, write) -> None:
    whole = workbook({"1": [HEADER, *table_rows(corpus[:50])]})
    with pytest.raises(MalformedSource, match=r"cut\.xlsx: .*damaged or cut off"):
        pairs(write("cut.xlsx", whole[: len(whole) // 2]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<document/>")
    with pytest.raises(
        MalformedSource, match=r"a\.docx: the source must be a workbook.*save the table in it as CSV"
    ):
        pairs(write("a.docx", buffer.getvalue()))
    with pytest.raises(MalformedSource, match=r"old\.xls: the source must be a workbook"):
        pairs(write("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 2_000))
    with pytest.raises(
        MalformedSource, match=r"a\.xlsx: the workbook, of the sheets 1, must have columns of sequences"
    ):
        pairs(write("a.xlsx", workbook({"1": [["a", "b"], [1, 2]]})))
