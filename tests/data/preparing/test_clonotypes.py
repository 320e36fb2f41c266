"""Clonotypes are what a comparison of all rows with all others finds, however many there are."""

from __future__ import annotations

import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from support.pair_files import plain_text

from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.data.preparing import clonotypes, genes
from curr_ab.data.preparing.clonotypes import allowed_mismatches, close_rows
from curr_ab.data.preparing.components import settle, unite
from curr_ab.data.preparing.genes import NUM_BEFORE, are_alike, cdr3_of, gene_of


def components(num_rows, links) -> np.ndarray:
    labels = np.arange(num_rows)
    for one, other in links:
        unite(labels, one, other)
    settle(labels)
    return labels


def compared(v, j, residues, mismatches) -> np.ndarray:
    """The same by the definition: a gene that is not known (0) matches every gene."""
    links = []
    for one in range(len(v)):
        for other in range(one):
            # A J gene counts only beside a V gene.
            genes = [(v[one], v[other]), (j[one] * (v[one] > 0), j[other] * (v[other] > 0))]
            like = all(a == b or not a or not b for a, b in genes)
            if like and (residues[one] != residues[other]).sum() <= mismatches:
                links.append((np.array([one]), np.array([other])))
    return components(len(v), links)


@pytest.mark.parametrize("sort_cost", [64, 8, 0])  # mostly by comparison, by pieces, by single residues
@pytest.mark.parametrize("mismatches", [1, 2])
@pytest.mark.parametrize("genes", [(1,), (0, 1), (0, 1, 2)])
@pytest.mark.heavy
def test_close_rows(monkeypatch, genes, mismatches, sort_cost) -> None:
    monkeypatch.setattr(clonotypes, "_SORT_COST", sort_cost)
    monkeypatch.setattr(clonotypes, "_PAIRS_AT_ONCE", 700)
    draws = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        num_rows = 60
        v, j = draws.choice(np.array(genes, np.uint64), (2, num_rows))
        residues = draws.integers(65, 69, (num_rows, 6 if mismatches == 1 else 9)).astype(np.uint8)
        ours = close_rows(v, j, residues, mismatches)
        assert ours.tolist() == compared(v, j, residues, mismatches).tolist()
        seen.add(len(set(ours.tolist())))
    assert max(seen) > 2


@pytest.mark.parametrize("sort_cost", [64, 0])  # mostly by comparison, and always by sorting
@pytest.mark.heavy
def test_framework_stands_for_the_gene(monkeypatch, sort_cost) -> None:
    """All links and no others: without a V gene the residues before the CDRH3s are alike."""
    monkeypatch.setattr(clonotypes, "_SORT_COST", sort_cost)
    draws = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        num_rows = 60
        v = draws.choice(np.array((0, 0, 1, 2), np.uint64), num_rows)
        residues = draws.integers(65, 69, (num_rows, 9)).astype(np.uint8)
        kinds = draws.integers(65, 85, (4, NUM_BEFORE)).astype(np.uint8)
        before = kinds[draws.integers(0, 4, num_rows)]
        mutated = draws.random(before.shape) < draws.choice([0.0, 0.08, 0.13], (num_rows, 1))
        before[mutated] = 90
        before[draws.random(num_rows) < 0.05] = 0  # not known
        links = []
        for one in range(num_rows):
            for other in range(one):
                unknown = not before[one].any() or not before[other].any()
                alike = unknown or (before[one] == before[other]).mean() >= 0.8
                if not (v[one] and v[other]):
                    allowed = 2 if alike else -1
                elif v[one] == v[other]:
                    allowed = 2
                else:
                    allowed = 1 if alike and not unknown else -1
                if (residues[one] != residues[other]).sum() <= allowed:
                    links.append((np.array([one]), np.array([other])))
        ours = close_rows(v, np.ones_like(v), residues, 2, before)
        assert ours.tolist() == components(num_rows, links).tolist()
        seen.add(len(set(ours.tolist())))
    assert max(seen) > 2


