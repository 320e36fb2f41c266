"""Files of Cell Ranger: annotations and contigs, JSON, AIRR; samples in several files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from support.shapes.cells import AIRR_NEEDS, Cells, Row, airr_tsv, cells_of
from support.shapes.drawing import Draw, Record, Shape, shape
from support.shapes.molecules import REGIONS
from support.shapes.writing import fasta_text, table_text, write


def tenx_record(row: Row, generation: int) -> Record:
    """A row of (filtered|all)_contig_annotations.csv."""
    words = {3: ("True", "False", "None"), 5: ("True", "False", ""), 7: ("true", "false", "")}[generation]
    regions = row.chain.anchored_regions()
    coding = dict(row.contig.coding)
    coding["cdr3"] = coding["fwr3"][-3:] + coding["cdr3"] + coding["fwr4"][:3]
    coding["fwr3"], coding["fwr4"] = coding["fwr3"][:-3], coding["fwr4"][3:]
    if row.chain.kind == "heavy" and generation == 7:
        coding["fwr4"] += "G"  # the J gene ends with the first base of the constant region's codon
    truth = {True: words[0], False: words[1]}
    known = row.productive and row.chain.locus.startswith("IG")
    record: Record = {
        "barcode": row.barcode,
        "is_cell": truth[row.is_cell],
        "contig_id": row.contig_id,
        "high_confidence": truth[row.high_confidence],
        "length": len(row.contig.sequence),
        "chain": row.chain.locus,
        **{f"{segment}_gene": call or words[2] for segment, call in row.gene.items()},
        "full_length": truth[True],
        "productive": truth[row.productive],
    }
    for name in REGIONS if generation >= 5 else ("cdr3",):
        shown = known or name == "cdr3"
        record[name] = regions[name] if shown else words[2]
        record[f"{name}_nt"] = coding[name] if shown else words[2]
    number = int(row.contig_id.rpartition("_")[2])
    record |= {
        "reads": row.umis * 37,
        "umis": row.umis,
        "raw_clonotype_id": f"clonotype{1 + row.umis % 5}",
        "raw_consensus_id": f"clonotype{1 + row.umis % 5}_consensus_{number}",
    }
    if generation == 7:
        record["exact_subclonotype_id"] = 1
    return record


TENX_NEEDS = ("barcode", "contig_id", "chain", "productive", "cdr3", "is_cell", "high_confidence", "v_gene")


def tenx_csv(cells: Cells, path: Path, generation: int, *needs: str, without: str = "?") -> Path:
    records = [tenx_record(row, generation) for row in cells.rows]
    records = [{k: v for k, v in record.items() if not k.endswith(without)} for record in records]
    columns = cells.draw.columns(records, [*TENX_NEEDS, *needs])
    return write(path, table_text(columns, records))


def contig_fasta(cells: Cells, path: Path) -> Path:
    return write(path, fasta_text(((row.contig_id, row.contig.sequence) for row in cells.rows), 10_000))


@shape
def tenx_3_annotations_and_contigs(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "several_chains", "missing_chain")
    names = ["filtered_contig_annotations.csv", "filtered_contig.fasta"]
    sources = [tenx_csv(cells, folder / names[0], 3), contig_fasta(cells, folder / names[1])]
    return cells.shape(sources[::-1] if draw.variant else sources, "cdr3", "v_call")


@shape
def tenx_5_annotations_nucleotides(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "several_chains", "missing_chain")
    path = folder / "filtered_contig_annotations.csv"
    regions = [f"{name}_nt" for name in REGIONS]
    records = [tenx_record(row, 5) for row in cells.rows]
    records = [{k: v for k, v in record.items() if k not in REGIONS or k == "cdr3"} for record in records]
    columns = draw.columns(records, [*TENX_NEEDS, *regions])
    return cells.shape(write(path, table_text(columns, records)), "cdr3", "v_call")


@shape
def tenx_7_annotations(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "several_chains", "missing_chain")
    path = folder / f"{draw.sample()}_filtered_contig_annotations.csv"
    return cells.shape(tenx_csv(cells, path, 7, *REGIONS), "cdr3", "v_call")


@shape
def tenx_7_all_contigs(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "not_is_cell", "not_high_confidence", "missing_chain")
    return cells.shape(tenx_csv(cells, folder / "all_contig_annotations.csv", 7, *REGIONS), "cdr3", "v_call")


@shape
def tenx_several_chains(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, *["several_chains"] * 3)
    return cells.shape(tenx_csv(cells, folder / "contigs.csv", 7, "umis", *REGIONS), "cdr3")


@shape
def tenx_bcr_and_tcr(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "t_cell_receptor", "t_cell_receptor", "missing_chain")
    return cells.shape(tenx_csv(cells, folder / "contigs.csv", 7, *REGIONS), "cdr3", "v_call")


def _json_contig(row: Row) -> Record:
    contig, regions = row.contig, row.chain.anchored_regions()
    place, annotated = contig.start - 1, {}
    for name in REGIONS:
        width = len(regions[name]) * 3
        text = contig.sequence[place : place + width]
        annotated[name] = {"start": place, "stop": place + width, "nt_seq": text, "aa_seq": regions[name]}
        place += width
    types = {"v": "L-REGION+V-REGION", "d": "D-REGION", "j": "J-REGION", "c": "C-REGION"}
    features = [
        {
            "contig_match_start": 0,
            "contig_match_end": 100,
            "annotation_match_start": 0,
            "annotation_match_end": 100,
            "annotation_length": 100,
            "cigar": "100M",
            "score": 200,
            "feature": {
                "chain": row.chain.locus,
                "display_name": call,
                "feature_id": 10 + index,
                "gene_name": call,
                "region_type": types[segment],
            },
        }
        for index, (segment, call) in enumerate(row.gene.items())
        if call
    ]
    cdr3 = annotated.pop("cdr3")
    return {
        "barcode": row.barcode,
        "contig_name": row.contig_id,
        "sequence": contig.sequence,
        "quals": "]" * len(contig.sequence),
        "fraction_of_reads_for_this_barcode_provided_as_input_to_assembly": 1.0,
        "read_count": row.umis * 37,
        "umi_count": row.umis,
        "start_codon_pos": len(contig.untranslated),
        "stop_codon_pos": None,
        "aa_sequence": contig.sequence_aa,
        "cdr3": cdr3["aa_seq"],
        "cdr3_seq": cdr3["nt_seq"],
        "cdr3_start": cdr3["start"],
        "cdr3_stop": cdr3["stop"],
        **annotated,
        "annotations": features,
        "clonotype": None,
        "info": {"raw_clonotype_id": "clonotype1", "raw_consensus_id": "clonotype1_consensus_1"},
        "high_confidence": row.high_confidence,
        "validated_umis": ["ACGTACGTAC"] * 2,
        "non_validated_umis": [],
        "invalidated_umis": [],
        "is_cell": row.is_cell,
        "productive": row.productive,
        "filtered": True,
        "is_gex_cell": None,
        "is_asm_cell": row.is_cell,
        "full_length": True,
        "frame": 0,
    }


@shape
def tenx_all_contig_json(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "several_chains", "not_is_cell", "not_high_confidence", "t_cell_receptor")
    contigs = [_json_contig(row) for row in cells.rows]
    if draw.variant:  # an older generation, without the regions, as one line
        contigs = [
            {k: v for k, v in contig.items() if not k.startswith(("fwr", "cdr1", "cdr2"))}
            for contig in contigs
        ]
    text = json.dumps(contigs, indent=None if draw.variant else 4)
    return cells.shape(write(folder / "all_contig_annotations.json", text), "cdr3", "v_call")


def tenx_airr_record(row: Row) -> Record:
    """A row of airr_rearrangement.tsv: the translation of the whole contig."""
    contig, calls = row.contig, row.gene
    start, end = len(contig.untranslated) + 1, contig.start + len(contig.v_domain) - 1
    j_start, length = end - 45, len(contig.sequence)
    codons = contig.coding
    has_d = bool(calls["d"])
    return {
        "cell_id": row.barcode,
        "clone_id": "",
        "sequence_id": row.contig_id,
        "sequence": contig.sequence,
        "sequence_aa": contig.sequence_aa,
        "productive": "T" if row.productive else "F",
        "rev_comp": "F",
        "v_call": calls["v"],
        "v_cigar": f"{start - 1}S{j_start - start}M{length - j_start + 1}S",
        "d_call": calls["d"],
        "d_cigar": f"{j_start - 1}S12M{length - j_start - 11}S" if has_d else "",
        "j_call": calls["j"],
        "j_cigar": f"{j_start - 1}S{end - j_start + 1}M{length - end}S",
        "c_call": calls["c"],
        "c_cigar": f"{end}S{length - end}M",
        "sequence_alignment": contig.sequence,
        "germline_alignment": contig.sequence,
        "junction": codons["fwr3"][-3:] + codons["cdr3"] + codons["fwr4"][:3],
        "junction_aa": row.chain.junction,
        "junction_length": 3 * len(row.chain.junction),
        "junction_aa_length": len(row.chain.junction),
        "v_sequence_start": start,
        "v_sequence_end": j_start - 1,
        "d_sequence_start": j_start - 12 if has_d else "",
        "d_sequence_end": j_start - 1 if has_d else "",
        "j_sequence_start": j_start,
        "j_sequence_end": end,
        "c_sequence_start": end + 1,
        "c_sequence_end": length,
        "consensus_count": row.umis * 37,
        "duplicate_count": row.umis,
        "is_cell": "T" if row.is_cell else "F",
    }


@shape
def tenx_airr_tsv(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "several_chains", "missing_chain")
    records = [tenx_airr_record(row) for row in cells.rows]
    path = airr_tsv(cells, folder / "airr_rearrangement.tsv", records, "sequence_aa", "junction_aa")
    return cells.shape(path, "cdr3", "v_call")


@shape
def tenx_airr_without_residues(draw: Draw, folder: Path) -> Shape:
    """Only the contig's nucleotides: the frame has to be found."""
    cells = cells_of(draw, "missing_chain")
    records = [tenx_airr_record(row) for row in cells.rows]
    for record in records:
        del record["sequence_aa"], record["sequence_alignment"], record["germline_alignment"]
    path = airr_tsv(cells, folder / "airr_rearrangement.tsv", records, "sequence", "junction_aa", "junction")
    return cells.shape(path, "cdr3", "v_call")


