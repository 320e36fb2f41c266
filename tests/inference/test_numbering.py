"""Numbering of chains and records, and what is built on it."""

import pyarrow.csv
import pytest
from support.tiny_models import PAIRS
from support.whole_chains import RECEPTOR

from curr_ab.cli.main import main
from curr_ab.inference.numbering import Numbering, number_chain, number_chains
from curr_ab.inference.records import number_records, records_of
from curr_ab.words import CHAIN_REGIONS

TEXT = pyarrow.csv.ConvertOptions(
    column_types={name: pyarrow.string() for name in ("id", "position", "kabat")}
)
HEAVY, LIGHT = PAIRS[0]  # trastuzumab


@pytest.fixture(scope="module")
def numbered():
    return number_chains([HEAVY, LIGHT, HEAVY[3:-2]])


def test_positions_and_regions(numbered):
    """The CDRs of trastuzumab are known."""
    for chain, one, kind, cdrs in zip(
        (HEAVY, LIGHT),
        numbered,
        "HK",
        (("GFNIKDTY", "IYPTNGYT", "SRWGGDGFYAMDY"), ("QDVNTA", "SAS", "QQHYTTPPT")),
        strict=False,
    ):
        assert one.chain_type == kind
        assert len(one.labels) == len(chain) == len(one.region_mask)
        found = [
            "".join(residue for residue, digit in zip(chain, one.region_mask, strict=True) if digit == number)
            for number in "246"
        ]
        assert tuple(found) == cdrs
    assert numbered[0].labels[HEAVY.index("C")] == "23"
    assert numbered[0].labels[-1] == "128"


def test_missing_ends(numbered):
    assert numbered[0].missing_ends() == (0, 0)
    assert numbered[1].missing_ends() == (0, 0)
    assert numbered[2].missing_ends() == (3, 2)
    # Lambda and heavy chains have no position 10.
    labels = tuple(str(number) for number in range(14, 125))
    assert Numbering(labels, "L", "").missing_ends() == (12, 3)
    assert Numbering(labels, "K", "").missing_ends() == (13, 3)


def test_no_antibody():
    with pytest.raises(ValueError, match=r"must hold one variable domain .*; got none"):
        number_chains(["MKTAYIAKQR"])
    with pytest.raises(ValueError, match=r"got that of a T-cell receptor .TRA.; leave this record out"):
        number_chain(RECEPTOR, "light")
    with pytest.raises(ValueError, match=r"antibody's heavy chain .*; got those of the chains light"):
        number_chain(LIGHT, "heavy")


def test_masks_agree_with_the_simulation(simulated):
    """The built-in corpus knows its regions from its germline genes."""
    found = [record for record, _ in number_records(record for record in simulated[:4])]
    same = total = 0
    for record, truth in zip(found, simulated, strict=False):
        for chain in ("heavy", "light"):
            pairs = list(zip(record.region_mask(chain), truth.region_mask(chain), strict=True))
            same += sum(a == b for a, b in pairs)
            total += len(pairs)
    assert same / total > 0.98


@pytest.mark.heavy
def test_tables_with_numbers(folder, tmp_path):
    path, out = tmp_path / "pair.csv", tmp_path / "out.csv"
    path.write_text(f"id,heavy,light\na,{HEAVY},{LIGHT}\n")
    options = ["--mode", "unmasked", "--number", "--quiet", "--dtype", "float32", "--out", str(out)]
    assert main(["mutate", str(folder), str(path), "--part", "CDRH3", *options]) == 0
    rows = pyarrow.csv.read_csv(out).to_pylist()
    assert list(dict.fromkeys(row["wild_type"] for row in rows[::19])) == list(dict.fromkeys("SRWGGDGFYAMDY"))
    assert rows[0]["imgt"] == 105
    assert main(["mutate", str(folder), str(path), "--part", "CDRH3", "--scheme", "kabat", *options]) == 0
    rows = pyarrow.csv.read_csv(out).to_pylist()
    assert "".join(row["wild_type"] for row in rows[::19]) == "WGGDGFYAMDY"
    assert (rows[0]["kabat"], rows[-1]["kabat"]) == ("95", "102")
    # Without a region mask and without --number, the chain is numbered for its regions.
    assert main(["mutate", str(folder), str(path), "--part", "CDRH3", *options[:2], *options[3:]]) == 0
    plain = pyarrow.csv.read_csv(out).to_pylist()
    assert "".join(row["wild_type"] for row in plain[::19]) == "SRWGGDGFYAMDY" and "imgt" not in plain[0]
    path.write_text(f"id,heavy,light\na,{HEAVY[3:-2]},{LIGHT}\n")
    options = ["--ends", "--quiet", "--dtype", "float32", "--out", str(out)]
    assert main(["restore", str(folder), str(path), *options]) == 0
    row = pyarrow.csv.read_csv(out).to_pylist()[0]
    assert row["heavy"][3:-2] == HEAVY[3:-2] and len(row["heavy"]) == len(HEAVY)
    assert list(records_of([(row["heavy"], row["light"])]))


