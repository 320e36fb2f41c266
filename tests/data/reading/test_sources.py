"""Every source of the field is read by its content, in streams, into one schema."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pair_files import METADATA, oas_text, pairs_of, plain_text

from curr_ab.data import PAIR_SCHEMA, ColumnNames, read_pairs
from curr_ab.data.reading.sources import expand_sources


def read(source: Any, **options: Any) -> pa.Table:
    return pa.Table.from_batches(read_pairs(source, **options))


def pairs(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["heavy"].to_pylist(), table["light"].to_pylist(), strict=True))


def test_oas_paired_unit_whatever_its_name(corpus, write) -> None:
    rows = corpus[:50]
    path = write("unit.txt", gzip.compress(oas_text(rows).encode()))
    table = read(path)
    assert pairs(table) == pairs_of(rows)
    assert table.schema.names == PAIR_SCHEMA.names
    assert table["id"].to_pylist() == [row["id"] for row in rows]
    assert table["donor"].unique().to_pylist() == [f"{METADATA['Author']}/{METADATA['Subject']}"]
    assert table["disease"].null_count == len(rows)  # OAS writes "None" for healthy and for unknown
    for name in ("v_call_heavy", "cdr3_light", "region_mask_heavy", "region_mask_light"):
        assert table[name].to_pylist() == [row[name] for row in rows], name
    assert table["v_identity_heavy"][0].as_py() == pytest.approx(0.975)
    assert table["record"].to_pylist() == list(range(1, 51))


def test_oas_unpaired_unit(corpus, write) -> None:
    rows = corpus[:20]
    lines = ['"{""Chain"": ""Heavy""}"', "sequence_alignment_aa,v_call,productive,cdr3_aa"]
    lines += [f"{row['heavy']},{row['v_call_heavy']},T,{row['cdr3_heavy']}" for row in rows[:10]]
    lines += [f"{row['light']},{row['v_call_light']},T,{row['cdr3_light']}" for row in rows[10:]]
    path = write("unit.csv.gz", "\n".join(lines) + "\n")
    table = read(path, chains="unpaired")
    assert table["heavy"].to_pylist() == [row["heavy"] for row in rows[:10]] + [None] * 10
    assert table["light"].to_pylist() == [None] * 10 + [row["light"] for row in rows[10:]]
    assert table["cdr3_light"].to_pylist()[10:] == [row["cdr3_light"] for row in rows[10:]]
    with pytest.raises(ValueError, match="single chains"):
        read(path)


@pytest.mark.parametrize(
    "header",
    [
        "id,heavy,light",
        "name,h_sequence,l_sequence",
        "sequence_id,sequence_aa_heavy,sequence_aa_light",
        "ID,VH,VL",
        "barcode,sequence_aa:0,sequence_aa:1",
    ],
)
def test_aliases(corpus, write, header) -> None:
    rows = corpus[:5]
    table = read(write("pairs.csv", plain_text(rows, header)))
    assert pairs(table) == pairs_of(rows)
    assert table["id"].to_pylist() == [row["id"] for row in rows]


def test_residues_win_over_nucleotides(write) -> None:
    header = "sequence_heavy,sequence_light,sequence_aa_heavy,sequence_aa_light\n"
    assert pairs(read(write("a.csv", header + "ACGT,ACGT,EVQL,DIQM\n"))) == [("EVQL", "DIQM")]


def test_named_and_extra_columns(write) -> None:
    path = write("a.tsv", "one\ttwo\tlabel\tkey\nEVQL\tDIQM\t1\tx\n")
    table = read(path, heavy_column="one", light_column="two", id_column="key", extra_columns=["label"])
    assert pairs(table) == [("EVQL", "DIQM")]
    assert (table["id"][0].as_py(), table["label"][0].as_py()) == ("x", "1")
    with pytest.raises(ValueError, match=r"a\.tsv, line 1: there is no column 'three'"):
        read(path, heavy_column="three", light_column="two")
    with pytest.raises(
        ValueError, match="light chain; name it with light_column, or read single chains as unpaired"
    ):
        read(path, heavy_column="one")


def test_single_chains_of_a_named_column(write) -> None:
    path = write("a.csv", "key,residues\nx,EVQL\n")
    table = read(path, heavy_column="residues", id_column="key", chains="unpaired")
    assert (table["heavy"].to_pylist(), table["light"].to_pylist()) == (["EVQL"], [None])


def test_pairs_give_their_single_chains(write) -> None:
    table = read(write("b.csv", "id,heavy,light\na,EVQL,DIQM\nb,ND,DIQL\nc,EVQM,\n"), chains="unpaired")
    assert table["heavy"].to_pylist() == ["EVQL", None, None, "EVQM"]
    assert table["light"].to_pylist() == [None, "DIQM", "DIQL", None]
    assert table["id"].to_pylist() == ["a_heavy", "a_light", "b", "c"]
    assert table["record"].to_pylist() == [1, 1, 2, 3]


def test_letters_are_upper_case_without_gaps(write) -> None:
    assert pairs(read(write("a.csv", "heavy,light\n ev.q-l ,DIQM\n"))) == [("EVQL", "DIQM")]


def test_airr_cells_in_any_order(corpus, write) -> None:
    rows = corpus[:40]
    lines = [
        f"{row['id']}\t{row['id']}_{chain}\t{locus}\t{row[chain]}\t{row[f'v_call_{chain}']}\tT\tIGHG1\t{row['clone']}"
        for chain, locus in (("heavy", "IGH"), ("light", "IGK"))
        for row in (rows if chain == "heavy" else rows[::-1])
    ]
    header = "cell_id\tsequence_id\tlocus\tsequence_aa\tv_call\tproductive\tc_call\tclone_id\n"
    table = read(write("airr.tsv", header + "\n".join(lines) + "\n"))
    assert pairs(table) == pairs_of(rows)
    assert table["v_call_light"].to_pylist() == [row["v_call_light"] for row in rows]
    assert table["clone"].to_pylist() == [row["clone"] for row in rows]
    assert table["isotype"].unique().to_pylist() == ["IGHG1"]


def test_airr_cells_without_a_single_partner_are_not_guessed(corpus, write) -> None:
    one, two, three = corpus[:3]
    rows = [
        ("a", "IGH", one["heavy"], "T"),
        ("a", "IGK", one["light"], "T"),
        ("a", "IGK", two["light"], "F"),  # a silenced allele takes nothing from the cell
        ("b", "IGH", two["heavy"], "T"),
        ("b", "IGH", three["heavy"], "T"),
        ("b", "IGL", two["light"], "T"),
        ("c", "IGH", three["heavy"], "T"),
    ]
    text = "cell_id,locus,sequence_aa,productive\n" + "".join(",".join(row) + "\n" for row in rows)
    table = read(write("airr.csv", text))
    complete = [pair for pair in pairs(table) if None not in pair]
    assert complete == [(one["heavy"], one["light"])]
    assert table.num_rows == len(rows) - 1


def test_airr_clones_pair_on_demand(corpus, write) -> None:
    one = corpus[0]
    text = f"clone_id,v_call,sequence_aa\n7,IGHV1-2*01,{one['heavy']}\n7,IGKV1-5*01,{one['light']}\n"
    path = write("airr.csv", text)
    with pytest.raises(
        ValueError, match=r"single chains; read them as unpaired.*or pair the chains of a clone"
    ):
        read(path)
    table = read(path, names=ColumnNames(pair_by="clone"))
    assert pairs(table) == [(one["heavy"], one["light"])]
    assert table["clone"].to_pylist() == ["7"]


def test_parquet_keeps_annotation(corpus, tmp_path) -> None:
    rows = corpus[:30]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs")
    table = read(tmp_path / "pairs")
    for name in rows[0]:
        assert table[name].to_pylist() == pytest.approx([row[name] for row in rows]), name


@pytest.mark.parametrize("joint", [True, False])
def test_fasta(corpus, write, joint) -> None:
    rows = corpus[:5]
    wrapped = [(row["id"], row["heavy"][:60] + "\n" + row["heavy"][60:], row["light"]) for row in rows]
    if joint:
        text = "".join(f">{name} note\n{heavy}/{light}\n" for name, heavy, light in wrapped)
    else:
        text = "".join(f">{name}_L\n{light}\n>{name}_H\n{heavy}\n" for name, heavy, light in wrapped)
    table = read(write("pairs.fasta.gz", text))
    assert pairs(table) == pairs_of(rows)
    assert table["id"].to_pylist() == [row["id"] for row in rows]


def test_fasta_names_what_does_not_pair(write) -> None:
    with pytest.raises(ValueError, match=r"a\.fa, line 3: 'b' \(heavy\) is not followed"):
        read(
            write(
                "a.fa",
                ">a_H\nEVQL\n>b_H\nEVQL\n>b_L\nDIQM\n".replace(">a_H\nEVQL\n", ">a\nEV/DI\n").replace(
                    "b_L", "c_L"
                ),
            )
        )
    with pytest.raises(ValueError, match=r"a\.fa, line 5: 'b' does not say which chain"):
        read(write("a.fa", ">a_H\nEVQL\n>a_L\nDIQM\n>b\nEVQL\n"))


def test_zstd_and_patterns(corpus, tmp_path) -> None:
    for number in range(3):
        with pa.CompressedOutputStream(pa.OSFile(str(tmp_path / f"part{number}.csv"), "wb"), "zstd") as file:
            file.write(plain_text(corpus[number : number + 1]).encode())
    assert pairs(read(f"{tmp_path}/part*.csv")) == pairs_of(corpus[:3])
    with pytest.raises(ValueError, match="no file matches"):
        read(f"{tmp_path}/other*.csv")
    with pytest.raises(ValueError, match="is a folder"):
        read(tmp_path)


@pytest.mark.heavy
def test_builtin_corpus_is_whole() -> None:
    table = read("builtin")
    assert table.num_rows == 20_000
    assert all(table[name].null_count == 0 for name in PAIR_SCHEMA.names)


def test_a_data_set_is_its_files(corpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for split, rows in {"train-0": corpus[:30], "train-1": corpus[30:40], "test-0": corpus[40:42]}.items():
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    assert expand_sources(f"hf://{tmp_path}") == [str(tmp_path / f"train-{n}.parquet") for n in range(2)]
    assert pairs(read(f"hf://{tmp_path}")) == pairs_of(corpus[:40])
    assert pairs(read(f"hf://{tmp_path}?split=test")) == pairs_of(corpus[40:42])
    with pytest.raises(ValueError, match="unknown option 'part'"):
        read(f"hf://{tmp_path}?part=train")
    with pytest.raises(ValueError, match="must have the split 'other'; it has train, test"):
        read(f"hf://{tmp_path}?split=other")


def test_reading_takes_constant_memory(corpus, tmp_path: Path) -> None:
    """Batches come before the file is read to its end."""
    path = tmp_path / "large.csv"
    body = "".join(plain_text(corpus).splitlines(keepends=True)[1:])
    path.write_text("id,heavy,light\n" + body * 40)
    batches = read_pairs(path)
    assert next(batches).num_rows < len(corpus) * 40 / 2