@shape
def tenx_airr_parquet(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "several_chains", "missing_chain")
    records = [{k: None if v == "" else v for k, v in tenx_airr_record(row).items()} for row in cells.rows]
    columns = draw.columns(records, [*AIRR_NEEDS, "sequence_aa", "junction_aa"])
    table = pa.Table.from_pylist(records).select(columns)
    large = [pa.field(f.name, pa.large_string()) if pa.types.is_string(f.type) else f for f in table.schema]
    pq.write_table(table.cast(pa.schema(large)), folder / "airr_rearrangement.parquet")
    return cells.shape(folder / "airr_rearrangement.parquet", "cdr3", "v_call")


@shape
def airr_file_per_locus(draw: Draw, folder: Path) -> Shape:
    """One sample as three files, none of which holds a pair."""
    cells = cells_of(draw, "missing_chain", number=9)
    sources = []
    for locus in ("IGH", "IGK", "IGL"):
        records = [{"locus": locus} | tenx_airr_record(row) for row in cells.rows if row.chain.locus == locus]
        if records:
            path = folder / f"{draw.sample()}_{locus.lower()}.tsv"
            sources.append(airr_tsv(cells, path, records, "sequence_aa", "junction_aa", "locus"))
    return cells.shape(sources[::-1] if draw.variant else sources, "cdr3", "v_call")