def test_numbering_without_being_asked_is_said_once(folder, tmp_path, capsys):
    path, out = tmp_path / "pair.csv", tmp_path / "out.csv"
    path.write_text(f"id,heavy,light\na,{HEAVY},{LIGHT}\n")
    options = ["--dtype", "float32", "--device", "cpu", "--out", str(out)]
    assert main(["embed", str(folder), str(path), "--part", "CDRH3", "CDRL3", *options]) == 0
    assert capsys.readouterr().err.count("numbered by alignment (IMGT)") == 1
    assert main(["embed", str(folder), str(path), *options]) == 0
    assert "numbered" not in capsys.readouterr().err


def test_a_table_of_numbers(tmp_path):
    """A leader is cut off first, as by every command that reads the file; ids come back as they are."""
    path, out = tmp_path / "pairs.csv", tmp_path / "numbers.csv"
    path.write_text(f"id,heavy,light\nNA 1,MEFGLSWLFLVAILKGVQC{HEAVY},{LIGHT}\n")
    assert main(["number", str(path), "--out", str(out), "--scheme", "kabat"]) == 0
    rows = pyarrow.csv.read_csv(out, convert_options=TEXT).to_pylist()
    assert [row["residue"] for row in rows] == list(HEAVY + LIGHT)
    assert rows[0] == {
        "id": "NA 1",
        "chain": "heavy",
        "type": "H",
        "position": "1",
        "residue": "E",
        "kabat": "1",
        "region": "FWR1",
    }
    cdr = "".join(row["residue"] for row in rows if (row["chain"], row["region"]) == ("heavy", "CDR3"))
    assert cdr == "WGGDGFYAMDY"
    assert main(["number", str(path), "--out", str(out), "--per-record"]) == 0
    [row] = pyarrow.csv.read_csv(out, convert_options=TEXT).to_pylist()
    assert (row["type_heavy"], row["type_light"]) == ("H", "K")
    assert (row["CDRH3"], row["CDRL3"]) == ("SRWGGDGFYAMDY", "QQHYTTPPT")
    assert "".join(row[name] for name in CHAIN_REGIONS) == HEAVY + LIGHT
    path.write_text(f"id,heavy,light\nb,{HEAVY},{RECEPTOR}\n")
    assert main(["number", str(path), "--out", str(out)]) == 2


@pytest.mark.heavy
def test_numbering_is_a_bulk_command(tmp_path, capsys):
    """Bad records are all named before anything is written, or left out and listed; the rest is resumed."""
    path, out, report = tmp_path / "pairs.csv", tmp_path / "out.csv", tmp_path / "report.csv"
    rows = [f"n{n},{heavy},{light},b{n}" for n, (heavy, light) in enumerate(PAIRS[:4])]
    rows[1:1] = [f"r,{HEAVY},{RECEPTOR},x", ",,,"]
    path.write_text("\n".join(["id,heavy,light,batch", *rows, f"n0,{HEAVY},,y"]) + "\n")
    words = ["number", str(path), "--out", str(out), "--per-record", "--records-per-part", "2"]
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "3 of 7 records cannot be used: record 2 ('r'): " in error
    assert "record 3 ('3') has no chain" in error
    assert "record 7 ('n0') has the id of record 1" in error and "(--keep-going)" in error
    assert not out.exists()
    more = ["--keep-going", "--keep-columns", "batch", "--report", str(report)]
    for processes in ("1", "2"):
        assert main([*words, *more, "--processes", processes]) == 0
        found = pyarrow.csv.read_csv(out, convert_options=TEXT).to_pylist()
        assert [(row["id"], row["batch"]) for row in found] == [(f"n{n}", f"b{n}") for n in range(4)]
    outcomes = pyarrow.csv.read_csv(report).to_pylist()
    assert [row["outcome"] for row in outcomes] == [
        *("kept", "dropped", "dropped", "kept", "kept", "kept", "dropped")
    ]
    assert len(pyarrow.csv.read_csv(tmp_path / "out.skipped.csv")) == 3
