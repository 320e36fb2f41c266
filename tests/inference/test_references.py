"""References: the nearest gene by hand, and the nearest chain as a search of all pairs finds it."""

import random

import numpy as np
import pytest
from support.tiny_models import PAIRS
from support.v_genes import HEAVY, LAMBDA

from curr_ab.inference import references
from curr_ab.inference.records import records_of
from curr_ab.inference.references import Natural, edit_distances, read_references
from curr_ab.inference.settings import ReferenceOptions


def levenshtein(one, other):
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, start=1):
        row, before = [number], row
        for place, own in enumerate(other, start=1):
            row.append(min(row[-1] + 1, before[place] + 1, before[place - 1] + (letter != own)))
    return row[-1]


def test_nearest_gene(v_genes):
    heavy = HEAVY.replace("SSYAMS", "SWYAMS") + "DYWGQGTLVTVSS"
    light = LAMBDA[3:] + "VFGGGTKLTVL"  # truncated: what is missing is no difference
    columns = read_references(ReferenceOptions(v_genes=(v_genes,))).columns(
        list(records_of([(heavy, light)]))
    )
    assert columns["v_gene_heavy"] == ["IGHV3-23"] and columns["v_gene_light"] == ["IGLV1-40"]
    assert columns["germline_identity_heavy"] == [1 - 1 / 96]
    assert columns["germline_identity_light"] == [1.0]
    assert set(columns) == {
        f"{stem}_{chain}" for stem in ("v_gene", "germline_identity") for chain in ("heavy", "light")
    }


def test_differences_and_residues_of_the_germline(v_genes):
    germline = read_references(ReferenceOptions(v_genes=(v_genes,))).germline
    heavy = HEAVY.replace("SSYAMS", "SWYAMS") + "DYWGQGTLVTVSS"
    assert germline.distances([heavy], "heavy") == [1]
    residues = germline.residues(heavy, "heavy")
    assert "".join(residues) == HEAVY[:96] and residues[96:] == [""] * (len(heavy) - 96)


def test_edit_distances():
    draw = random.Random(0)
    texts = ["".join(draw.choices("ACD", k=draw.randint(1, 12))) for _ in range(60)]
    letters = np.array([list(text.ljust(12, "\0").encode()) for text in texts], np.uint8)
    lengths = np.array([*map(len, texts)])
    for query in texts[:20]:
        assert edit_distances(query, letters, lengths).tolist() == [levenshtein(query, one) for one in texts]


def test_nearest_chain_is_that_of_all_pairs(simulated, monkeypatch):
    monkeypatch.setattr(references, "_FIRST_LOOK", 1)
    draw = random.Random(1)
    natural = Natural(
        (one.id, chain, one.chain(chain)) for one in simulated[:40] for chain in ("heavy", "light")
    )
    for chain in ("heavy", "light"):
        queries = [one.chain(chain) for one in simulated[30:60]]
        for text in [*queries]:  # with insertions, deletions and substitutions
            for _ in range(draw.randint(1, 25)):
                place = draw.randrange(len(text))
                text = text[:place] + draw.choice(["", "A", "WY"]) + text[place + 1 :]
            queries.append(text)
        for query, found in zip(queries, natural.nearest(queries, chain), strict=True):
            shares = {
                one.id: 1 - levenshtein(query, one.chain(chain)) / max(len(query), len(one.chain(chain)))
                for one in simulated[:40]
            }
            assert found.identity == pytest.approx(max(shares.values()))
            assert shares[found.name] == pytest.approx(found.identity)
    assert natural.nearest([None, simulated[0].heavy], "heavy")[1] == (simulated[0].id, 1.0)


def test_natural_chains_of_a_file(tmp_path):
    path = tmp_path / "natural.csv"
    path.write_text(
        "id,heavy,light\n"
        + "".join(f"a{number},{heavy},{light}\n" for number, (heavy, light) in enumerate(PAIRS[:3]))
    )
    found = read_references(ReferenceOptions(natural=(str(path),)))
    columns = found.columns(list(records_of([PAIRS[1], PAIRS[3]])))
    assert columns["nearest_heavy"][0] == "a1_heavy" and columns["nearest_identity_light"][0] == 1.0
    assert columns["nearest_identity_heavy"][1] < 1
    assert tuple(columns) == found.names()


@pytest.mark.parametrize("name", ["v_genes", "natural"])
def test_files_that_are_none(tmp_path, name):
    (tmp_path / "odd.fasta").write_text(">x\nAAAA\n" if name == "v_genes" else "no table")
    with pytest.raises(ValueError, match=f"{name} must be .*odd.fasta"):
        read_references(ReferenceOptions(**{name: (str(tmp_path / "odd.fasta"),)}))
