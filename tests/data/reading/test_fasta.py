"""FASTA: pairs under the names in use, and single sequences."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curr_ab.data import MalformedSource, read_pairs
from curr_ab.data.reading.formats import open_table

HEAVY, LIGHT = "EVQLVESGGGLVQPGG", "DIQMTQSPSSLSASVG"


def rows(path: str) -> list[tuple[Any, ...]]:
    table = open_table(path)
    assert table.form == "FASTA"
    return [tuple(row.values()) for batch in table.read(table.names) for row in batch.to_pylist()]


def text_of(names: list[tuple[str, str]]) -> str:
    return "".join(
        f">{heavy}\n{HEAVY[:8]}\n{HEAVY[8:]}{number % 10 * 'A'}\n>{light}\n{LIGHT}{number % 10 * 'A'}\n"
        for number, (heavy, light) in enumerate(names)
    )


@pytest.mark.parametrize(
    ("heavy", "light"),
    [
        ("{}_heavy", "{}_light"),
        ("{}_H", "{}_L"),
        ("{}|VH", "{}|VL"),
        ("{}-HC", "{}-LC"),
        ("{}:H", "{}:L"),
        ("{}_heavy_chain", "{}_kappa"),
        ("{}.IGH", "{}.IGK"),
        ("{}_VH", "{}_VK"),
        ("heavy_chain_{}", "light_chain_{}"),
        ("heavy_{}", "kappa_{}"),
        ("VH|{}", "VL|{}"),
        ("{}|VH|IGHV1-2*01", "{}|VL|IGKV1-5*01"),
        ("{} heavy chain", "{} light chain"),
        ("{} Fab, heavy chain, human", "{} Fab, lambda chain, human"),
        ("{} VH", "{} VL"),
    ],
)
@pytest.mark.parametrize("order", ["adjacent", "light first", "all heavy, then all light"])
def test_names_that_say_the_chain(write, heavy, light, order) -> None:
    ids = [f"ab{number}-x.{number}" for number in range(5)]
    records = text_of([(heavy.format(name), light.format(name)) for name in ids]).split(">")[1:]
    if order == "light first":
        records = [records[place + 1 - 2 * (place % 2)] for place in range(len(records))]
    elif order != "adjacent":
        records = records[::2] + records[1::2]
    found = rows(write("a.fasta", "".join(f">{record}" for record in records)))
    assert found == [(name, HEAVY + "A" * number, LIGHT + "A" * number) for number, name in enumerate(ids)]


def test_pdb(write) -> None:
    text = (
        f">1ABC_1|Chain A[auth H]|Fab heavy chain|Homo sapiens (9606)\n{HEAVY}\n"
        f">1ABC_2|Chain B[auth L]|Fab light chain|Homo sapiens (9606)\n{LIGHT}\n"
        f">1ABC_3|Chain C|Spike protein|virus\nMFVFL\n"
        f">2XYZ_1|Chain H|IgG|Homo sapiens\n{HEAVY}\n>2XYZ_2|Chain L|IgG|Homo sapiens\n{LIGHT}\n"
    )
    assert rows(write("a.fasta", text)) == [("1ABC", HEAVY, LIGHT), ("2XYZ", HEAVY, LIGHT)]


@pytest.mark.parametrize("joint", ["/", ":", "|", "[SEP]", " [SEP] ", "<cls><cls>"])
def test_both_chains_in_a_record(write, joint) -> None:
    assert rows(write("a.fasta", f">a note\n{HEAVY}{joint}{LIGHT}\n")) == [("a", HEAVY, LIGHT)]


@pytest.mark.parametrize(
    "names",
    [
        ["AACTCCCAGGCTAGGT-1_contig_1", "AACTCCCAGGCTAGGT-1_contig_2"],
        ["sp|P01857|IGHG1_HUMAN", "sp|P01834|IGKC_HUMAN"],
        ["a_VH", "b_VH"],  # heavy chains alone
        ["X62106.1 mRNA for heavy chain, clone 1", "X62107.1 mRNA for light chain, clone 2"],
        ["7T0J_1|Chains A, B|Spike|virus"],
    ],
)
def test_single_sequences(write, names) -> None:
    table = open_table(write("a.fasta", "".join(f">{name}\nacgt acgt\nACGT\n" for name in names)))
    assert table.names == ("id", "sequence")
    assert rows(table.source) == [(name.split()[0], "acgtacgtACGT") for name in names]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_newlines_and_encodings(write, newline, encoding) -> None:
    text = newline.join([">a_H", HEAVY, ">a_L", LIGHT[:5], LIGHT[5:], ""])
    assert rows(write("a.fasta", text.encode(encoding))) == [("a", HEAVY, LIGHT)]


def test_what_does_not_pair(write) -> None:
    with pytest.raises(
        MalformedSource, match=r"a\.fa, line 5: 'b' \(heavy\) is not followed by its other chain"
    ):
        rows(
            write(
                "a.fa", text_of([("a_H", "a_L")]).replace("EVQLVESG\n", "EVQLVESG") + ">b_H\nEV\n>b_H\nEV\n"
            )
        )
    with pytest.raises(MalformedSource, match=r"a\.fa, line 6: the record must have a name after '>'"):
        rows(write("a.fa", text_of([("a_H", "a_L")]) + ">\nEV\n"))


def test_chains_without_a_partner_in_the_other_file_stay(write) -> None:
    heavy = write("x_heavy.fa", ">a\nEVQA\n>b\nEVQB\n>c\nEVQC\n")
    light = write("x_light.fa", ">b\nDIQB\n>d\nDIQD\n>a\nDIQA\n>a\nDIQE\n")
    rows = pa.Table.from_batches(read_pairs([light, heavy])).select(["id", "heavy", "light"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("a", "EVQA", "DIQA"),
        ("b", "EVQB", "DIQB"),
        ("c", "EVQC", None),
        ("d", None, "DIQD"),
        ("a", None, "DIQE"),
    ]
    single = pa.Table.from_batches(read_pairs([heavy, light], chains="unpaired"))
    assert sum(single[chain].null_count for chain in ("heavy", "light")) == 7 == len(single)
