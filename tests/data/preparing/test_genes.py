"""V genes that a source does not name: the nearest of the user's, else the residues before the CDRH3."""

from __future__ import annotations

import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.shapes.molecules import nucleotides

from curr_ab.data import PreparationPlan, prepare
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
@pytest.mark.heavy
def test_genes_of_a_file(germline, corpus, tmp_path, form) -> None:
    path = tmp_path / "v.fasta"
    light = ">IGKV1-5*03\n" + corpus[0]["light"] + "\n"
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
    foreign = before_cdr3(["A" * 100, corpus[0]["light"], "EVQ"], ["A", "T", ""])
    assert nearest_genes(foreign, read_v_genes(path)) == [None] * 3


@pytest.mark.heavy
def test_sources_without_genes_get_them(corpus, germline, write, tmp_path) -> None:
    rows = [row for row in corpus if row["v_call_heavy"] in germline][:120]
    rows[1:2] = [{**rows[1], "v_call_heavy": "IGHV9-9*01"}]  # the source's own word stays
    given = [{**row, "v_call_heavy": row["v_call_heavy"] * (n == 1)} for n, row in enumerate(rows)]
    text = without_calls(given, "v_call_heavy")
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
    for text in (f">IGKV1-5\n{corpus[0]['light']}\n", ">IGHJ4*02\nYFDYWGQGTLVTVSS\n"):
        with pytest.raises(ValueError, match=message):
            prepare(path, tmp_path / "out", PreparationPlan(v_genes=write(f"{len(text)}.fasta", text)))
    with pytest.raises(ValueError, match="v_genes must be a FASTA file that can be read"):
        prepare(path, tmp_path / "out", PreparationPlan(v_genes=tmp_path / "none.fasta"))
    with pytest.raises(ValueError, match="v_genes must be none for the cluster exact"):
        PreparationPlan(v_genes=tmp_path / "none.fasta", cluster="exact")
