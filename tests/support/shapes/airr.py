"""Tables with one chain in a row: AIRR of several programs, Change-O, MiXCR, BD Rhapsody, unpaired OAS."""

from __future__ import annotations

import json
from pathlib import Path

from support.shapes.cells import AIRR_NEEDS, Cells, Row, airr_tsv, cells_of
from support.shapes.drawing import Draw, Pair, Record, Shape, shape, single
from support.shapes.molecules import REGIONS, nucleotides, with_gaps, with_stop
from support.shapes.writing import table_text, write


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
    path = airr_tsv(
        cells, folder / "heavy_clone-pass.tsv", records, "locus", "sequence_alignment", "junction_aa"
    )
    return cells.shape(path, "cdr3", "v_call")


@shape
def immcantation_written_by_r(draw: Draw, folder: Path) -> Shape:
    """TRUE and FALSE, NA where nothing is known, every text in quotes."""
    cells = cells_of(draw, "missing_chain", genes=None)
    words = {"T": "TRUE", "F": "FALSE", "": "NA"}
    records = [
        {name: words.get(value, value) for name, value in airr_record(row).items()} for row in cells.rows
    ]
    columns = draw.columns(records, [*AIRR_NEEDS, "locus", "sequence_alignment", "junction_aa"])
    lines = [columns, *([record[name] for name in columns] for record in records)]
    text = "\n".join(
        "\t".join(
            f'"{v}"' if isinstance(v, str) and v not in ("TRUE", "FALSE", "NA") else str(v) for v in line
        )
        for line in lines
    )
    return cells.shape(write(folder / "db.tsv", text + "\n"), "cdr3", "v_call")


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
    path = airr_tsv(
        cells, folder / "igblast.tsv", records, "sequence_aa", "sequence_alignment_aa", "locus", "cdr3"
    )
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
        {k: words[record[k]] if k in bools or record[k] == "" else record[k] for k in columns}
        for record in records
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
        Pair(pair.heavy, pair.light, (pair.names[0], names[pair.names[1]]), pair.annotation)
        for pair in cells.pairs
    ]
    needs = ("sequence_alignment", "junction_aa", "locus")
    return cells.shape(airr_tsv(cells, folder / "TRUST_barcode_airr.tsv", records, *needs), "cdr3", "v_call")


@shape
def mixcr(draw: Draw, folder: Path) -> Shape:
    """Clones of cells: residues of the regions, or of the whole with what is imputed in lower case."""
    cells = cells_of(draw, "missing_chain", genes=None)
    names = {
        "fwr1": "FR1",
        "cdr1": "CDR1",
        "fwr2": "FR2",
        "cdr2": "CDR2",
        "fwr3": "FR3",
        "cdr3": "CDR3",
        "fwr4": "FR4",
    }
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
        Pair(pair.heavy, pair.light, (pair.names[0].removesuffix("-1"),), pair.annotation)
        for pair in cells.pairs
    ]
    return cells.shape(path, "cdr3")


@shape
def bd_rhapsody(draw: Draw, folder: Path) -> Shape:
    """Contigs behind seven lines of comments; cells are numbers and chains are words."""
    words = {
        "IGH": "BCR_Heavy",
        "IGK": "BCR_Kappa",
        "IGL": "BCR_Lambda",
        "TRA": "TCR_Alpha",
        "TRB": "TCR_Beta",
    }
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


@shape
def mixcr_whole_targets(draw: Draw, folder: Path) -> Shape:
    """Clones of cells with the nucleotides of the target, and the CDR3 as the only residues."""
    cells, records = cells_of(draw, "missing_chain", genes=None), []
    for number, row in enumerate(cells.rows):
        records.append(
            {
                "cloneId": number,
                "tagValueCELL": row.barcode.removesuffix("-1"),
                "readCount": f"{row.umis * 37}.0",
                "uniqueMoleculeCount": row.umis,
                "targetSequences": row.contig.v_domain,
                "targetQualities": "F" * len(row.contig.v_domain),
                **{f"all{s.upper()}HitsWithScore": f"{call}*00(1400)" for s, call in row.gene.items()},
                "aaSeqCDR3": row.chain.junction if row.productive else f"{row.chain.junction[:3]}*W",
                "refPoints": ":::::::0:-3:11:::::12:-5:39:::",
            }
        )
    needs = ("tagValueCELL", "targetSequences", "allVHitsWithScore", "aaSeqCDR3")
    text = table_text(draw.columns(records, needs), records, delimiter="\t")
    cells.pairs = [
        Pair(pair.heavy, pair.light, (pair.names[0].removesuffix("-1"),), pair.annotation)
        for pair in cells.pairs
    ]
    return cells.shape(write(folder / "sample.clones.tsv", text), "cdr3")


