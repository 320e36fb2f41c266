"""Annotation schema of antibody pairs, with the column names of other tools that mean the same."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from curr_ab.words import CHAINS, REGIONS

# One character per residue in every mask, as abstar writes them. A shard stores each letter as its
# position in this string plus one; 0 is "not known" or "no residue".
MASK_LETTERS = {"region_mask": "1234567", "segment_mask": "VDJN", "mutation_mask": "01"}


@dataclass(frozen=True)
class Field:
    """One column of the schema; `bases` are its other names, in a chain's field without the chain."""

    name: str
    type: pa.DataType
    meaning: str
    bases: tuple[str, ...] = ()
    chain: str = ""


def _chain_fields(name: str, type: pa.DataType, meaning: str, *bases: str) -> list[Field]:
    return [
        Field(f"{name}_{chain}", type, f"{meaning}, {chain} chain", (name, *bases), chain) for chain in CHAINS
    ]


FIELDS: tuple[Field, ...] = (
    Field(
        "id",
        pa.string(),
        "name of the record in its source",
        (
            *("name", "pair_id", "sequence_id", "barcode", "sequence_id_heavy", "sequence_id:0", "cell_id"),
            "contig_id",
        ),
    ),
    Field("heavy", pa.string(), "residues of the heavy chain; null in unpaired data", (), "heavy"),
    Field("light", pa.string(), "residues of the light chain; null in unpaired data", (), "light"),
    Field("donor", pa.string(), "who the cell is from", ("subject", "subject_id", "donor_id", "patient")),
    Field(
        "disease", pa.string(), "diagnosis or vaccination of the donor", ("disease_diagnosis", "diagnosis")
    ),
    Field(
        "isotype",
        pa.string(),
        "constant region of the heavy chain",
        ("isotype_heavy", "c_call_heavy", "c_gene_heavy", "c_call:0"),
    ),
    Field("clone", pa.string(), "clonal family", ("clone_id", "clone_id_heavy", "clonotype_id", "lineage")),
    Field("split", pa.string(), "train, validation or test, where a source brings its own"),
    *_chain_fields("v_call", pa.string(), "V gene", "v_gene"),
    Field("d_call_heavy", pa.string(), "D gene, heavy chain", ("d_call", "d_gene"), "heavy"),
    *_chain_fields("j_call", pa.string(), "J gene", "j_gene"),
    *_chain_fields("cdr3", pa.string(), "residues of the CDR3 without its anchors", "cdr3_aa", "junction_aa"),
    *_chain_fields("region_mask", pa.string(), f"1-7 for {', '.join(REGIONS)}"),
    *_chain_fields("segment_mask", pa.string(), "V, D, J, or N where untemplated", "gene_segment_mask"),
    *_chain_fields(
        "mutation_mask", pa.string(), "1 where the residue is not the germline's", "nongermline_mask"
    ),
    *_chain_fields(
        "mutations", pa.int32(), "number of mutated residues", "mutation_count_aa", "v_mutation_count_aa"
    ),
    *_chain_fields("v_identity", pa.float32(), "share of the V gene's nucleotides that are germline, 0-1"),
)
ANNOTATIONS = tuple(field.name for field in FIELDS if field.name not in ("id", *CHAINS))
# Where a record was read: errors, the report and the file of dropped records name it.
PROVENANCE = (
    Field("source", pa.string(), "file that the record was read from"),
    Field("record", pa.int64(), "number of the record in that file, from 1"),
)
PAIR_SCHEMA = pa.schema([(field.name, field.type) for field in (*FIELDS, *PROVENANCE)])
