"""Columns are known by their names or first rows, chains by ordered rules, cells by sample and barcode."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
from support.pair_files import PIECES, oas_fields, pairs_of

from curr_ab.data import ColumnNames, MalformedSource, PreparationPlan, prepare, read_pairs
from curr_ab.data.reading.columns import Rule, find_layout
from curr_ab.data.reading.pairs import read_source
from curr_ab.data.reading.table import Recognised
from curr_ab.data.reading.translation import translate
from curr_ab.options import OptionError

TRIPLETS = ["".join(triplet) for triplet in product("TCAG", repeat=3)]
CODONS = dict(zip(translate(pa.array(TRIPLETS)).to_pylist(), TRIPLETS, strict=True))
LEADER = "MDWTWRFLFVVAAATGVQS"


def coded(residues: str) -> str:
    return "".join(CODONS[residue] for residue in residues)


def read(source: Any, chains: Any = "paired", **names: Any) -> tuple[pa.Table, Recognised]:
    recognised: list[Recognised] = []
    batches = read_source(source, ColumnNames(**names), chains, recognised=recognised)
    return pa.Table.from_batches(batches), recognised[0]


def whole_pairs(table: pa.Table) -> list[tuple[str, str]]:
    both = zip(table["heavy"].to_pylist(), table["light"].to_pylist(), strict=True)
    return [pair for pair in both if None not in pair]


def text_of(rows: Sequence[dict[str, Any]], delimiter: str = "\t") -> str:
    lines = [delimiter.join(rows[0]), *(delimiter.join(map(str, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


def cell_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One chain in a row, in the columns of AIRR."""
    return [
        {
            "sequence_id": f"{row['id']}_{chain}",
            "cell_id": row["id"],
            "locus": locus,
            "sequence_aa": row[chain],
        }
        for row in rows
        for chain, locus in (("heavy", "IGH"), ("light", "IGK"))
    ]


@pytest.mark.parametrize(
    "columns",
    [
        ("VH or VHH", "VL"),
        ("VH_AA", "VL_AA"),
        ("vh_protein_sequence", "vl_protein_sequence"),
        ("Heavy Sequence", "Light Sequence"),
        ("HeavySequence", "LightSequence"),
        ("HC", "LC"),
        ("VH sequence", "VL sequence"),
        ("mut_heavy_chain_seq", "light_chain_seq"),
        ("HSEQ", "LSEQ"),
        ("sequence_heavy_aa", "sequence_light_aa"),
        ("fv_heavy", "fv_light"),
        ("Hchain", "Lchain"),
        ("VH-protein", "VL.protein"),
        ("Variable heavy (aa)", "Variable light (aa)"),
        ("vhSeq", "vkSeq"),
        ("first", "second"),  # told by their residues
    ],
)
def test_names_in_use(corpus, write, columns) -> None:
    rows = corpus[:6]
    records = [{"mAb ID": row["id"], columns[0]: row["heavy"], columns[1]: row["light"]} for row in rows]
    table, _ = read(write("pairs.csv", text_of(records, ",")))
    assert whole_pairs(table) == pairs_of(rows)
    assert table["id"].to_pylist() == [row["id"] for row in rows]


def test_the_surest_column_of_a_chain_is_read(corpus, write) -> None:
    rows = corpus[:6]
    records = [
        {
            "heavy": "IGHV1-2",  # a name of residues that holds a gene
            "hc_protein_sequence": LEADER + row["heavy"],
            "VH_nuc": coded(row["heavy"]),
            "heavy_aligned_aho": f"{row['heavy'][:10]}---{row['heavy'][10:]}",
            "vh_protein_sequence": row["heavy"],
            "vl_protein_sequence": row["light"],
            "Light chain": "Kappa",
        }
        for row in rows
    ]
    table, recognised = read(write("pairs.csv", text_of(records, ",")))
    assert whole_pairs(table) == pairs_of(rows)
    assert recognised.columns["heavy"][0] == "vh_protein_sequence"
    assert recognised.columns["light"] == ["vl_protein_sequence"]


def test_genes_and_cdr3_of_databases(corpus, write) -> None:
    record = {
        "VH or VHH": corpus[0]["heavy"],
        "VL": "ND",
        "Heavy V Gene": "IGHV1-18 (Human)",
        "v_gene.L_x": "IGKV1-5",
        "CDRH3": f"C{corpus[0]['cdr3_heavy']}W",
        "CDRL3": "ND",
    }
    row = read(write("a.csv", text_of([record], ",")))[0].to_pylist()[0]
    assert (row["v_call_heavy"], row["v_call_light"]) == ("IGHV1-18", "IGKV1-5")
    assert (row["cdr3_heavy"], row["cdr3_light"], row["light"]) == (corpus[0]["cdr3_heavy"], None, None)