@shape
def igblast_of_cells(draw: Draw, folder: Path) -> Shape:
    """IgBLAST run on the contigs of Cell Ranger: their names alone say the cell."""
    cells, records = cells_of(draw, "missing_chain", genes=None), []
    for row in cells.rows:
        record = airr_record(row) | {"sequence_aa": row.contig.sequence_aa, "v_identity": "97.966"}
        record |= {"sequence_alignment": row.contig.v_domain, "sequence_alignment_aa": row.contig.residues}
        record |= {f"{name}_aa": row.chain.regions[name] for name in REGIONS}
        own = ("cell_id", "clone_id", "consensus_count", "duplicate_count")
        records.append({name: value for name, value in record.items() if name not in own})
    needs = ("sequence_id", "v_call", "productive", "locus", "sequence_alignment_aa", "cdr3", "cdr3_aa")
    text = table_text(draw.columns(records, needs), records, delimiter="\t")
    return cells.shape(write(folder / "igblast.tsv", text), "cdr3", "v_call")


@shape
def anarci_numbers(draw: Draw, folder: Path) -> Shape:
    """A column for each position, and a file for the chains of each kind."""
    named, sources = draw.named(8), []
    for file, kind in (("run_H.csv", 0), ("run_KL.csv", 1)):
        records, positions = [], dict[str, None]()
        for name, *chains in named:
            chain = chains[kind]
            before = with_gaps({**chain.regions, "cdr3": "", "fwr4": ""}, "-")
            cdr3 = chain.regions["cdr3"]
            half, more = (len(cdr3) + 1) // 2, max(len(cdr3) - 13, 0)
            loop = cdr3[:half] + "-" * (13 - len(cdr3)) + cdr3[half:]
            letters = [*before, *loop, *chain.regions["fwr4"]]
            numbers = [*map(str, range(1, 112)), *(f"111{chr(65 + n)}" for n in range(more))]
            numbers += map(str, range(112, 112 + len(letters) - len(numbers)))
            positions |= dict.fromkeys(numbers)
            about = {"Id": name, "domain_no": 0, "hmm_species": "human", "chain_type": chain.locus[-1]}
            records.append(
                about | {"e-value": 1e-50, "v_gene": ""} | dict(zip(numbers, letters, strict=True))
            )
        ordered = sorted(positions, key=lambda number: (int(number[:3].rstrip("ABCDEFG")), number))
        columns = ["Id", "domain_no", "hmm_species", "chain_type", "e-value", "v_gene", *ordered]
        filled = [dict.fromkeys(columns, "-") | record for record in records]
        sources.append(write(folder / file, table_text(columns, filled)))
    pairs = [Pair(heavy.residues, light.residues, (name,)) for name, heavy, light in named]
    return Shape(sources[::-1] if draw.variant else sources, pairs)


# Single chains


@shape
def igblast_unpaired(draw: Draw, folder: Path) -> Shape:
    """Output of IgBLAST: ids of reads, no cells."""
    rows, pairs = Cells(draw), []
    for heavy, light in draw.pairs(6):
        for chain in (heavy, light):
            barcode = f"read_{draw.rng.randrange(10**6)}"
            (row,) = rows.add(barcode, chain)
            pairs.append(single(chain, row.contig_id, **chain.annotation("cdr3", "v_call")))
    records = []
    for row in rows.rows:
        record = airr_record(row) | {
            "sequence_alignment_aa": row.contig.residues,
            "sequence_aa": row.contig.sequence_aa,
        }
        record |= {f"{name}_aa": row.chain.regions[name] for name in REGIONS}
        records.append({k: v for k, v in record.items() if k not in ("cell_id", "clone_id")})
    needs = ("sequence_id", "locus", "v_call", "productive", "sequence_alignment_aa", "cdr3_aa", "cdr3")
    text = table_text(draw.columns(records, needs), records, delimiter="\t")
    return Shape(write(folder / "igblast.tsv", text), pairs, {"chains": "unpaired"})


@shape
def oas_unpaired(draw: Draw, folder: Path) -> Shape:
    kind = draw.variant % 2
    metadata = {
        "Run": "SRR1",
        "Author": "Doe et al., 2020",
        "Subject": "D1",
        "Isotype": "IGHM",
        "Chain": "Heavy",
    }
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
        pairs.append(single(chain, **chain.annotation("cdr3", "v_call")))
    needs = ("sequence_alignment_aa", "v_call", "cdr3", "cdr3_aa", "productive")
    quoted = json.dumps(metadata).replace('"', '""')
    text = f'"{quoted}"\n' + table_text(draw.columns(records, needs), records)
    return Shape(write(folder / "SRR1_Heavy_IGHM.csv.gz", text), pairs, {"chains": "unpaired"})
