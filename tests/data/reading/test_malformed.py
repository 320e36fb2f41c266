"""Malformed sources end in an error that names file and line; harmless oddities are read."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pair_files import oas_text, pairs_of, plain_text

from curr_ab.data import ColumnNames, MalformedSource, PreparationPlan, prepare, read_pairs
from curr_ab.data.reading.pairs import read_source
from curr_ab.data.reading.table import Recognised


def read(path: str) -> list[tuple[str, str]]:
    table = pa.Table.from_batches(read_pairs(path))
    return list(zip(table["heavy"].to_pylist(), table["light"].to_pylist(), strict=True))


@pytest.mark.heavy
def test_truncated_gzip(corpus, tmp_path) -> None:
    whole = gzip.compress(oas_text(corpus).encode())
    path = tmp_path / "unit.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        MalformedSource, match=r"unit\.csv\.gz, line \d+: the compressed file is damaged or cut off"
    ):
        read(str(path))


def test_truncated_parquet(corpus, tmp_path) -> None:
    pq.write_table(pa.Table.from_pylist(corpus[:100]), tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    with pytest.raises(MalformedSource, match=r"cut: the Parquet file is damaged or cut off"):
        read(str(tmp_path / "cut"))


@pytest.mark.parametrize("line", ['{"Run": 1', '"{""Run"": 1"', "Run=1;Author=Doe"])
def test_metadata_that_is_not_json(corpus, write, line) -> None:
    path = write("unit.csv.gz", oas_text(corpus[:3], metadata=line))
    with pytest.raises(MalformedSource, match=r"unit\.csv\.gz, line 1: .*must be JSON"):
        read(path)


def test_missing_columns(write) -> None:
    with pytest.raises(MalformedSource, match=r"a\.csv, line 1: no sequence column is known among id, foo"):
        read(write("a.csv", "id,foo\n1,2\n"))
    with pytest.raises(MalformedSource, match=r"a\.csv: no column is known as the light chain"):
        read(write("a.csv", "id,heavy\n1,EVQL\n"))


def test_missing_field(write) -> None:
    text = "id,heavy,light\n" + "1,EVQL,DIQM\n" * 700 + "2,EVQL\n"
    with pytest.raises(MalformedSource, match=r"a\.csv, line 702: Expected 3 columns, got 2"):
        read(write("a.csv", text))


def test_mixed_newlines_and_byte_order_mark(corpus, write) -> None:
    rows = corpus[:4]
    lines = plain_text(rows).splitlines()
    text = lines[0] + "\r\n" + lines[1] + "\n" + lines[2] + "\r\n" + lines[3] + "\r" + lines[4]
    assert read(write("a.csv", b"\xef\xbb\xbf" + text.encode())) == pairs_of(rows)
    unit = oas_text(rows).replace("\n", "\r\n")
    assert read(write("unit.csv.gz", b"\xef\xbb\xbf" + unit.encode())) == pairs_of(rows)


def test_quotes_and_newlines_in_fields(write) -> None:
    text = 'id,note,heavy,light\n"a, ""b""","two\nlines","EVQL",DIQM\nc,,EVQM,DIQL\n'
    path = write("a.csv", text)
    assert read(path) == [("EVQL", "DIQM"), ("EVQM", "DIQL")]
    assert next(read_pairs(path))["id"].to_pylist() == ['a, "b"', "c"]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_empty_files(write, name) -> None:
    with pytest.raises(MalformedSource, match=r"a\.csv(\.gz)?: the file is empty"):
        read(write(name, ""))


@pytest.mark.parametrize("text", ["id,heavy,light\n", "id,heavy,light"])
def test_a_header_alone_has_no_records(write, text) -> None:
    assert list(read_pairs(write("a.csv", text))) == []


def test_latin_1(corpus, write) -> None:
    rows = [dict(row) for row in corpus[:30]]
    rows[20]["id"] = "Jos\u00e9"
    with pytest.raises(MalformedSource, match=r"a\.csv, line 22: the text is not UTF-8.*iconv"):
        read(write("a.csv", plain_text(rows).encode("latin-1")))
    with pytest.raises(MalformedSource, match=r"a\.csv, line 1: the text is not UTF-8"):
        read(write("a.csv", "id,h\u00e9avy\n".encode("latin-1")))
    with pytest.raises(MalformedSource, match=r"a\.fa, line 1: the text is not UTF-8"):
        read(write("a.fa", ">Jos\u00e9\nEVQL/DIQM\n".encode("latin-1")))


def test_values_that_are_not_understood_are_left_empty_and_counted(write) -> None:
    header = "heavy,light,v_identity_heavy,mutations_heavy,mutation_mask_heavy\n"
    rows = "EVQL,DIQM,99,3,0000\nEVQL,DIQM,high,[],000\nEVQL,DIQM,97.5%,,\nEVQL,DIQM,1234,NA,01X0\n"
    recognised: list[Recognised] = []
    batches = read_source(write("a.csv", header + rows), ColumnNames(), "paired", recognised=recognised)
    table = pa.Table.from_batches(batches)
    assert table["v_identity_heavy"].to_pylist() == pytest.approx([0.99, None, 0.975, None])
    assert table["mutations_heavy"].to_pylist() == [3, None, None, None]
    assert table["mutation_mask_heavy"].to_pylist() == ["0000", None, None, None]
    assert recognised[0].emptied == {"v_identity_heavy": 2, "mutations_heavy": 1, "mutation_mask_heavy": 2}


@pytest.mark.heavy
def test_keep_going_sets_aside_and_says_so(corpus, write, tmp_path) -> None:
    good, bad = write("good.csv", plain_text(corpus[:100])), write("bad.csv", "")
    plan = PreparationPlan(cluster="exact")
    for processes in (1, 2):  # the error crosses from a worker unharmed
        with pytest.raises(MalformedSource, match=r"bad\.csv: the file is empty"):
            prepare([good, bad], tmp_path / "strict", plan, processes=processes)
    index = prepare([good, bad], tmp_path / "strict", plan, keep_going=True)  # where the strict run ended
    assert index["report"]["kept"] == 100
    assert index["report"]["set_aside"] == [f"{bad}: the file is empty; copy it again, or name another"]
    with pytest.raises(ValueError, match="other sources or settings"):
        prepare([good, bad], tmp_path / "strict", plan)
    with pytest.raises(ValueError, match=r"no usable record.*set aside: .*bad\.csv: the file is empty"):
        prepare(bad, tmp_path / "none", plan, keep_going=True)
    with pytest.raises(MalformedSource, match=r"bad\.csv: the file is empty"):
        prepare(bad, tmp_path / "none", plan)


def test_zero_usable_records(corpus, write, tmp_path) -> None:
    rows = [{"id": "1", "heavy": row["light"], "light": row["heavy"]} for row in corpus[:7]]
    with pytest.raises(ValueError, match=r"no usable record in 1 source\(s\) \(wrong_chain 7\)"):
        prepare(write("swapped.csv", plain_text(rows)), tmp_path / "out", PreparationPlan(cluster="exact"))
    with pytest.raises(ValueError, match="they hold no records"):
        prepare(write("header.csv", "heavy,light\n"), tmp_path / "out2", PreparationPlan(cluster="exact"))