def test_short_cdr3s_of_many_genes_stay_apart(monkeypatch) -> None:
    """Thousands of rows of one CDRH3, of which nobody compares all pairs: one clonotype for each V gene."""
    draws = np.random.default_rng(1)
    kinds = draws.integers(65, 85, (30, NUM_BEFORE)).astype(np.uint8)
    kind = draws.integers(0, 30, 6_000)
    before = kinds[kind]
    before[draws.random(before.shape) < 0.05] = 90
    residues = np.full((6_000, 5), 65, np.uint8)
    compared = []
    monkeypatch.setattr(clonotypes, "are_alike", lambda *of: compared.append(len(of[0])) or are_alike(*of))
    nothing = np.zeros(6_000, np.uint64)
    ours = close_rows(nothing, nothing, residues, 1, before)
    firsts = {name: row for row, name in reversed(list(enumerate(kind.tolist())))}
    assert ours.tolist() == [firsts[name] for name in kind.tolist()]
    assert sum(compared) < 6_000 * 30 * 10


def test_links_of_many_rows() -> None:
    """Components of random links, and of one long chain."""
    draws = np.random.default_rng(1)
    for ends in (draws.integers(0, 5_000, (2, 4_000)), np.array([range(1, 5_000), range(4_999)])):
        ours = components(
            5_000, [tuple(ends[:, part]) for part in np.split(np.arange(ends.shape[1]), [1_000])]
        )
        _, theirs = connected_components(coo_array((np.ones(ends.shape[1]), ends), (5_000, 5_000)))
        firsts = {name: row for row, name in reversed(list(enumerate(theirs.tolist())))}
        assert ours.tolist() == [firsts[name] for name in theirs.tolist()]


@pytest.mark.heavy
def test_one_gene_with_very_many_rows() -> None:
    """A bucket of which nobody could compare all pairs: 300,000 rows and a mutant of each third."""
    draws = np.random.default_rng(2)
    residues = draws.integers(65, 85, (300_000, 14)).astype(np.uint8)
    residues = np.unique(residues, axis=0)
    mutants = residues[::3].copy()
    mutants[np.arange(len(mutants)), draws.integers(0, 14, len(mutants))] = 90
    together = np.concatenate([residues, mutants])
    same = np.ones(len(together), np.uint64)
    labels = close_rows(same, same, together, 1)
    assert (labels[len(residues) :] == np.arange(0, len(residues), 3)).mean() > 0.999
    assert len(np.unique(labels)) > 0.999 * len(residues)


@pytest.mark.parametrize(
    ("call", "gene"),
    [
        ("IGHV3-23*01", "IGHV3-23"),
        ("IGHV3-23*01,IGHV3-23D*01", "IGHV3-23"),
        ("IGHV3-23D*01", "IGHV3-23"),
        ("Homsap IGHV1-69*06 F, or Homsap IGHV1-69D*01 F", "IGHV1-69"),
        ("ighv4-59", "IGHV4-59"),
        ("IGHV1/OR15-1*01", "IGHV1/OR15-1"),
        ("VH3-11 (Human)", "VH3-11"),
        ("", ""),
    ],
)
def test_gene(call, gene) -> None:
    assert gene_of(call) == gene


@pytest.mark.parametrize(
    ("cdr3", "mask", "expected"),
    [
        ("ARDY", None, ("ARDY", "cdr3")),
        ("CARDYW", None, ("ARDY", "cdr3")),
        ("ardy", "11155556666777", ("ARDY", "cdr3")),
        ("TGTGCGAGA", "11155556666777", ("ARDY", "region_mask")),
        (None, "11155556666777", ("ARDY", "region_mask")),
        (None, "1115555", ("", "")),
        (None, None, ("", "")),
    ],
)
def test_cdr3(cdr3, mask, expected) -> None:
    assert cdr3_of("EVQYYYCARDYWGQ", cdr3, mask) == expected


def test_share_of_mismatches() -> None:
    assert [allowed_mismatches(length, 0.8) for length in (1, 5, 9, 10, 15, 20)] == [1, 1, 1, 2, 3, 4]
    assert [allowed_mismatches(length, 1.0) for length in (5, 50)] == [1, 1]


