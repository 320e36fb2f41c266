"""Text tables of any delimiter, encoding and head; broken ones are errors that name file and line."""

from __future__ import annotations

import csv
import io
import json
import re
from random import Random
from typing import Any

import pytest
from support.pair_files import METADATA, oas_text, pairs_of, plain_text

from curr_ab.data import MalformedSource, read_pairs
from curr_ab.data.reading import delimited, records
from curr_ab.data.reading.formats import open_table

HEAVY = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRF"
LIGHT = "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRS"
PAIR = f"a,{HEAVY},{LIGHT}\n"
HEADER = "id,heavy,light\n"


def rows(path: str) -> list[dict[str, Any]]:
    table = open_table(path)
    return [row for batch in table.read(table.names) for row in batch.to_pylist()]


def fails(path: str, problem: str) -> None:
    with pytest.raises(MalformedSource, match=problem) as failure:
        rows(path)
    assert "\n" not in str(failure.value)


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    """Blocks that end within fields, quotes and newlines."""
    monkeypatch.setattr(records, "BLOCK_BYTES", 7)


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|", " ", "   "])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_delimiters_and_newlines(corpus, write, delimiter, newline) -> None:
    text = plain_text(corpus[:30], newline=newline).replace(",", delimiter)
    assert rows(write("a.txt", text)) == [
        {name: row[name] for name in ("id", "heavy", "light")} for row in corpus[:30]
    ]


