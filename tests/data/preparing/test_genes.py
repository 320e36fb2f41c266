"""V genes that a source does not name: the nearest of the user's, else the residues before the CDRH3."""

from __future__ import annotations

import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from data.preparing.test_clonotypes import components
from support.shapes.molecules import nucleotides

from curr_ab.data import PreparationPlan, prepare
from curr_ab.data.preparing import clonotypes
from curr_ab.data.preparing.clonotypes import close_rows
from curr_ab.data.preparing.genes import (
    NUM_BEFORE,
    before_cdr3,
    gene_of,
    nearest_genes,
    read_v_genes,
)


@pytest.fixture(scope="module")
def germline(corpus) -> dict[str, str]:
    """Residues of the V genes of those chains that no mutation has changed, up to the CDRH3."""
    rows = (row for row in corpus if not row["mutations_heavy"])
    return {row["v_call_heavy"]: row["heavy"][: row["region_mask_heavy"].index("6")] for row in rows}


def fasta(germline, form: str) -> str:
    draws = random.Random(0)
    lines = []
    for number, (name, residues) in enumerate(germline.items()):
        text = residues + "AR"
        if form != "residues":
            text = nucleotides(text, draws)
        if form == "gapped":
            text = text[:90].lower() + "." * 12 + text[90:].lower()
        lines.append(f">X{number}|{name}|Homo sapiens|F|V-REGION|" if form == "gapped" else f">{name}")
        lines += [text[start : start + 60] for start in range(0, len(text), 60)]
    return "\n".join(lines) + "\n"