def test_too_few_cdr3s(corpus, write, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(genes, "align_cdr3", lambda chain: "")
    message = r"cluster must be mmseqs or exact where the CDRH3 of fewer than 95% .* \(0 of 50 here\)"
    with pytest.raises(ValueError, match=message):
        prepare(write("a.csv", plain_text(corpus[:50])), tmp_path / "out")


def clones_of(rows) -> dict:
    return {(row["heavy"], row["light"]): row["clone"] for row in rows}


@pytest.mark.heavy
@pytest.mark.parametrize("known", ["genes", "no genes", "nothing"])
def test_families_of_the_corpus(corpus, write, tmp_path, monkeypatch, known) -> None:
    """Clones whose truth is known, by the source's annotation, by its CDRH3s, and by alignment alone."""
    truth = {row["heavy"]: row["cdr3_heavy"] for row in corpus}
    monkeypatch.setattr(genes, "align_cdr3", truth.__getitem__)
    names = {
        "genes": ["cdr3_heavy", "v_call_heavy", "j_call_heavy"],
        "no genes": ["cdr3_heavy"],
        "nothing": [],
    }
    columns = ["id", "heavy", "light", *names[known]]
    lines = [",".join(columns), *(",".join(row[name] for name in columns) for row in corpus)]
    index = prepare(write("a.csv", "\n".join(lines) + "\n"), tmp_path / "out", PreparationPlan())
    rows = [row for path in (tmp_path / "out").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    clones, clusters = clones_of(corpus), {}
    for row in rows:
        clusters.setdefault(clones[row["heavy"], row["light"]], set()).add(row["cluster"])
    whole = sum(len(labels) == 1 for labels in clusters.values()) / len(clusters)
    assert whole > 0.9
    assert len(set.union(*clusters.values())) > 0.9 * len(clusters)  # and different ones are held apart
    counted = index["report"]["clonotypes"]
    assert counted["without_v_gene"] == (0 if known == "genes" else len(rows))
    assert counted["alignment" if known == "nothing" else "cdr3"] == len(rows)
    assert index["report"]["test_pairs_with_clone_mates_in_training"] == 0


@pytest.mark.heavy
def test_corpus_by_default(tmp_path) -> None:
    report = prepare(str(builtin_path()), tmp_path / "out")["report"]
    assert report["test_pairs_with_clone_mates_in_training"] == 0
    exact = prepare(str(builtin_path()), tmp_path / "exact", PreparationPlan(cluster="exact"))["report"]
    assert exact["test_pairs_with_clone_mates_in_training"] > 100


def test_rows_without_a_gene_are_linked(corpus, write, tmp_path) -> None:
    """A pair without calls joins the clone that has them, and one with other genes does not."""
    draws = random.Random(0)
    rows = list({row["clone"]: row for row in corpus}.values())[:300]
    lines = ["id,heavy,light,cdr3_heavy,v_call_heavy,j_call_heavy"]
    for row in rows:
        cdr3 = row["cdr3_heavy"]
        place = draws.randrange(len(cdr3))
        mutant = f"{cdr3[:place]}Q{cdr3[place + 1 :]}"
        chains = f"{row['heavy']},{row['light']}", f"{row['heavy'].replace(cdr3, mutant)},{row['light']}"
        lines.append(f"{row['id']},{chains[0]},{cdr3},{row['v_call_heavy']},{row['j_call_heavy']}")
        lines.append(f"{row['id']}x,{chains[1]},{mutant},,")
    prepare(write("a.csv", "\n".join(lines) + "\n"), tmp_path / "out", PreparationPlan())
    stored = [row for path in (tmp_path / "out").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    cluster = {row["id"]: row["cluster"] for row in stored}
    assert all(cluster[row["id"]] == cluster.get(f"{row['id']}x", cluster[row["id"]]) for row in rows)
    assert len(set(cluster.values())) > 290