@shape
def tenx_samples_share_barcodes(draw: Draw, folder: Path) -> Shape:
    """Two samples, one file each, in which the same barcodes mean different cells."""
    barcodes = [draw.barcode() for _ in range(5)]
    one, two = (cells_of(draw, barcodes=barcodes) for _ in range(2))
    two.rows = [row for row in two.rows if row.chain.kind == "heavy" or row.barcode != barcodes[0]]
    two.left_out["missing_chain"] += 1
    sources = []
    for cells in (one, two):
        records = [tenx_airr_record(row) for row in cells.rows]
        path = folder / draw.sample() / "airr_rearrangement.tsv"
        sources.append(airr_tsv(cells, path, records, "sequence_aa", "junction_aa"))
    both = Cells(draw, [], one.pairs + two.pairs[1:], one.left_out + two.left_out)
    return both.shape(sources, "cdr3", "v_call")


@shape
def airr_samples_in_one_table(draw: Draw, folder: Path) -> Shape:
    """Two samples in one table; of the first barcode one has the heavy chain and the other the light one."""
    barcodes = [draw.barcode() for _ in range(5)]
    records, both = [], Cells(draw)
    for number, kept in enumerate(("heavy", "light")):
        sample, cells = f"{draw.sample()}-{number}", cells_of(draw, barcodes=barcodes)
        rows = [row for row in cells.rows if row.chain.kind == kept or row.barcode != barcodes[0]]
        column = "sample_id" if draw.variant else "repertoire_id"
        records += [{column: sample} | tenx_airr_record(row) for row in rows]
        both.pairs += cells.pairs[1:]
        both.left_out += cells.left_out + Counter(missing_chain=1)
    if draw.variant:
        draw.rng.shuffle(records)
    path = airr_tsv(both, folder / "combined.tsv", records, "sequence_aa", "junction_aa", column)
    return both.shape(path, "cdr3", "v_call")
