"""Packed files, Parquet, Arrow, the Hub, and files that are no tables."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from support.pair_files import pairs_of, plain_text

from curr_ab.data import MalformedSource, PreparationPlan, prepare, read_pairs
from curr_ab.data.reading.formats import open_table


def pairs(source: Any, **options: Any) -> list[tuple[str, str]]:
    table = pa.Table.from_batches(read_pairs(source, **options))
    return list(zip(table["heavy"].to_pylist(), table["light"].to_pylist(), strict=True))


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def arrow_compressed(data: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKERS = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: arrow_compressed(data, "zstd"),
    "lz4": lambda data: arrow_compressed(data, "lz4"),
    "zip": lambda data: zipped({"folder/table.csv": data, "__MACOSX/._table.csv": b"\0", "README.txt": b"x"}),
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("form", ["text", "Parquet", "FASTA", "JSON lines"])
@pytest.mark.heavy
def test_packed_files_whatever_their_names(corpus, write, packer, form) -> None:
    rows = corpus[:200]
    table = pa.Table.from_pylist(rows).select(["id", "heavy", "light"])
    if form == "Parquet":
        sink = io.BytesIO()
        pq.write_table(table, sink)
        data = sink.getvalue()
    elif form == "FASTA":
        data = "".join(f">{row['id']}\n{row['heavy']}/{row['light']}\n" for row in rows).encode()
    elif form == "JSON lines":
        data = table.to_pandas().to_json(orient="records", lines=True).encode()
    else:
        data = plain_text(rows).encode()
    assert pairs(write("table.bin", PACKERS[packer](data))) == pairs_of(rows)


@pytest.mark.parametrize("packer", ["gzip", "bz2", "xz", "zstd"])
def test_several_members_are_one_file(corpus, write, packer) -> None:
    text = plain_text(corpus[:40]).encode()
    data = PACKERS[packer](text[:1000]) + PACKERS[packer](text[1000:])
    assert pairs(write("table.bin", data)) == pairs_of(corpus[:40])


@pytest.mark.parametrize("packer", ["gzip", "bz2", "xz", "zstd", "zip"])
@pytest.mark.heavy
def test_packed_files_that_are_cut_off(corpus, write, packer) -> None:
    data = PACKERS[packer](plain_text(corpus).encode())
    with pytest.raises(MalformedSource, match=r"cut\.bin.*damaged or cut off") as failure:
        pairs(write("cut.bin", data[: len(data) // 2]))
    assert "\n" not in str(failure.value)


def test_the_line_of_the_damage(corpus, write) -> None:
    data = gzip.compress(plain_text(corpus).encode())
    path = write("cut.bin", data[: len(data) // 2])
    with pytest.raises(
        MalformedSource, match=r"cut\.bin, line (\d+): the compressed file is damaged"
    ) as failure:
        pairs(path)
    line = int(str(failure.value).partition("line ")[2].partition(":")[0])
    assert len(corpus) * 0.3 < line < len(corpus) * 0.7
    with pytest.raises(MalformedSource, match=r"tail\.bin, line \d+: the compressed file is damaged"):
        pairs(write("tail.bin", data + b"garbage behind the end"))


def test_zip_archives(corpus, write) -> None:
    text = plain_text(corpus[:5]).encode()
    path = write("two.zip", zipped({"a.csv": text, "b.csv": plain_text(corpus[5:9]).encode()}))
    with pytest.raises(
        MalformedSource, match=r"must hold one table; it holds a\.csv, b\.csv; name one as .*#a\.csv"
    ):
        pairs(path)
    assert pairs(f"{path}#b.csv") == pairs_of(corpus[5:9])
    with pytest.raises(MalformedSource, match=r"must hold 'c\.csv'; it holds a\.csv, b\.csv"):
        pairs(f"{path}#c.csv")
    with pytest.raises(MalformedSource, match="holds no table"):
        pairs(write("none.zip", zipped({"README.md": b"x"})))
    assert pairs(write("a#b.csv", text)) == pairs_of(corpus[:5])


def test_a_zip_archive_with_one_byte_too_many_at_any_place_is_read_or_refused(corpus, write) -> None:
    whole = zipped({"table.csv": plain_text(corpus[:5]).encode()})
    outcomes = set()
    for place in range(len(whole)):
        try:
            outcomes.add(len(pairs(write("archive.zip", whole[:place] + b"\0" + whole[place:]))))
        except MalformedSource:
            outcomes.add("refused")
    assert outcomes == {5, "refused"}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b'<?xml version="1.0"?><Workbook/>', "an XML document"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"@read1\nACGT\n+\nIIII\n", "FASTQ"),
        (gzip.compress(b"RDX3\n...", mtime=0), "data of R"),
        (b"x" * 257 + b"ustar" + b"\0" * 100, "a tar archive"),
        (b"SQLite format 3\0", "a database"),
    ],
)
def test_files_that_are_no_tables(write, data, kind) -> None:
    with pytest.raises(
        MalformedSource, match=rf"file\.csv: the source must be a table or FASTA; got .*{kind}|{kind}"
    ):
        pairs(write("file.csv", data))


def test_pipes_and_unreadable_files(tmp_path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MalformedSource, match=r"pipe: the source must be a file.*write it to a file first"):
        pairs(tmp_path / "pipe")
    (tmp_path / "closed.csv").write_text("heavy,light\n")

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(pa, "OSFile", refuse)
    with pytest.raises(MalformedSource, match=r"closed\.csv: the file cannot be read \(Permission denied\)"):
        pairs(tmp_path / "closed.csv")


def with_chains(corpus: list[dict[str, Any]], make: Any) -> pa.Table:
    return pa.table({name: make([row[name] for row in corpus]) for name in ("id", "heavy", "light")})


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["Parquet", "Arrow file", "Arrow stream", "Feather"])
@pytest.mark.heavy
def test_text_of_any_type(corpus, tmp_path, kind, form) -> None:
    rows = corpus[:50]
    path = tmp_path / "table"
    if kind in (pa.binary(), pa.large_binary()):
        table = with_chains(rows, lambda texts: pa.array([text.encode() for text in texts], kind))
    else:
        table = with_chains(rows, lambda texts: pa.array(texts).cast(kind))
    if form == "Parquet":
        pq.write_table(table, path)
    elif form == "Feather":
        pyarrow.feather.write_feather(table, str(path))
    else:
        with (pa.ipc.new_stream if form == "Arrow stream" else pa.ipc.new_file)(
            str(path), table.schema
        ) as writer:
            writer.write_table(table)
    assert pairs(path) == pairs_of(rows)
    assert pa.Table.from_batches(read_pairs(path))["id"].to_pylist() == [row["id"] for row in rows]


@pytest.mark.parametrize("form", ["Parquet", "Arrow"])
@pytest.mark.parametrize("value", [["E", "V"], 7, {"aa": "EV"}], ids=["list", "integer", "struct"])
def test_chains_that_are_not_text(tmp_path, form, value) -> None:
    table = pa.table({"heavy": [value], "light": ["DIQM"], "note": [[1, 2]]})
    path = tmp_path / "table"
    if form == "Parquet":
        pq.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, str(path))
    with pytest.raises(
        MalformedSource, match=r"table: column 'heavy' must hold sequences as text; it holds \w+"
    ):
        pairs(path)
    (batch,) = open_table(str(path)).read(["note", "light"])
    assert batch.to_pylist() == [{"note": "[1, 2]", "light": "DIQM"}]


def flipped(data: bytes) -> bytes:
    """The file with letters of one of its texts set to what is no UTF-8."""
    place = data.index(b"QLVES") if b"QLVES" in data else data.index(b"VQL")
    return data[:place] + b"\xbe\xff" + data[place + 2 :]


@pytest.mark.parametrize("form", ["Parquet", "Arrow"])
def test_flipped_bits(corpus, tmp_path, form) -> None:
    table = with_chains(corpus[:50], pa.array)
    path = tmp_path / "table"
    if form == "Parquet":
        pq.write_table(table, path, compression="none", use_dictionary=False)
    else:
        pyarrow.feather.write_feather(table, str(path), compression="uncompressed")
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(MalformedSource, match=rf"table: the {form} file is damaged"):
        pairs(path)


def test_arrow_files_that_are_cut_off(corpus, tmp_path) -> None:
    pyarrow.feather.write_feather(with_chains(corpus[:50], pa.array), str(tmp_path / "whole"))
    data = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    with pytest.raises(MalformedSource, match=r"cut: the Arrow file is damaged or cut off"):
        pairs(tmp_path / "cut")


def test_a_name_that_stands_twice_in_parquet(tmp_path) -> None:
    table = pa.table([["EVQL"], ["DIQM"], ["DIQM"]], names=["heavy", "light", "light"])
    pq.write_table(table, tmp_path / "table")
    with pytest.raises(MalformedSource, match="the column names must differ; 'light' is of columns 2 and 3"):
        pairs(tmp_path / "table")


@pytest.mark.heavy
def test_keep_going_sets_damaged_files_of_every_kind_aside(corpus, write, tmp_path) -> None:
    good = write("good.csv", plain_text(corpus[:100]))
    pq.write_table(pa.table({"heavy": [[1]], "light": ["DIQM"]}), tmp_path / "list.parquet")
    pq.write_table(
        with_chains(corpus[:50], pa.array),
        tmp_path / "bits.parquet",
        compression="none",
        use_dictionary=False,
    )
    (tmp_path / "bits.parquet").write_bytes(flipped((tmp_path / "bits.parquet").read_bytes()))
    bad = [
        str(tmp_path / "list.parquet"),
        str(tmp_path / "bits.parquet"),
        write("nested.csv", '{"a":' * 3_000 + "\n" + plain_text(corpus[:3])),
        write("quote.csv", plain_text(corpus[:3]) + 'x,EV,"DI\n'),
    ]
    index = prepare([good, *bad], tmp_path / "out", PreparationPlan(cluster="exact"), keep_going=True)
    assert index["report"]["kept"] == 100
    assert len(index["report"]["set_aside"]) == len(bad)


def test_patterns_take_parts(corpus, tmp_path) -> None:
    for number in range(2):
        text = plain_text(corpus[number : number + 1]).encode()
        Path(tmp_path, f"{number}.zip").write_bytes(zipped({"a.csv": text, "b.csv": b"x"}))
    assert pairs(f"{tmp_path}/*.zip#a.csv") == pairs_of(corpus[:2])