def without_calls(rows, *columns: str) -> str:
    names = ["id", "heavy", "light", *columns]
    return "\n".join([",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]) + "\n"


@pytest.mark.parametrize("form", ["residues", "nucleotides", "gapped"])
def test_genes_of_a_file(germline, tmp_path, form) -> None:
    path = tmp_path / "v.fasta"
    light = (
        ">IGKV1-5*03\n"
        + "DIQMTQSPSTLSASVGDRVTITCRASQSISSWLAWYQQKPGKAPKLLIYKASSLESGVPSRFSGSGSGTEFTLTISSLQPDDFATYYC\n"
    )
    path.write_text(fasta(germline, form) + light * (form == "residues"))
    genes = read_v_genes(path)
    texts = [row.tobytes().decode().lstrip("\0") for row in genes.before]
    assert set(texts) == {residues[-NUM_BEFORE:] for residues in germline.values()}
    assert set(genes.names) <= {gene_of(name) for name in germline}
    assert list(genes.names) == sorted(genes.names)


def test_nearest_gene(corpus, germline, tmp_path) -> None:
    """The truth is known: 4 % of the residues are mutated on average, and some genes differ in one or two."""
    path = tmp_path / "v.fasta"
    path.write_text(fasta(germline, "residues"))
    rows = [row for row in corpus if row["v_call_heavy"] in germline]
    before = before_cdr3([row["heavy"][8:] for row in rows], [row["cdr3_heavy"] for row in rows])
    nearest = nearest_genes(before, read_v_genes(path))
    truth = [gene_of(row["v_call_heavy"]) for row in rows]
    assert np.mean([one == other for one, other in zip(nearest, truth, strict=True)]) > 0.97
    families = [(str(one)[:5], other[:5]) for one, other in zip(nearest, truth, strict=True)]
    assert np.mean([one == other for one, other in families]) > 0.999
    assert nearest_genes(
        before_cdr3(["A" * 100, corpus[0]["light"], "EVQ"], ["A", "T", ""]), read_v_genes(path)
    ) == [
        None,
        None,
        None,
    ]


def test_sources_without_genes_get_them(corpus, germline, write, tmp_path) -> None:
    rows = [row for row in corpus if row["v_call_heavy"] in germline][:120]
    rows[1:2] = [{**rows[1], "v_call_heavy": "IGHV9-9*01"}]  # the source's own word stays
    text = without_calls(
        [{**row, "v_call_heavy": row["v_call_heavy"] * (n == 1)} for n, row in enumerate(rows)],
        "v_call_heavy",
    )
    path, genes = write("a.csv", text), write("v.fasta", fasta(germline, "gapped"))
    plan = PreparationPlan(v_genes=genes)
    index = prepare(path, tmp_path / "out", plan)
    assert index["report"]["clonotypes"]["v_genes_by_alignment"] == 119
    assert index["report"]["clonotypes"]["without_v_gene"] == 0
    stored = [row for part in (tmp_path / "out").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    truth = {row["id"]: row for row in rows}
    same = [row["v_call_heavy"] == gene_of(truth[row["id"]]["v_call_heavy"]) for row in stored]
    assert sum(same) > 110
    assert all(row["cdr3_heavy"] in (None, truth[row["id"]]["cdr3_heavy"]) for row in stored)
    assert {row["v_call_heavy"] for row in stored if row["id"] == rows[1]["id"]} == {"IGHV9-9*01"}
    write("v.fasta", fasta(dict(list(germline.items())[:5]), "residues"))
    with pytest.raises(ValueError, match="other sources or settings"):
        prepare(path, tmp_path / "out", plan)


def test_files_without_genes(write, tmp_path, corpus) -> None:
    path = write("a.csv", without_calls(corpus[:20]))
    message = "v_genes must be a FASTA of germline V genes of heavy chains"
    for text in (
        ">IGKV1-5\nDIQMTQSPSTLSASVGDRVTITCRASQSISSWLAWYQQKPGKAPKLL\n",
        ">IGHJ4*02\nYFDYWGQGTLVTVSS\n",
    ):
        with pytest.raises(ValueError, match=message):
            prepare(path, tmp_path / "out", PreparationPlan(v_genes=write(f"{len(text)}.fasta", text)))
    with pytest.raises(ValueError, match="v_genes must be a FASTA file that can be read"):
        prepare(path, tmp_path / "out", PreparationPlan(v_genes=tmp_path / "none.fasta"))
    with pytest.raises(ValueError, match="v_genes must be none for the cluster exact"):
        PreparationPlan(v_genes=tmp_path / "none.fasta", cluster="exact")


@pytest.mark.parametrize("sort_cost", [64, 0])  # mostly by comparison, and always by sorting
def test_framework_stands_for_the_gene(monkeypatch, sort_cost) -> None:
    """Every link, and no other, where CDRH3s are close and, without a V gene, what is before them is alike."""
    monkeypatch.setattr(clonotypes, "_SORT_COST", sort_cost)
    draws = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        num_rows = 60
        v = draws.choice(np.array((0, 0, 1, 2), np.uint64), num_rows)
        residues = draws.integers(65, 68, (num_rows, 6)).astype(np.uint8)
        kinds = draws.integers(65, 85, (4, NUM_BEFORE)).astype(np.uint8)
        before = kinds[draws.integers(0, 4, num_rows)]
        mutated = draws.random(before.shape) < draws.choice([0.0, 0.08, 0.13], (num_rows, 1))
        before[mutated] = 90
        before[draws.random(num_rows) < 0.05] = 0  # not known
        links = []
        for one in range(num_rows):
            for other in range(one):
                share = (before[one] == before[other]).mean()
                like = share >= 0.8 or not before[one].any() or not before[other].any()
                if v[one] and v[other]:
                    like = v[one] == v[other]
                if like and (residues[one] != residues[other]).sum() <= 1:
                    links.append((np.array([one]), np.array([other])))
        ours = components(num_rows, close_rows(v, np.ones_like(v), residues, 1, before))
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
    monkeypatch.setattr(clonotypes, "are_alike", lambda *of: compared.append(len(of[0])) or ALIKE(*of))
    nothing = np.zeros(6_000, np.uint64)
    ours = components(6_000, close_rows(nothing, nothing, residues, 1, before))
    firsts = {name: row for row, name in reversed(list(enumerate(kind.tolist())))}
    assert ours.tolist() == [firsts[name] for name in kind.tolist()]
    assert sum(compared) < 6_000 * 30 * 10


ALIKE = clonotypes.are_alike
