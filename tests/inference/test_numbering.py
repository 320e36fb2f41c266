"""IMGT numbering, offline, and what is built on it."""

import pyarrow.csv
import pytest
from support.tiny_models import PAIRS

from curr_ab.cli.main import main
from curr_ab.inference.numbering import Numbering, number_chains, number_records
from curr_ab.inference.records import records_of

HEAVY, LIGHT = PAIRS[0]  # trastuzumab


@pytest.fixture(scope="module")
def numbered():
    return number_chains([HEAVY, LIGHT, HEAVY[3:-2]])


@pytest.mark.heavy
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


@pytest.mark.heavy
def test_missing_ends(numbered):
    assert numbered[0].missing_ends() == (0, 0)
    assert numbered[1].missing_ends() == (0, 0)
    assert numbered[2].missing_ends() == (3, 2)
    # Lambda and heavy chains have no position 10.
    labels = tuple(str(number) for number in range(14, 125))
    assert Numbering(labels, "L").missing_ends() == (12, 3)
    assert Numbering(labels, "K").missing_ends() == (13, 3)


def test_no_antibody():
    with pytest.raises(ValueError, match="cannot be numbered"):
        number_chains(["MKTAYIAKQR"])


@pytest.mark.heavy
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
    path.write_text(f"id,heavy,light\na,{HEAVY[3:-2]},{LIGHT}\n")
    options = ["--ends", "--quiet", "--dtype", "float32", "--out", str(out)]
    assert main(["restore", str(folder), str(path), *options]) == 0
    row = pyarrow.csv.read_csv(out).to_pylist()[0]
    assert row["heavy"][3:-2] == HEAVY[3:-2] and len(row["heavy"]) == len(HEAVY)
    assert list(records_of([(row["heavy"], row["light"])]))
