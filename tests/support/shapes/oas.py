"""Paired data units of the Observed Antibody Space, of both generations of columns."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from support.shapes.drawing import Draw, Pair, Record, Shape, shape
from support.shapes.molecules import REGIONS, Chain, nucleotides, with_stop
from support.shapes.writing import table_text

_COLUMNS = """
sequence_id sequence locus stop_codon vj_in_frame v_frameshift productive rev_comp complete_vdj v_call d_call
j_call sequence_alignment germline_alignment sequence_alignment_aa germline_alignment_aa v_alignment_start
v_alignment_end d_alignment_start d_alignment_end j_alignment_start j_alignment_end v_sequence_alignment
v_sequence_alignment_aa v_germline_alignment v_germline_alignment_aa d_sequence_alignment
d_sequence_alignment_aa d_germline_alignment d_germline_alignment_aa j_sequence_alignment
j_sequence_alignment_aa j_germline_alignment j_germline_alignment_aa fwr1 fwr1_aa cdr1 cdr1_aa fwr2 fwr2_aa
cdr2 cdr2_aa fwr3 fwr3_aa fwr4 fwr4_aa cdr3 cdr3_aa junction junction_length junction_aa junction_aa_length
v_score d_score j_score v_cigar d_cigar j_cigar v_support d_support j_support v_identity d_identity j_identity
v_sequence_start v_sequence_end v_germline_start v_germline_end d_sequence_start d_sequence_end
d_germline_start d_germline_end j_sequence_start j_sequence_end j_germline_start j_germline_end fwr1_start
fwr1_end cdr1_start cdr1_end fwr2_start fwr2_end cdr2_start cdr2_end fwr3_start fwr3_end fwr4_start fwr4_end
cdr3_start cdr3_end np1 np1_length np2 np2_length c_region Redundancy Isotype
"""
OAS_COLUMNS = _COLUMNS.split()
OLD_OAS_LACKS = {"v_frameshift", "complete_vdj", "fwr4", "fwr4_aa", "fwr4_start", "fwr4_end"}
OLD_OAS_LACKS |= {"c_region", "Redundancy", "Isotype"}


def oas_fields(name: str, chain: Chain, draw: Draw, *, productive: bool = True) -> Record:
    """The columns of a chain, without its suffix."""
    rng = draw.rng
    residues = chain.residues if productive else with_stop(chain, rng)
    record: Record = dict.fromkeys(OAS_COLUMNS, "")
    record |= {
        "sequence_id": name,
        "sequence": "".join(rng.choices("ACGT", k=30)) + nucleotides(residues, rng),
        "locus": chain.locus[-1],
        "stop_codon": "F" if productive else "T",
        "vj_in_frame": "T",
        "v_frameshift": "F",
        "productive": "T" if productive else "F",
        "rev_comp": "F",
        "complete_vdj": "T",
        "v_call": chain.v_call,
        "d_call": chain.d_call,
        "j_call": chain.j_call,
        "sequence_alignment": nucleotides(residues, rng),
        "sequence_alignment_aa": residues,
        "v_identity": f"{rng.uniform(85, 100):.3f}",
        "junction_aa": chain.junction,
        "junction_length": 3 * len(chain.junction),
        "np1": "ACG",
        "Redundancy": rng.randrange(1, 5),
        "Isotype": chain.c_call if chain.kind == "heavy" else "",
    }
    for region in REGIONS:
        record |= {region: nucleotides(chain.regions[region], rng), f"{region}_aa": chain.regions[region]}
    return record


def _region_mask(chain: Chain) -> str:
    return "".join(str(code) * len(chain.regions[name]) for code, name in enumerate(REGIONS, 1))


def _oas_paired(draw: Draw, folder: Path, lacks: set[str], isotype: str) -> Shape:
    """Two gzip members: the line of metadata, and the table."""
    records, pairs, dropped = [], [], []
    for number, (heavy, light) in enumerate(draw.pairs(9)):
        names = [f"{draw.barcode()}_contig_{n}" for n in (1, 2)]
        whole = {
            f"{key}_{chain.kind}": value
            for name, chain in zip(names, (heavy, light), strict=True)
            for key, value in oas_fields(name, chain, draw, productive=number != 3 or chain is light).items()
            if key not in lacks
        }
        whole |= {"ANARCI_numbering_light": "{'fwl1': {'1 ': 'D'}}", "ANARCI_numbering_heavy": ""}
        whole |= {"ANARCI_status_light": "good", "ANARCI_status_heavy": "good"}
        records.append(whole)
        annotation: dict[str, Any] = heavy.annotation("cdr3", "v_call") | light.annotation("cdr3", "v_call")
        annotation |= {f"region_mask_{chain.kind}": _region_mask(chain) for chain in (heavy, light)}
        annotation |= {
            "isotype": heavy.c_call if "Isotype" not in lacks else None,
            "donor": "Doe et al., 2021/Subject-3",
        }
        if number == 3:
            dropped.append(Pair(whole["sequence_alignment_aa_heavy"], light.residues, (names[0],)))
        else:
            pairs.append(Pair(heavy.residues, light.residues, (names[0],), annotation))
    kept = (
        "sequence_id",
        "sequence_alignment_aa",
        "v_call",
        "productive",
        "cdr3",
        "Isotype",
        *(f"{r}_aa" for r in REGIONS),
    )
    needs = [f"{name}_{chain}" for name in kept for chain in ("heavy", "light") if name not in lacks]
    metadata = {
        "Run": f"{draw.sample()}_Paired_All",
        "Author": "Doe et al., 2021",
        "Species": "human",
        "Age": "no",
        "BSource": "PBMC",
        "Vaccine": "None",
        "Disease": "None",
        "Subject": "Subject-3",
        "Unique sequences": len(records),
        "Isotype": isotype,
        "Chain": "Paired",
    }
    quoted = json.dumps(metadata).replace('"', '""')
    table = table_text(draw.columns(records, needs), records)
    path = folder / "SRR10358525_paired.csv.gz"
    path.write_bytes(gzip.compress(f'"{quoted}"\n'.encode()) + gzip.compress(table.encode()))
    return Shape(path, pairs, left_out={"non_productive": 1}, dropped=dropped)


@shape
def oas_paired(draw: Draw, folder: Path) -> Shape:
    return _oas_paired(draw, folder, set(), "All")


@shape
def oas_paired_older(draw: Draw, folder: Path) -> Shape:
    return _oas_paired(draw, folder, OLD_OAS_LACKS, "Bulk" if draw.variant else "All")
