"""The likeliest mistakes of a new user each end in one line with the file, the place and the way out."""

from __future__ import annotations

import gzip
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.shapes.drawing import Draw
from support.shapes.molecules import T_CELL_RECEPTORS, Chain, nucleotides
from support.shapes.writing import fasta_text, table_text, write, write_excel

from curr_ab.cli.main import main

Chains = Sequence[tuple[Chain, Chain]]
Arguments = list[str]


@dataclass(frozen=True)
class Mistake:
    """What is given to `prepare`, and what its one line must say, in any order."""

    make: Callable[[Chains, Path], Arguments]
    says: tuple[str, ...]  # patterns: the place, what is wrong, the way out


MISTAKES: dict[str, Mistake] = {}


def mistake(*says: str) -> Callable[[Callable[[Chains, Path], Arguments]], None]:
    def register(make: Callable[[Chains, Path], Arguments]) -> None:
        MISTAKES[make.__name__] = Mistake(make, says)

    return register


def table(path: Path, pairs: Chains, header: str = "id,heavy,light") -> list[str]:
    lines = [header] + [f"m{n},{heavy.residues},{light.residues}" for n, (heavy, light) in enumerate(pairs)]
    return [str(write(path, "\n".join(lines) + "\n"))]


@mistake(r"a\.csv", "line 1", "first", "second", "--heavy-column", "--light-column")
def columns_with_names_that_say_nothing(pairs, folder):
    # Swapped chains decide nothing either: half of the rows have the heavy chain first.
    records = [
        {"first": one.residues, "second": two.residues}
        for one, two in (pair[:: 1 if n % 2 else -1] for n, pair in enumerate(pairs))
    ]
    return [str(write(folder / "a.csv", table_text(["first", "second"], records)))]


@mistake(r"a\.csv", "line 1", "'VH'", "id, heavy, light", "--heavy-column")
def a_named_column_that_is_not_there(pairs, folder):
    return [*table(folder / "a.csv", pairs), "--heavy-column", "VH", "--light-column", "light"]


@mistake("heavy", "--heavy-column", "--light-column")
def the_same_column_for_both_chains(pairs, folder):
    return [*table(folder / "a.csv", pairs), "--heavy-column", "heavy", "--light-column", "heavy"]


@mistake(r"a\.csv", "heavy", "--unpaired")
def only_light_chains(pairs, folder):
    records = [{"id": n, "light": light.residues} for n, (_, light) in enumerate(pairs)]
    return [str(write(folder / "a.csv", table_text(["id", "light"], records)))]


@mistake("nucleotides|stop_codon|stop codon")
def genes_in_the_columns_of_residues(pairs, folder):
    """Out of frame, so that they cannot simply be translated."""
    rng = Draw("genes", 0).rng
    records = [
        {
            "VH": "A" + nucleotides(heavy.residues[:40] + "*", rng),
            "VL": nucleotides("*" + light.residues[:40], rng),
        }
        for heavy, light in pairs
    ]
    return [str(write(folder / "a.csv", table_text(["VH", "VL"], records)))]


@mistake("wrong_chain", "heavy", "light")
def swapped_columns(pairs, folder):
    return table(folder / "a.csv", pairs, "id,light,heavy")


@mistake(r"paper\.pdf", "PDF (file|document)|a PDF", "table|CSV|Excel|export|text")
def a_pdf(pairs, folder):
    return [
        str(
            write(
                folder / "paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n"
            )
        )
    ]


@mistake(r"table\.docx", "(?i)word|zip|document", "CSV|Excel|export|text|sheet")
def a_word_document(pairs, folder):
    path = write_excel(folder / "table.docx", {"x": [["x"]]})
    path.write_bytes(path.read_bytes().replace(b"xl/", b"wd/"))
    return [str(path)]


@mistake(r"book\.xlsx", "sheet", "Readme|Plan")
def a_workbook_without_sequences(pairs, folder):
    return [
        str(
            write_excel(folder / "book.xlsx", {"Readme": [["nothing", "here"]], "Plan": [["a", 1], ["b", 2]]})
        )
    ]


@mistake(r"book\.xlsx", "Table 9", "sheet", "Table 1", "--sheet")
def a_sheet_that_is_not_there(pairs, folder):
    rows = [["id", "heavy", "light"], *(["m", heavy.residues, light.residues] for heavy, light in pairs)]
    path = write_excel(folder / "book.xlsx", {"Table 1": rows})
    return [str(path), "--sheet", "Table 9"]