def test_a_column_is_named_once() -> None:
    with pytest.raises(OptionError, match="must be named once; 'VH' is named as heavy_column and as"):
        ColumnNames(heavy="VH", light="VH")
    with pytest.raises(OptionError, match="sequence_column must be named without heavy_column"):
        ColumnNames(heavy="VH", sequence="x")


def oas_unit(rows: Sequence[dict[str, Any]], left_out: Sequence[str] = (), **more: str) -> str:
    records = []
    for row in rows:
        record = oas_fields(row, "heavy") | oas_fields(row, "light")
        record |= {"cdr3_heavy": coded(row["cdr3_heavy"]), "cdr3_light": coded(row["cdr3_light"]), **more}
        records.append({name: value for name, value in record.items() if name not in left_out})
    metadata = json.dumps({"Isotype": "All", "Chain": "Paired"}).replace('"', '""')
    return f'"{metadata}"\n{text_of(records, ",")}'


def test_oas_cdr3_isotype_and_framework_4(corpus, write) -> None:
    rows = corpus[:5]
    path = write("unit.csv.gz", oas_unit(rows, ("fwr4_aa_heavy", "fwr4_aa_light"), Isotype_heavy="IGHA"))
    table, _ = read(path)
    assert table["cdr3_heavy"].to_pylist() == [row["cdr3_heavy"] for row in rows]
    assert table["region_mask_light"].to_pylist() == [row["region_mask_light"] for row in rows]
    assert table["isotype"].unique().to_pylist() == ["IGHA"]
    assert read(write("other.csv.gz", oas_unit(rows)))[0]["isotype"].null_count == len(rows)


