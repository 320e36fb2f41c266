"""Tables with one chain in a row: Cell Ranger, AIRR, Immcantation, TRUST4, MiXCR, IgBLAST, BD Rhapsody, OAS."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from support.shapes.drawing import Draw, Pair, Record, Shape, shape
from support.shapes.molecules import (
    REGIONS,
    Chain,
    Contig,
    contig_of,
    nucleotides,
    t_cell_receptor,
    with_gaps,
    with_stop,
)
from support.shapes.writing import fasta_text, table_text, write


@dataclass(frozen=True)
class Row:
    """A contig of a cell, with what the program says of it."""

    barcode: str
    contig_id: str
    chain: Chain
    contig: Contig
    umis: int
    productive: bool = True
    is_cell: bool = True
    high_confidence: bool = True

    @property
    def gene(self) -> dict[str, str]:
        """Genes without their alleles."""
        chain = self.chain
        calls = {"v": chain.v_call, "d": chain.d_call, "j": chain.j_call, "c": chain.c_call}
        return {name: call.partition("*")[0] for name, call in calls.items()}


@dataclass
class Cells:
    """Contigs of one sample, and the pairs among them."""

    draw: Draw
    rows: list[Row] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, barcode: str, *chains: Chain, silent: Chain | None = None, **flags: bool) -> list[Row]:
        """Add a cell: its chains, and one more with a stop codon."""
        rng, rows = self.draw.rng, []
        for number, chain in enumerate([*chains, *([silent] if silent else [])], 1):
            productive = chain is not silent
            contig = contig_of(chain, rng, None if productive else with_stop(chain, rng))
            name, umis = f"{barcode}_contig_{number}", rng.randrange(2, 90)
            rows.append(Row(barcode, name, chain, contig, umis, productive, **flags))
        self.rows += rows
        return rows

    def add_pair(self, barcode: str, genes: Callable[[str], str] | None = None, silent: Chain | None = None) -> None:
        """Add a cell that gives a pair."""
        heavy, light = self.draw.pair()
        rows = self.add(barcode, *([light, heavy] if self.draw.rng.random() < 0.5 else [heavy, light]), silent=silent)
        annotation = heavy.annotation("cdr3") | light.annotation("cdr3")
        for chain in (heavy, light):
            annotation[f"v_call_{chain.kind}"] = genes(chain.v_call) if genes else chain.v_call
        name = next(row.contig_id for row in rows if row.chain is heavy)
        self.pairs.append(Pair(heavy.residues, light.residues, (barcode, name), annotation))

    def add_others(self, *kinds: str) -> None:
        """Add cells that give no pair, each for a reason."""
        for kind in kinds:
            heavy, light = self.draw.pair()
            barcode = self.draw.barcode()
            if kind == "several_chains":
                rows = self.add(barcode, heavy, light, self.draw.pair()[1])
            elif kind == "missing_chain":
                rows = self.add(barcode, heavy)
            elif kind == "t_cell_receptor":
                rows = self.add(barcode, t_cell_receptor("TRB"), t_cell_receptor("TRA"))
            else:
                rows = self.add(barcode, heavy, light, **{kind.removeprefix("not_"): False})
            self.left_out[kind] += len(rows)

    def shuffle(self) -> None:
        if self.draw.variant:
            self.draw.rng.shuffle(self.rows)

    def shape(self, sources: Any, *checked: str) -> Shape:
        """The shape of these cells, of whose annotation the source holds the fields checked."""
        pairs = [
            Pair(
                pair.heavy,
                pair.light,
                pair.names,
                {name: value for name, value in pair.annotation.items() if name.rpartition("_")[0] in checked},
            )
            for pair in self.pairs
        ]
        return Shape(sources, pairs, left_out=self.left_out)


def gene(call: str) -> str:
    return call.partition("*")[0]


def cells_of(
    draw: Draw,
    *others: str,
    number: int = 7,
    barcodes: Iterable[str] | None = None,
    genes: Callable[[str], str] | None = gene,
) -> Cells:
    """Cells with a pair, one of them with a silenced second light chain, and the others."""
    cells = Cells(draw)
    for index, barcode in enumerate(barcodes or [draw.barcode() for _ in range(number)]):
        cells.add_pair(barcode, genes, silent=draw.pair()[1] if index == 1 else None)
    cells.left_out["non_productive"] += 1
    cells.add_others(*others)
    cells.shuffle()
    return cells


# Cell Ranger


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
        contigs = [{k: v for k, v in contig.items() if not k.startswith(("fwr", "cdr1", "cdr2"))} for contig in contigs]
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


AIRR_NEEDS = ("cell_id", "sequence_id", "v_call", "productive")


def airr_tsv(cells: Cells, path: Path, records: list[Record], *needs: str) -> Path:
    columns = cells.draw.columns(records, [*AIRR_NEEDS, *needs])
    return write(path, table_text(columns, records, delimiter="\t"))


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
        records = [
            {"locus": locus} | tenx_airr_record(row) for row in cells.rows if row.chain.locus == locus
        ]
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


# AIRR of other programs


def airr_record(row: Row) -> Record:
    """An AIRR record with an IMGT-gapped alignment of nucleotides, as Change-O writes it."""
    contig, chain = row.contig, row.chain
    gapped = with_gaps({name: contig.coding[name] for name in REGIONS}, "...")
    codons = contig.coding
    end = "G" if chain.kind == "heavy" else ""  # the J gene ends within a codon
    return {
        "sequence_id": row.contig_id,
        "sequence": contig.sequence,
        "rev_comp": "F",
        "productive": "T" if row.productive else "F",
        "v_call": chain.v_call,
        "d_call": chain.d_call,
        "j_call": chain.j_call,
        "sequence_alignment": gapped + end,
        "germline_alignment": gapped + end,
        "junction": codons["fwr3"][-3:] + codons["cdr3"] + codons["fwr4"][:3],
        "junction_aa": chain.junction if row.productive else "",
        "v_cigar": f"{contig.start - 1}S290=",
        "d_cigar": "",
        "j_cigar": "40=",
        "stop_codon": "F" if row.productive else "T",
        "vj_in_frame": "T",
        "locus": chain.locus,
        "c_call": chain.c_call,
        "junction_length": 3 * len(chain.junction),
        "np1_length": 4,
        "np2_length": 5 if chain.d_call else "",
        "v_sequence_start": contig.start,
        "v_sequence_end": contig.start + 290,
        "v_germline_start": 1,
        "v_germline_end": 316,
        "v_score": 430.5,
        "v_identity": 0.97,
        "v_support": 1.2e-120,
        "fwr1": codons["fwr1"],
        "fwr2": codons["fwr2"],
        "fwr3": codons["fwr3"],
        "fwr4": codons["fwr4"],
        "cdr1": codons["cdr1"],
        "cdr2": codons["cdr2"],
        "cdr3": codons["cdr3"],
        "cell_id": row.barcode,
        "consensus_count": row.umis * 37,
        "duplicate_count": row.umis,
        "clone_id": f"{1 + row.umis % 9}_{row.umis}",
    }


@shape
def immcantation(draw: Draw, folder: Path) -> Shape:
    """Nucleotides alone: residues come from the gapped alignment."""
    cells = cells_of(draw, "several_chains", "missing_chain", genes=None)
    records = [airr_record(row) for row in cells.rows]
    path = airr_tsv(cells, folder / "heavy_clone-pass.tsv", records, "locus", "sequence_alignment", "junction_aa")
    return cells.shape(path, "cdr3", "v_call")


@shape
def airr_alignment_aa(draw: Draw, folder: Path) -> Shape:
    """The V domain (in the second variant with its IMGT gaps) beside the translation of the contig."""
    cells = cells_of(draw, "missing_chain", genes=None)
    records = []
    for row in cells.rows:
        regions = row.chain.regions
        aligned = with_gaps(regions, ".") if draw.variant else "".join(regions.values())
        place = aligned.replace(".", "") if row.productive else with_stop(row.chain, draw.rng)
        record = airr_record(row)
        record["sequence_aa"] = row.contig.sequence_aa
        record["sequence_alignment_aa"] = aligned if row.productive else place
        records.append(record)
    path = airr_tsv(cells, folder / "igblast.tsv", records, "sequence_aa", "sequence_alignment_aa", "locus", "cdr3")
    return cells.shape(path, "cdr3", "v_call")


@shape
def airr_vdj_aa(draw: Draw, folder: Path) -> Shape:
    """The V domain under the name that AMULETY gives it."""
    cells = cells_of(draw, "missing_chain", genes=None)
    records = [airr_record(row) | {"sequence_vdj_aa": row.contig.residues} for row in cells.rows]
    path = airr_tsv(cells, folder / "translated.tsv", records, "sequence_vdj_aa", "locus", "junction_aa")
    return cells.shape(path, "cdr3", "v_call")


@shape
def airr_json(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "several_chains", "missing_chain", genes=None)
    records = [airr_record(row) | {"sequence_alignment_aa": row.contig.residues} for row in cells.rows]
    columns = draw.columns(records, [*AIRR_NEEDS, "sequence_alignment_aa", "locus", "junction_aa"])
    words = {"T": True, "F": False, "": None}
    bools = ("rev_comp", "productive", "stop_codon", "vj_in_frame")
    records = [
        {k: words[record[k]] if k in bools or record[k] == "" else record[k] for k in columns} for record in records
    ]
    document = {"Info": {"title": "airr-schema", "version": "1.4"}, "Rearrangement": records}
    return cells.shape(write(folder / "repertoire.json", json.dumps(document)), "cdr3", "v_call")


@shape
def airr_json_lines(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "missing_chain", genes=None)
    records = [airr_record(row) | {"sequence_alignment_aa": row.contig.residues} for row in cells.rows]
    columns = draw.columns(records, [*AIRR_NEEDS, "sequence_alignment_aa", "locus", "junction_aa"])
    lines = [json.dumps({name: record[name] for name in columns}) for record in records]
    return cells.shape(write(folder / "rearrangements.jsonl", "\n".join(lines) + "\n"), "cdr3", "v_call")


CHANGEO = {
    "SEQUENCE_ID": "sequence_id",
    "SEQUENCE_INPUT": "sequence",
    "FUNCTIONAL": "productive",
    "IN_FRAME": "vj_in_frame",
    "STOP": "stop_codon",
    "LOCUS": "locus",
    "V_CALL": "v_call",
    "D_CALL": "d_call",
    "J_CALL": "j_call",
    "SEQUENCE_VDJ": "",
    "SEQUENCE_IMGT": "sequence_alignment",
    "JUNCTION": "junction",
    "JUNCTION_LENGTH": "junction_length",
    "GERMLINE_IMGT": "germline_alignment",
    "V_IDENTITY": "v_identity",
    "CELL": "cell_id",
    "C_CALL": "c_call",
    "CONSCOUNT": "consensus_count",
    "UMICOUNT": "duplicate_count",
    "CLONE": "clone_id",
}


@shape
def changeo_legacy(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "missing_chain", genes=None)
    records = []
    for row in cells.rows:
        airr = airr_record(row)
        record = {name: airr.get(source) for name, source in CHANGEO.items()}
        records.append(record | {"SEQUENCE_VDJ": airr["sequence_alignment"].replace(".", "")})
    needs = ("SEQUENCE_ID", "FUNCTIONAL", "LOCUS", "V_CALL", "SEQUENCE_IMGT", "CELL")
    text = table_text(draw.columns(records, needs), records, delimiter="\t")
    return cells.shape(write(folder / "db-pass.tab", text), "v_call")


@shape
def trust4(draw: Draw, folder: Path) -> Shape:
    cells = cells_of(draw, "missing_chain", "t_cell_receptor", genes=None)
    records = []
    for row in cells.rows:
        contig, airr = row.contig, airr_record(row)
        codons = contig.coding
        records.append(
            {
                "sequence_id": f"{row.barcode}_{row.contig_id[-1]}",
                "sequence": contig.sequence,
                "rev_comp": "F",
                "productive": "T" if row.productive else "F",
                "locus": row.chain.locus,
                "v_call": row.chain.v_call,
                "d_call": row.chain.d_call,
                "j_call": row.chain.j_call,
                "c_call": row.chain.c_call,
                "sequence_alignment": contig.v_domain,
                "germline_alignment": contig.v_domain,
                "cdr1": codons["cdr1"],
                "cdr2": codons["cdr2"],
                "junction": airr["junction"],
                "junction_aa": row.chain.junction if row.productive else "",
                "v_cigar": airr["v_cigar"],
                "d_cigar": "",
                "j_cigar": airr["j_cigar"],
                "c_cigar": "",
                "v_identity": 98.5,
                "j_identity": 100.0,
                "cell_id": row.barcode,
                "complete_vdj": "T",
                "consensus_count": row.umis,
            }
        )
    names = {row.contig_id: record["sequence_id"] for row, record in zip(cells.rows, records, strict=True)}
    cells.pairs = [
        Pair(pair.heavy, pair.light, (pair.names[0], names[pair.names[1]]), pair.annotation) for pair in cells.pairs
    ]
    needs = ("sequence_alignment", "junction_aa", "locus")
    return cells.shape(airr_tsv(cells, folder / "TRUST_barcode_airr.tsv", records, *needs), "cdr3", "v_call")


@shape
def mixcr(draw: Draw, folder: Path) -> Shape:
    """Clones of cells: residues of the regions, or of the whole with what is imputed in lower case."""
    cells = cells_of(draw, "missing_chain", genes=None)
    names = {"fwr1": "FR1", "cdr1": "CDR1", "fwr2": "FR2", "cdr2": "CDR2", "fwr3": "FR3", "cdr3": "CDR3", "fwr4": "FR4"}
    records = []
    for number, row in enumerate(cells.rows):
        chain, codons = row.chain, row.contig.coding
        regions = chain.anchored_regions()
        coding = {**codons, "cdr3": codons["fwr3"][-3:] + codons["cdr3"] + codons["fwr4"][:3]}
        coding |= {"fwr3": codons["fwr3"][:-3], "fwr4": codons["fwr4"][3:]}
        gene_scores = {s: f"{call}*00(1{400 + number}.5)" if call else "" for s, call in row.gene.items()}
        record: Record = {
            "cloneId": number,
            "tagValueCELL": row.barcode.removesuffix("-1"),
            "readCount": row.umis * 37,
            "readFraction": 0.01,
            "uniqueMoleculeCount": row.umis,
            "targetSequences": row.contig.v_domain,
            "targetQualities": "F" * len(row.contig.v_domain),
            **{f"all{s.upper()}HitsWithScore": score for s, score in gene_scores.items()},
            "topChains": chain.locus,
        }
        for region, name in names.items():
            record[f"nSeq{name}"] = coding[region]
            record[f"minQual{name}"] = 37
        for region, name in names.items():
            record[f"aaSeq{name}"] = regions[region] if row.productive else regions[region][:1] + "*"
        record["refPoints"] = ":::::::0:-3:11:::::12:-5:39:::"
        records.append(record)
    needs = ["tagValueCELL", "topChains", "allVHitsWithScore", *(f"aaSeq{name}" for name in names.values())]
    if draw.variant:
        needs = ["tagValueCELL", "topChains", "allVHitsWithScore", "aaSeqImputedVDJRegion", "aaSeqCDR3"]
        for row, record in zip(cells.rows, records, strict=True):
            residues = row.contig.residues
            record["aaSeqImputedVDJRegion"] = residues[:5].lower() + residues[5:]
    columns = draw.columns(records, needs)
    if draw.variant:
        columns = [name for name in columns if not name.startswith(("aaSeqFR", "nSeqFR"))]
    path = write(folder / "result.clones_IG.tsv", table_text(columns, records, delimiter="\t"))
    cells.pairs = [
        Pair(pair.heavy, pair.light, (pair.names[0].removesuffix("-1"),), pair.annotation) for pair in cells.pairs
    ]
    return cells.shape(path, "cdr3")


@shape
def bd_rhapsody(draw: Draw, folder: Path) -> Shape:
    """Contigs behind seven lines of comments; cells are numbers and chains are words."""
    words = {"IGH": "BCR_Heavy", "IGK": "BCR_Kappa", "IGL": "BCR_Lambda", "TRA": "TCR_Alpha", "TRB": "TCR_Beta"}
    barcodes = [str(draw.rng.randrange(10_000, 9_000_000)) for _ in range(7)]
    cells = cells_of(draw, "missing_chain", "t_cell_receptor", barcodes=barcodes)
    records = []
    for row in cells.rows:
        contig, calls = row.contig, row.gene
        records.append(
            {
                "Cell_Index": row.barcode,
                "Chain_Type": words[row.chain.locus],
                "Read_Count": row.umis * 37,
                "Molecule_Count": row.umis,
                "V_gene_Dominant": f"{calls['v']}*01",
                "D_gene_Dominant": calls["d"],
                "J_gene_Dominant": f"{calls['j']}*01",
                "C_gene_Dominant": calls["c"],
                "CDR3_Nucleotide_Dominant": contig.coding["cdr3"],
                "CDR3_Translation_Dominant": row.chain.regions["cdr3"],
                "Full_Contig_Nucleotide_Trimmed": contig.sequence,
                "Full_Contig_Translation_Trimmed": contig.sequence_aa,
                "VDJ_Nucleotide_Trimmed": contig.v_domain,
                "VDJ_Translation_Trimmed": contig.residues,
                "Productive": "True" if row.productive else "False",
                "Full_Length": "True",
            }
        )
    needs = ("Cell_Index", "Chain_Type", "VDJ_Translation_Trimmed", "V_gene_Dominant", "Productive")
    comments = [
        "####################",
        "## BD Rhapsody Sequence Analysis Pipeline Version 2.2",
        f"## Analysis Date: 2024-03-{draw.rng.randrange(10, 28)}",
        f"## Sample: {draw.sample()}",
        "## Reference: RhapRef_Human_WTA_2023-02.tar.gz",
        "## Bioproduct: VDJ",
        "####################",
    ]
    text = "\n".join(comments) + "\n" + table_text(draw.columns(records, needs), records)
    cells.pairs = [Pair(pair.heavy, pair.light, pair.names[:1]) for pair in cells.pairs]
    return cells.shape(write(folder / "S1_VDJ_Dominant_Contigs.csv", text))


# Single chains


@shape
def igblast_unpaired(draw: Draw, folder: Path) -> Shape:
    """Output of IgBLAST: ids of reads, no cells."""
    rows, pairs = Cells(draw), []
    for heavy, light in draw.pairs(6):
        for chain in (heavy, light):
            barcode = f"read_{draw.rng.randrange(10**6)}"
            (row,) = rows.add(barcode, chain)
            both = {"heavy": None, "light": None} | {chain.kind: chain.residues}
            pairs.append(Pair(both["heavy"], both["light"], (row.contig_id,), chain.annotation("cdr3", "v_call")))
    records = []
    for row in rows.rows:
        record = airr_record(row) | {"sequence_alignment_aa": row.contig.residues, "sequence_aa": row.contig.sequence_aa}
        record |= {f"{name}_aa": row.chain.regions[name] for name in REGIONS}
        records.append({k: v for k, v in record.items() if k not in ("cell_id", "clone_id")})
    needs = ("sequence_id", "locus", "v_call", "productive", "sequence_alignment_aa", "cdr3_aa", "cdr3")
    text = table_text(draw.columns(records, needs), records, delimiter="\t")
    return Shape(write(folder / "igblast.tsv", text), pairs, {"chains": "unpaired"})


@shape
def oas_unpaired(draw: Draw, folder: Path) -> Shape:
    kind = draw.variant % 2
    metadata = {"Run": "SRR1", "Author": "Doe et al., 2020", "Subject": "D1", "Isotype": "IGHM", "Chain": "Heavy"}
    if kind:
        metadata |= {"Chain": "Light", "Isotype": "Bulk"}
    records, pairs = [], []
    for chains in draw.pairs(8):
        chain = chains[kind]
        rng = draw.rng
        record = {
            "sequence": "",
            "locus": chain.locus[-1],
            "stop_codon": "F",
            "vj_in_frame": "T",
            "productive": "T",
            "v_call": chain.v_call,
            "j_call": chain.j_call,
            "sequence_alignment": nucleotides(chain.residues, rng),
            "sequence_alignment_aa": chain.residues,
        }
        for name in REGIONS:
            record |= {name: nucleotides(chain.regions[name], rng), f"{name}_aa": chain.regions[name]}
        record |= {"junction_aa": chain.junction, "Redundancy": rng.randrange(1, 9), "ANARCI_status": "good"}
        records.append(record)
        both = {"heavy": None, "light": None} | {chain.kind: chain.residues}
        pairs.append(Pair(both["heavy"], both["light"], (), chain.annotation("cdr3", "v_call")))
    needs = ("sequence_alignment_aa", "v_call", "cdr3", "cdr3_aa", "productive")
    quoted = json.dumps(metadata).replace('"', '""')
    text = f'"{quoted}"\n' + table_text(draw.columns(records, needs), records)
    return Shape(write(folder / "SRR1_Heavy_IGHM.csv.gz", text), pairs, {"chains": "unpaired"})


def rows_of(path: Path) -> list[dict[str, str]]:
    """The records of a table that a shape wrote."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
