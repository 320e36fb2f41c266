"""JSON of AIRR, of Cell Ranger and of data frames."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from support.pair_files import METADATA, oas_text, pairs_of

from curr_ab.data import MalformedSource, read_pairs
from curr_ab.data.reading import json_records
from curr_ab.data.reading.formats import open_table


def rows(path: str) -> list[dict[str, Any]]:
    table = open_table(path)
    return [row for batch in table.read(table.names) for row in batch.to_pylist()]


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(json_records, "_CHUNK", 5)


def pair_rows(corpus: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{name: row[name] for name in ("id", "heavy", "light")} for row in corpus]


@pytest.mark.parametrize("form", ["records", "lines", "columns", "lists", "split", "table", "object", "one"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("small", [False, True])
def test_records_however_written(corpus, write, request, form, indent, small) -> None:
    if small:
        request.getfixturevalue("small_chunks")
    expected = pair_rows(corpus[:1] if form == "one" else corpus[:7])
    frame = pd.DataFrame(expected)
    if form == "lines":
        text = "\n".join(json.dumps(row) for row in expected) + "\n"
    elif form == "lists":
        text = json.dumps(frame.to_dict("list"), indent=indent)
    elif form == "object":
        text = json.dumps({"version": {"tool": "1"}, "data": expected}, indent=indent)
    elif form == "one":
        text = json.dumps(expected[0], indent=indent)
    elif form == "table":
        text = json.dumps(json.loads(frame.to_json(orient="table", index=False)), indent=indent)
    else:
        text = json.dumps(json.loads(frame.to_json(orient=form)), indent=indent)
    assert rows(write("a.json.gz", text)) == expected


def test_airr_rearrangements(corpus, write) -> None:
    lists = [
        {"sequence_id": f"{row['id']}_{chain}", "cell_id": row["id"], "locus": locus, "productive": True,
         "sequence_aa": row[chain], "v_call": row[f"v_call_{chain}"], "v_identity": 0.9751, "rev_comp": None}
        for row in corpus[:20]
        for chain, locus in (("heavy", "IGH"), ("light", "IGK"))
    ]  # fmt: skip
    airr = {"Info": {"title": "x"}, "Repertoire": [{"repertoire_id": "1"}], "Rearrangement": lists}
    path = write("airr.json", json.dumps(airr, indent=1))
    table = open_table(path)
    assert set(table.names) == set(lists[0])
    first = rows(path)[0]
    assert (first["v_identity"], first["productive"], first["rev_comp"]) == ("0.9751", "true", None)
    batch = next(read_pairs(path))
    assert list(zip(batch["heavy"].to_pylist(), batch["light"].to_pylist(), strict=True)) == pairs_of(
        corpus[:20]
    )
    with pytest.raises(
        MalformedSource, match="must hold a list of records, such as Rearrangement; it holds Info, Repertoire"
    ):
        rows(write("other.json", json.dumps({"Info": {}, "Repertoire": [{"repertoire_id": "1"}]})))


def contig(name: str, chain: str, version: int) -> dict[str, Any]:
    def annotation(kind: str, gene: str) -> dict[str, Any]:
        feature = {
            "chain": chain,
            "display_name": gene,
            "feature_id": 7,
            "gene_name": gene,
            "region_type": kind,
        }
        return {"annotation_length": 300, "annotation_match_start": 0, "cigar": "19S300M", "feature": feature}

    genes = [("5'-UTR", "V"), ("L-REGION+V-REGION", "V1-2"), ("J-REGION", "J4"), ("C-REGION", "C1")]
    found = {
        "aa_sequence": "MDWTWEVQLVESGG",
        "annotations": [annotation(kind, f"{chain}{gene}") for kind, gene in genes],
        "barcode": "AAACCTG-1",
        "cdr3": "CARDYW",
        "cdr3_seq": "TGTGCGAGAGACTACTGG",
        "clonotype": None,
        "contig_name": name,
        "filtered": True,
        "frame": 0,
        "high_confidence": True,
        "info": {"raw_clonotype_id": "clonotype1", "raw_consensus_id": "clonotype1_consensus_1"},
        "is_cell": True,
        "productive": True,
        "quals": "IIII",
        "read_count": 2887,
        "sequence": "ACGTACGT",
        "umi_count": 16,
    }
    if version > 4:
        found |= {
            region: {"start": 1, "stop": 2, "nt_seq": f"{region}nt", "aa_seq": f"{region}aa"}
            for region in ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "fwr4")
        }
    return found


@pytest.mark.parametrize("version", [3, 7])
@pytest.mark.parametrize("indent", [None, 4])
def test_contigs_of_cell_ranger(write, small_chunks, version, indent) -> None:
    contigs = [contig("AAACCTG-1_contig_1", "IGH", version), contig("AAACCTG-1_contig_2", "IGK", version)]
    contigs[1]["annotations"].append(contigs[0]["annotations"][3])  # a chain of two loci
    path = write("all_contig_annotations.json", json.dumps(contigs, indent=indent))
    assert open_table(path).form == "Cell Ranger JSON"
    first, second = rows(path)
    expected = {
        "barcode": "AAACCTG-1", "is_cell": "true", "contig_id": "AAACCTG-1_contig_1",
        "high_confidence": "true", "length": "8", "chain": "IGH", "v_gene": "IGHV1-2", "d_gene": None,
        "j_gene": "IGHJ4", "c_gene": "IGHC1",
        "full_length": None, "productive": "true", "cdr3": "CARDYW", "cdr3_nt": "TGTGCGAGAGACTACTGG",
        "reads": "2887", "umis": "16", "raw_clonotype_id": "clonotype1",
        "raw_consensus_id": "clonotype1_consensus_1", "aa_sequence": "MDWTWEVQLVESGG", "sequence": "ACGTACGT",
    }  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert first.get("fwr1") == ("fwr1aa" if version > 4 else None)
    assert first.get("fwr4_nt") == ("fwr4nt" if version > 4 else None)
    assert second["chain"] == "Multi"


def test_numbers_stay_as_they_are_written(write) -> None:
    path = write("a.json", '[{"id": 1.50, "heavy": "EV", "light": "DI", "n": ' + "1" * 5_000 + "}]")
    assert (rows(path)[0]["id"], len(rows(path)[0]["n"])) == ("1.50", 5_000)


def test_damaged_json(corpus, write) -> None:
    whole = json.dumps(pair_rows(corpus[:5]), indent=1)
    for text, problem in (
        (whole[: len(whole) // 2], r"a\.json, line \d\d: the JSON is damaged or cut off"),
        (
            whole.replace('"light"', "light", 1),
            r"a\.json, line 5: the JSON is damaged or cut off: Expecting prop",
        ),
        ("[[1, 2], [3, 4]]", r"a\.json, line 1: a record must be an object with names; got "),
        ('[{"heavy": ' + "[" * 100_000, r"a\.json, line 1: .*nested too deeply"),
        (
            '{"heavy": ["EV", "EI"], "light": ["DI"]}',
            r"a\.json: the columns of the JSON must be equally long",
        ),
    ):
        with pytest.raises(MalformedSource, match=problem) as failure:
            rows(write("a.json", text))
        assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("last", "problem"),
    [('["EV", "DI"]', "a record must be an object"), ('{"id": none}', "the JSON is damaged")],
)
def test_the_line_of_an_error_behind_several_reads(corpus, write, small_chunks, last, problem) -> None:
    lines = [*map(json.dumps, pair_rows(corpus[:20])), last]
    with pytest.raises(MalformedSource, match=rf"a\.json, line 21: {problem}"):
        rows(write("a.json", "\n".join(lines) + "\n"))


def test_lists_as_chains(write) -> None:
    with pytest.raises(
        MalformedSource, match="column 'heavy' must hold sequences as text; it holds lists or objects"
    ):
        list(read_pairs(write("a.json", '[{"heavy": ["E"], "light": "DI"}]')))


def test_metadata_of_oas_is_no_json_file(corpus, write) -> None:
    table = open_table(write("unit.csv", oas_text(corpus[:3], json.dumps(METADATA))))
    assert (table.form, table.metadata) == ("CSV", METADATA)


def test_memory_holds_one_record(write, monkeypatch) -> None:
    monkeypatch.setattr(json_records, "_CHUNK", 100)
    largest = 0
    original = json_records._Values._more

    def more(self: Any) -> bool:
        nonlocal largest
        going_on = original(self)
        largest = max(largest, len(self._letters))
        return going_on

    monkeypatch.setattr(json_records._Values, "_more", more)
    text = json.dumps(
        {"Rearrangement": [{"id": str(number), "sequence_aa": "EV"} for number in range(3_000)]}
    )
    assert len(rows(write("a.json", text))) == 3_000
    assert largest < 1_000