def test_residues_stand_before_the_contig_and_nucleotides_fill_in(corpus, write) -> None:
    rows = corpus[:6]
    records = cell_rows(rows)
    for number, record in enumerate(records):
        record["sequence_alignment_aa"] = record["sequence_aa"] if number < 6 else ""
        record["sequence_aa"] = LEADER + record["sequence_aa"] + "ASTKGPSVFPLAP" if number < 6 else ""
        text = coded(rows[number // 2]["heavy" if number % 2 == 0 else "light"])
        record["sequence_alignment"] = f"{text[:60]}......{text[60:]}"  # gaps of IMGT
    table, recognised = read(write("airr.tsv", text_of(records)))
    assert whole_pairs(table) == pairs_of(rows)
    assert recognised.translated == 6


def test_stops_stay_and_leading_gaps_keep_the_frame(corpus, write) -> None:
    row = dict(corpus[0])
    text = coded(row["heavy"])
    broken = f"{text[:90]}TAA{text[93:]}"
    records = cell_rows([row])
    records[0] |= {"sequence_aa": "", "sequence_alignment": f"....{broken[4:60]}...{broken[60:]}"}
    records[1] |= {"sequence_alignment": coded(row["light"])}
    table, _ = read(write("airr.tsv", text_of(records)), "unpaired")
    expected = row["heavy"][2:30] + "*" + row["heavy"][31:]
    assert expected.endswith(table["heavy"][0].as_py()[5:])
    assert "*" in table["heavy"][0].as_py()


@pytest.mark.parametrize("reverse", [False, True])
def test_contigs_are_translated_in_the_frame_of_their_junction(corpus, write, reverse) -> None:
    draw = random.Random(7)
    rows = corpus[:6]
    records = []
    for record, row in zip(cell_rows(rows), [row for row in rows for _ in range(2)], strict=True):
        chain = "heavy" if record["locus"] == "IGH" else "light"
        contig = "".join(draw.choices("ACGT", k=draw.randrange(20, 60))) + "TAG" + coded(LEADER + row[chain])
        contig += coded("ASTKGPSVFPLAP") + "TA"
        turned = contig.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        record |= {"sequence": turned if reverse else contig, "rev_comp": "T" if reverse else "F"}
        record |= {"junction": coded(f"C{row[f'cdr3_{chain}']}W")}
        del record["sequence_aa"]
        records.append(record)
    table, recognised = read(write("airr.tsv", text_of(records)))
    assert whole_pairs(table) == pairs_of(rows)  # cut to the V domain
    assert table["cdr3_light"].to_pylist() == [row["cdr3_light"] for row in rows]
    assert recognised.translated == 12


def test_change_o_names(corpus, write) -> None:
    rows = corpus[:3]
    records = [
        {"SEQUENCE_ID": record["sequence_id"], "FUNCTIONAL": "T", "V_CALL": f"{record['locus']}V1-2*01"}
        | {"SEQUENCE_IMGT": coded(record["sequence_aa"]), "CELL": record["cell_id"], "UMICOUNT": "3"}
        for record in cell_rows(rows)
    ]
    assert whole_pairs(read(write("db.tab", text_of(records)))[0]) == pairs_of(rows)


@pytest.mark.parametrize("sample", ["repertoire_id", "sample_id", "orig.ident", "library"])
def test_samples_that_share_barcodes(corpus, write, sample) -> None:
    heavy, light = cell_rows(corpus[:4])[::2], cell_rows(corpus[:4])[1::2]
    records = [record | {sample: "one"} for record in heavy] + [record | {sample: "two"} for record in light]
    path = write("airr.tsv", text_of(records))
    assert whole_pairs(read(path)[0]) == []
    assert len(whole_pairs(read(path, sample="locus")[0])) == 0
    same = [record | {sample: "one"} for record in (*heavy, *light)]
    assert len(whole_pairs(read(write("same.tsv", text_of(same)))[0])) == 4


def test_rules_for_several_chains(corpus, write) -> None:
    one, two, three = corpus[:3]
    records = cell_rows([one, two])
    records += [dict(record, cell_id=one["id"]) for record in cell_rows([three])]
    for record, umis in zip(records, (9, 5, 1, 1, 3, 5), strict=True):
        record["duplicate_count"] = umis
    path = write("airr.tsv", text_of(records))
    assert whole_pairs(read(path)[0]) == pairs_of([two])
    # The heavy chain has the most; two light chains have equally many, and so the cell is dropped still.
    assert whole_pairs(read(path, several_chains="most_umis")[0]) == pairs_of([two])
    records[5]["duplicate_count"] = 4
    path = write("clear.tsv", text_of(records))
    assert whole_pairs(read(path, several_chains="most_umis")[0]) == pairs_of([one, two])
    combined = whole_pairs(read(path, several_chains="all")[0])
    assert sorted(combined) == sorted(
        [*pairs_of([one, two, three]), (one["heavy"], three["light"]), (three["heavy"], one["light"])]
    )
    plain = write("plain.tsv", text_of(cell_rows([one])))
    with pytest.raises(MalformedSource, match="no column is known to hold the UMIs"):
        read(plain, several_chains="most_umis")


def tenx_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`filtered_contig_annotations.csv` without sequences."""
    return [
        {
            "barcode": row["id"],
            "is_cell": "True",
            "contig_id": f"{row['id']}_contig_{number}",
            "high_confidence": "True",
            "chain": locus,
            "v_gene": f"{locus}V1-2",
            "productive": "True",
            "cdr3": f"C{row[f'cdr3_{chain}']}W",
            "umis": 4,
        }
        for row in rows
        for number, (chain, locus) in enumerate((("heavy", "IGH"), ("light", "IGK")), 1)
    ]


def test_rows_that_are_no_cells_or_t_cell_receptors_are_left_out(corpus, write) -> None:
    rows = corpus[:5]
    records = tenx_rows(rows)
    for record, row in zip(records, [row for row in rows for _ in range(2)], strict=True):
        chain = "heavy" if record["chain"] == "IGH" else "light"
        pieces = [oas_fields(row, chain)[f"{name}_aa_{chain}"] for name in PIECES]
        pieces[4], pieces[6] = pieces[4][:-1], pieces[6][1:]  # 10x writes the anchors in cdr3
        pieces[5] = row[chain][len("".join(pieces[:5])) : len(row[chain]) - len(pieces[6])]
        record |= dict(zip(PIECES, pieces, strict=True))
        record |= {f"{name}_nt": coded(piece) for name, piece in zip(PIECES, pieces, strict=True)}
    records[0]["is_cell"] = "False"
    records[2]["high_confidence"] = "False"
    records.append(records[4] | {"chain": "TRB", "v_gene": "TRBV20-1"})
    table, recognised = read(write("contigs.csv", text_of(records, ",")))
    assert whole_pairs(table) == pairs_of(rows[2:])
    assert table["cdr3_heavy"].to_pylist()[-3:] == [row["cdr3_heavy"] for row in rows[2:]]
    assert recognised.left_out == {"T-cell receptors": 1, "not a cell": 1, "not of high confidence": 1}
    assert recognised.rows == 11


@pytest.mark.parametrize("turned", [False, True])
def test_annotations_are_joined_with_their_contigs(corpus, write, tmp_path, turned) -> None:
    rows = corpus[:5]
    records = tenx_rows(rows)
    chains = [row[chain] for row in rows for chain in ("heavy", "light")]
    fasta = "".join(
        f">{record['contig_id']}\nAC{coded(LEADER + chain)}GCATCC\n"
        for record, chain in zip(records, chains, strict=True)
    )
    files = [
        write("filtered_contig_annotations.csv", text_of(records, ",")),
        write("filtered_contig.fasta", fasta),
    ]
    with pytest.raises(MalformedSource, match="hold no sequences; name their FASTA file in the same command"):
        list(read_pairs(files[0]))
    table = pa.Table.from_batches(read_pairs(files[::-1] if turned else files))
    assert whole_pairs(table) == pairs_of(rows)
    assert set(table["source"].to_pylist()) == {files[0]}
    assert table["record"].to_pylist() == [1, 3, 5, 7, 9]
    index = prepare(files, tmp_path / "out", PreparationPlan(cluster="exact", validation=1, test=1))
    assert index["report"]["kept"] == 5
    assert index["recognised"][0]["translated"] == 10


@pytest.mark.parametrize("names", [("a_IGH.tsv", "a_IGK.tsv"), ("first.tsv", "second.tsv")])
@pytest.mark.parametrize("sample_of_file", [False, True])
def test_a_file_for_each_locus(corpus, write, names, sample_of_file) -> None:
    rows = corpus[:4]
    records = cell_rows(rows)
    files = []
    for name, part in zip(names, (records[::2], records[1::2]), strict=True):
        own = [record | {"repertoire_id": name if sample_of_file else "one"} for record in part]
        files.append(write(name, text_of(own)))
    table = pa.Table.from_batches(read_pairs(files))
    assert whole_pairs(table) == pairs_of(rows)
    assert set(table["source"].to_pylist()) == {files[0]}


def test_files_with_both_kinds_are_samples_of_their_own(corpus, write) -> None:
    rows = corpus[:4]
    whole = cell_rows(rows)
    others = [record["cell_id"] for record in (*whole[2:], *whole[:2])]
    swapped = [record | {"cell_id": other} for record, other in zip(whole, others, strict=True)]
    files = [write("a_IGH.tsv", text_of(whole)), write("a_IGK.tsv", text_of(swapped))]
    table = pa.Table.from_batches(read_pairs(files))
    assert whole_pairs(table) == pairs_of(rows) * 2


@pytest.mark.parametrize("sign", [" [SEP] ", "|", ":", "/", ""])
@pytest.mark.parametrize("turned", [False, True])
def test_both_chains_in_one_column(corpus, write, sign, turned) -> None:
    rows = corpus[:5]
    linker = sign or "GGGGSGGGGSGGGGS"
    order = ("light", "heavy") if turned else ("heavy", "light")
    texts = [linker.join(row[chain] for chain in order) for row in rows]
    if sign == " [SEP] ":
        texts = [" ".join(text.replace(sign, "_")).replace("_", "[SEP]") for text in texts]
    records = [{"name": row["id"], "sequence": text} for row, text in zip(rows, texts, strict=True)]
    table, recognised = read(write("joined.csv", text_of(records, ",")))
    assert whole_pairs(table) == pairs_of(rows)
    assert table["id"].to_pylist() == [row["id"] for row in rows]
    assert recognised.layout == "both chains in one column"


def test_single_chains_are_told_by_content(corpus, write) -> None:
    rows = corpus[:5]
    chains = [row[chain] for row in rows for chain in ("heavy", "light")]
    records = [{"label": number, "residues": chain} for number, chain in enumerate(chains)]
    path = write("single.csv", text_of(records, ","))
    for table in (read(path, "unpaired")[0], read(path, "unpaired", sequence="residues")[0]):
        assert [text for text in table["heavy"].to_pylist() if text] == [row["heavy"] for row in rows]
        assert [text for text in table["light"].to_pylist() if text] == [row["light"] for row in rows]


def test_cells_in_ids(corpus, write) -> None:
    rows = [row | {"id": f"ACGTACGTACGTAC{end}-1"} for row, end in zip(corpus[:2], "AC", strict=True)]
    records = cell_rows(rows)
    for number, record in enumerate(records):
        record["sequence_id"] = f"{record.pop('cell_id')}_contig_{number}"
        del record["locus"]
    records = [record | {"v_call": f"IG{'HK'[number % 2]}V1-1"} for number, record in enumerate(records)]
    assert whole_pairs(read(write("airr.tsv", text_of(records)))[0]) == pairs_of(rows)


def test_columns_that_are_called_by_numbers_are_features() -> None:
    columns = ["id", "sequence", "chain", *map(str, range(320))]
    layout = find_layout(columns, ColumnNames())
    assert layout is not None and layout.rules["sequence"] == (Rule(("sequence",)),)