@mistake(r"a\.csv\.gz", r"line \d+", "damaged|cut off")
def a_gzip_that_is_cut_off(pairs, folder):
    (path,) = table(folder / "a.csv", pairs)
    whole = gzip.compress(Path(path).read_bytes())
    (folder / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    return [str(folder / "a.csv.gz")]


@mistake("folder", r"\*")
def a_folder(pairs, folder):
    table(folder / "files" / "a.csv", pairs)
    return [str(folder / "files")]


@mistake(r"mising\.csv", "no file")
def a_name_that_is_misspelt(pairs, folder):
    table(folder / "missing.csv", pairs)
    return [str(folder / "mising.csv")]


@mistake("(?i)t.cell|TCR")
def t_cell_receptors_in_pairs(pairs, folder):
    records = [{"heavy": T_CELL_RECEPTORS["TRB"][n:], "light": T_CELL_RECEPTORS["TRA"][n:]} for n in range(6)]
    return [str(write(folder / "a.csv", table_text(["heavy", "light"], records)))]


@mistake("(?i)t.cell|TCR|TR[AB]")
def t_cell_receptors_in_cells(pairs, folder):
    records = [
        {
            "cell_id": n,
            "sequence_id": f"{n}_{locus}",
            "locus": locus,
            "sequence_aa": residues,
            "productive": "T",
        }
        for n in range(6)
        for locus, residues in T_CELL_RECEPTORS.items()
    ]
    return [str(write(folder / "tcr.tsv", table_text(list(records[0]), records, delimiter="\t")))]


@mistake(r"a\.fasta", "heavy", "--unpaired")
def a_fasta_of_heavy_chains(pairs, folder):
    text = fasta_text((f"m{n}", heavy.residues) for n, (heavy, _) in enumerate(pairs))
    return [str(write(folder / "a.fasta", text))]


@mistake(r"a\.fasta", r"m3_heavy|m3", "light|other chain")
def a_fasta_that_lacks_a_chain(pairs, folder):
    records = [(f"m{n}_{chain.kind}", chain.residues) for n, pair in enumerate(pairs) for chain in pair]
    return [
        str(write(folder / "a.fasta", fasta_text(record for record in records if record[0] != "m3_light")))
    ]


@mistake(r"a\.csv", "line 1", "header")
def a_table_without_a_header(pairs, folder):
    lines = [f"m{n},{heavy.residues},{light.residues}" for n, (heavy, light) in enumerate(pairs)]
    return [str(write(folder / "a.csv", "\n".join(lines) + "\n"))]


@mistake("XYZ|locus")
def a_locus_that_is_unknown(pairs, folder):
    records = [
        {"cell_id": n, "sequence_id": f"{n}_{chain.kind}", "locus": "XYZ", "sequence_aa": "MKTAYIAKQR" * 10}
        for n, pair in enumerate(pairs)
        for chain in pair
    ]
    return [str(write(folder / "a.tsv", table_text(list(records[0]), records, delimiter="\t")))]


@mistake(r"a\.csv", "line 1", "heavy", "(?i)twice|repeat|more than one|differ", "rename|2 and 4")
def a_column_that_stands_there_twice(pairs, folder):
    lines = ["id,heavy,light,heavy"]
    lines += [
        f"m{n},{heavy.residues},{light.residues},{heavy.residues}" for n, (heavy, light) in enumerate(pairs)
    ]
    return [str(write(folder / "a.csv", "\n".join(lines) + "\n"))]


@mistake(r"a\.csv", "empty")
def an_empty_file(pairs, folder):
    return [str(write(folder / "a.csv", ""))]


@mistake(r"a\.csv|source", "no records|no usable record")
def a_header_alone(pairs, folder):
    return [str(write(folder / "a.csv", "id,heavy,light\n"))]


@mistake(r"sabdab_summary\.tsv", "line 1", "no sequence column", "pdb, Hchain, Lchain", "--heavy-column")
def structures_with_the_letters_of_their_chains(pairs, folder):
    records = [{"pdb": f"{n}abc", "Hchain": "H", "Lchain": "L", "resolution": 2.1} for n in range(12)]
    return [str(write(folder / "sabdab_summary.tsv", table_text(list(records[0]), records, delimiter="\t")))]


@mistake("donor", "--group-by-donor")
def group_by_donor_without_donors(pairs, folder):
    return [*table(folder / "a.csv", pairs), "--group-by-donor"]


@mistake(r"a\.csv", "light chain", "--light-column", "--unpaired")
def one_column_named_where_the_other_holds_no_chain(pairs, folder):
    records = [{"id": n, "one": heavy.residues, "two": "VL3-1"} for n, (heavy, _) in enumerate(pairs)]
    return [str(write(folder / "a.csv", table_text(list(records[0]), records))), "--heavy-column", "one"]


@mistake(r"run\.out", "no sequence|no column|sequences", "--heavy-column|CSV|table")
def a_log_for_a_table(pairs, folder):
    return [
        str(write(folder / "run.out", "2026-01-01 12:00:00 INFO started\n2026-01-01 12:00:01 INFO done\n"))
    ]


@mistake(r"cells\.csv", r"filtered_contig\.fasta|FASTA|fasta")
def annotations_without_their_contigs(pairs, folder):
    records = [
        {
            "barcode": f"ACGTACGTACGTACG{'ACGT'[n % 4]}-{n}",
            "is_cell": "True",
            "contig_id": f"ACGT-{n}_contig_{chain.kind}",
            "high_confidence": "True",
            "chain": chain.locus,
            "v_gene": chain.v_call,
            "productive": "True",
            "cdr3": chain.junction,
            "cdr3_nt": "TGT",
            "umis": 9,
        }
        for n, pair in enumerate(pairs)
        for chain in pair
    ]
    return [str(write(folder / "cells.csv", table_text(list(records[0]), records)))]


@mistake(r"a\.csv", r"line 9\b", "3")
def a_row_that_is_too_short(pairs, folder):
    (path,) = table(folder / "a.csv", pairs)
    lines = Path(path).read_text().splitlines()
    lines[8] = lines[8].rpartition(",")[0]
    return [str(write(Path(path), "\n".join(lines) + "\n"))]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_in_one_line(name, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    made = MISTAKES[name]
    arguments = made.make(Draw(name, 0).pairs(12), tmp_path)
    command = ["data", "prepare", *arguments, "--out", str(tmp_path / "out"), "--cluster", "exact"]
    try:
        code = main([*command, "--test", "1", "--validation", "1", "--processes", "1", "--quiet"])
    except SystemExit as stopped:  # of the parser, which prints its usage line first
        code = stopped.code
    said = capsys.readouterr().err
    assert code == 2
    lines = [line for line in said.splitlines() if line.startswith("curr-ab")]
    assert len(lines) == said.count("\n") == 1, said
    said = said.replace(f"{tmp_path}/", "")  # whose name has words of its own
    assert [pattern for pattern in made.says if not re.search(pattern, said)] == [], said
    assert "Traceback" not in said and "iconv" not in said
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_what_the_content_decides_is_no_mistake(tmp_path, capsys) -> None:
    """One column named of two, and single chains of a FASTA with pairs."""
    pairs = Draw("what the content decides", 0).pairs(12)
    (path,) = table(tmp_path / "a.csv", pairs, "id,one,two")
    records = [(f"m{n}_{chain.kind}", chain.residues) for n, pair in enumerate(pairs) for chain in pair]
    fasta = write(tmp_path / "a.fa", fasta_text(records))
    for arguments, kept in (
        ([path, "--heavy-column", "one"], "12 of 12"),
        ([fasta, "--unpaired"], "24 of 24"),
    ):
        command = [
            "data",
            "prepare",
            *map(str, arguments),
            "--out",
            str(tmp_path / kept),
            "--cluster",
            "exact",
        ]
        assert main([*command, "--test", "1", "--validation", "1", "--processes", "1"]) == 0
        assert f"{kept} records kept" in capsys.readouterr().out


def test_the_command_that_is_given_ready_runs(tmp_path, capsys) -> None:
    """For swapped columns, and for a table with one kind of chain alone."""
    pairs = Draw("ready commands", 0).pairs(12)
    (swapped,) = table(tmp_path / "swapped table.csv", pairs, "id,light,heavy")
    records = [{"id": n, "light": light.residues} for n, (_, light) in enumerate(pairs)]
    alone = write(tmp_path / "alone.csv", table_text(["id", "light"], records))
    for number, path in enumerate((swapped, str(alone))):
        command = ["data", "prepare", path, "--out", str(tmp_path / f"out {number}"), "--cluster", "exact"]
        assert main([*command, "--test", "1", "--validation", "1", "--processes", "1"]) == 2
        _, _, ready = capsys.readouterr().err.partition("; for example: ")
        words = shlex.split(ready)
        assert main(words[1:]) == 0
        assert "12 of 12 records kept" in capsys.readouterr().out