def test_the_delimiter_divides_header_and_records_alike(write) -> None:
    text = f'id\tsites (a, b, c, d)\theavy\nx\t"1, 2"\t{HEAVY}\ny\t3\t{HEAVY}\n'
    assert open_table(write("a.tsv", text)).names == ("id", "sites (a, b, c, d)", "heavy")
    text = f"id;heavy;kd\nx;{HEAVY};0,5\ny;{HEAVY};1,5\n"
    assert rows(write("b.csv", text))[0] == {"id": "x", "heavy": HEAVY, "kd": "0,5"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_encodings(corpus, write, encoding, name) -> None:
    table = open_table(write(name, plain_text(corpus[:300]).encode(encoding)))
    assert table.names == ("id", "heavy", "light")
    assert sum(batch.num_rows for batch in table.read(["light"])) == 300
    data = plain_text(corpus[:3]).encode(encoding)
    assert [row["heavy"] for row in rows(write(name, data))] == [row["heavy"] for row in corpus[:3]]


def test_utf_16_with_a_mark_of_the_other_order(write) -> None:
    path = write("a.csv", b"\xfe\xff" + (HEADER + PAIR).encode("utf-16-be"))
    assert rows(path) == [{"id": "a", "heavy": HEAVY, "light": LIGHT}]


def test_comments_above_the_header(write) -> None:
    comments = "".join(f"## line {number}, of seven\n" for number in range(7))
    path = write("rhapsody.csv", comments + "\n" + HEADER + PAIR)
    assert rows(path) == [{"id": "a", "heavy": HEAVY, "light": LIGHT}]
    assert open_table(path).header_line == 9
    assert rows(write("excel.csv", "sep=;\r\n" + (HEADER + PAIR).replace(",", ";")))[0]["id"] == "a"
    assert open_table(write("a.csv", "#" + HEADER + PAIR)).names == ("id", "heavy", "light")
    fails(write("b.csv", "# no more\n"), r"b\.csv, line 2: the header is missing after the comments")


def test_metadata_longer_than_a_field_of_the_csv_module(corpus, write) -> None:
    metadata = '"' + json.dumps({**METADATA, "Note": "x" * 400_000}).replace('"', '""') + '"'
    table = open_table(write("unit.csv.gz", oas_text(corpus[:5], metadata)))
    assert (len(table.metadata["Note"]), table.header_line) == (400_000, 2)
    assert len(rows(table.source)) == 5


@pytest.mark.parametrize("value", ['{"a":' * 5_000 + "1" + "}" * 5_000, '{"a": ' + "1" * 5_000 + "}"])
def test_metadata_that_python_cannot_read(corpus, write, value) -> None:
    fails(
        write("unit.csv", oas_text(corpus[:5], value)), r"unit\.csv, line 1: the metadata line must be JSON"
    )


def test_a_title_above_the_header(write) -> None:
    fails(
        write("a.csv", "Table S1\n" + HEADER + PAIR + PAIR),
        r"a\.csv, line 1: the line above the header must be JSON, or begin with #; got 'Table S1'",
    )


def test_a_header_with_quotes_blanks_and_newlines(write) -> None:
    path = write("a.csv", f'"id", "heavy ""H""" ,"light\nchain",,\n1,{HEAVY},{LIGHT},,\n1,{HEAVY}\n')
    table = open_table(path)
    assert table.names == ("id", 'heavy "H"', "light\nchain")
    fails(path, r"a\.csv, line 4: Expected 5 columns, got 2")


def test_long_fields_and_headers(write) -> None:
    long = "n_" * 150_000
    path = write("a.csv", f"id,{long},heavy\n1,{long * 40},{HEAVY}\n")
    assert rows(path)[0]["heavy"] == HEAVY
    assert open_table(path).names[1] == long


def test_a_name_that_stands_twice(write) -> None:
    fails(
        write("a.csv", "id,heavy,light,heavy\n"),
        r"a\.csv, line 1: the column names must differ; 'heavy' is of columns 2 and 4",
    )


@pytest.mark.parametrize("small", [False, True])
def test_an_open_quote(write, small, request) -> None:
    if small:
        request.getfixturevalue("small_blocks")
    lines = [f"{number},{HEAVY},{LIGHT},x\n" for number in range(200)]
    lines[49] = f'49,{HEAVY},{LIGHT},"unclosed\n'
    fails(
        write("a.csv", "id,heavy,light,note\n" + "".join(lines)),
        r"a\.csv, line 51: the quote .* must be closed",
    )


@pytest.mark.parametrize("small", [False, True])
def test_text_behind_a_closing_quote(write, small, request) -> None:
    if small:
        request.getfixturevalue("small_blocks")
    lines = ['1,"two\nlines"\n', "2,x\n", '3,"stray\n', "4,x\n", '5,"stray\n', "6,x\n"]
    fails(
        write("a.csv", "id,note\n" + "".join(lines)),
        r"a\.csv, line 7: a quoted field must end with its quote",
    )
    lines[2:5] = ['3,"a" b\n']
    fails(write("a.csv", "id,note\n" + "".join(lines)), r"a\.csv, line 5: .*; got ' b")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", ""])
def test_quotes_at_the_edges_of_blocks(write, small_blocks, ending) -> None:
    values = ["", '"', 'a "b" c', "x,y", "two\nlines", 'end"', '"start', "plain", 'in"side', '""']
    newline = ending or "\n"
    lines = [f'{number},"{value.replace(chr(34), chr(34) * 2)}"' for number, value in enumerate(values)]
    lines.append(f'{len(values)},5" primer')  # a quote within a field that has none around it is a letter
    text = newline.join(["id,note", *lines]) + ending
    found = rows(write("a.csv", text))
    assert [row["note"] or "" for row in found] == [*values, '5" primer']
    assert [row["id"] for row in found] == [str(number) for number in range(len(values) + 1)]


def test_quotes_as_the_csv_module_reads_them(monkeypatch) -> None:
    random = Random(3)
    for _ in range(2_000):
        text = "".join(random.choices(["a", "b", '"', '"', '""', ",", "\n", "\r\n"], k=random.randint(0, 14)))
        monkeypatch.setattr(records, "BLOCK_BYTES", random.choice([1, 2, 3, 5, 100]))
        try:
            expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
        except csv.Error:
            with pytest.raises(records.BadText):
                list(records.whole_records(io.BytesIO(text.encode()), b","))
            continue
        blocks = [
            bytes(block).decode() for block, _ in records.whole_records(io.BytesIO(text.encode()), b",")
        ]
        assert "".join(blocks) == text
        found = [csv.reader(io.StringIO(block, newline=""), strict=True) for block in blocks]
        assert [row for reader in found for row in reader if row] == expected, text


def test_lines_of_errors_behind_fields_of_several_lines(write, small_blocks) -> None:
    text = 'id,note\n1,"a\nb"\n\n2,"c\r\nd\re"\n3\n'
    fails(write("a.csv", text), r"a\.csv, line 8: Expected 2 columns, got 1")


@pytest.mark.heavy
def test_zeros(write, tmp_path) -> None:
    path = tmp_path / "zeros.csv"
    with path.open("wb") as file:
        file.truncate(1 << 30)  # nothing of it is on the disk; to read it all would take seconds
    fails(str(path), r"zeros\.csv, line 1: .*bytes that are no text")
    with path.open("wb") as file:
        file.write(HEADER.encode())
        file.truncate(1 << 30)
    fails(str(path), r"zeros\.csv, line 2: a record must be shorter than 64 MB")
    assert rows(write("a.csv", HEADER + f"a\0b,{HEAVY},{LIGHT}\n"))[0]["heavy"] == HEAVY


def test_lines_without_a_header(write) -> None:
    spaced = f"{' '.join(HEAVY)} [SEP] {' '.join(LIGHT)}"
    for text in (spaced, HEAVY, f"{HEAVY}|{LIGHT}", f"{HEAVY}:{LIGHT}", f"{HEAVY} [SEP] {LIGHT}"):
        table = open_table(write("lines.txt", f"{text}\n{text}\n"))
        assert (table.form, table.names, table.header_line) == ("text lines", ("sequence",), None)
        assert [row["sequence"] for row in rows(table.source)] == [text, text]
    fails(
        write("a.csv", PAIR),
        r"a\.csv, line 1: the header is missing: this line holds residues; .*heavy,light",
    )


def test_nulls_and_ids(write) -> None:
    text = "id,heavy,light,v_call_heavy\nNA,EVQL,DIQM,NA\nNone,EVQL,None,None\n,NA,DIQM,\n"
    batch = next(read_pairs(write("a.csv", text)))
    assert batch["id"].to_pylist()[:2] == ["NA", "None"]
    assert batch["heavy"].to_pylist() == ["EVQL", "EVQL", None]
    assert batch["light"].to_pylist() == ["DIQM", None, "DIQM"]
    assert batch["v_call_heavy"].null_count == 3


def test_all_columns_are_listed(write) -> None:
    names = [f"column_{number}" for number in range(30)]
    with pytest.raises(MalformedSource, match=", ".join(names)):
        list(read_pairs(write("a.csv", ",".join(names) + "\n" + ",".join("1" * 30) + "\n")))


def test_control_letters_are_shown_escaped(write, tmp_path) -> None:
    name = "a\x1b[31m\n.csv"
    with pytest.raises(
        MalformedSource, match=re.escape(r"a\x1b[31m\n.csv, line 1: no sequence column is known")
    ):
        list(read_pairs(write(name, "id,x\x1b[0m\n1,2\n")))
    with pytest.raises(ValueError, match=re.escape(r"no file matches nothing\x1b")):
        list(read_pairs("nothing\x1b"))


def test_only_the_columns_asked_for_are_read(corpus, write) -> None:
    table = open_table(write("a.csv", oas_text(corpus[:5])))
    (batch,) = table.read(["sequence_alignment_aa_light", "sequence_id_heavy"])
    assert batch.schema.names == ["sequence_alignment_aa_light", "sequence_id_heavy"]
    assert batch.column(0).to_pylist() == [light for _, light in pairs_of(corpus[:5])]


def test_memory_holds_a_block(corpus, write, monkeypatch) -> None:
    """Batches come before the file is read to its end, for packed files, too."""
    monkeypatch.setattr(records, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(delimited, "BATCH_ROWS", 300)
    path = write("a.csv.gz", plain_text(corpus))
    sizes = [batch.num_rows for batch in open_table(path).read(["id"])]
    assert sum(sizes) == len(corpus)
    assert max(sizes) < len(corpus) / 5
