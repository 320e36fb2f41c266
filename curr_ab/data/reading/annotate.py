"""Annotation of a table's columns: fields of the schema, with uniform letters, numbers and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.columns import REGION_PIECES
from curr_ab.data.reading.evidence import holds, holds_only
from curr_ab.data.reading.residues import ABSENT, letters
from curr_ab.data.reading.table import Recognised
from curr_ab.data.schema import FIELDS, MASK_LETTERS, PAIR_SCHEMA
from curr_ab.words import CHAINS

Columns = dict[str, pa.Array]
_TRUE = ["t", "true", "1", "yes", "y", "productive"]
_FALSE = ["f", "false", "0", "no", "n", "unproductive", "non-productive"]
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
_NUMBER = r"^[-+]?\d+\.?\d*([eE][-+]?\d+)?$"
_LONGEST_FWR4 = 15  # residues; more behind the CDR3 are of the constant region too
_UNKNOWN_ISOTYPES = ["all", "bulk", "unknown", "none", "nan", ""]
_UNKNOWN_METADATA = {"", "no", "none", "unknown", "nan", "na", "null"}
_CDR_MASK = "^(?P<a>0*)(?P<b>1+)(?P<c>0+)(?P<d>2+)(?P<e>0+)(?P<f>3+)(?P<g>0*)$"


def _numbers(name: str, column: pa.Array) -> pa.Array:
    """The column as numbers; null where it holds something else."""
    kind = PAIR_SCHEMA.field(name).type
    if pa.types.is_string(column.type):
        text = pc.replace_substring_regex(pc.ascii_trim_whitespace(column), r"\s*%$", "")
        numbers = pc.if_else(pc.match_substring_regex(text, _NUMBER), text, None).cast(pa.float64())
    else:
        numbers = column.cast(pa.float64())
    if name.startswith("v_identity"):  # AIRR writes a share, IgBLAST and OAS per cent
        numbers = pc.if_else(pc.greater(numbers, 1.0), pc.divide(numbers, 100.0), numbers)
        is_share = pc.and_(pc.greater_equal(numbers, 0.0), pc.less_equal(numbers, 1.0))
    else:
        is_share = pc.less(pc.abs(numbers), 1e9)
    numbers = pc.if_else(is_share, numbers, None)
    return pc.round(numbers).cast(kind) if pa.types.is_integer(kind) else numbers.cast(kind)


def _is_empty(column: pa.Array) -> pa.Array:
    text = pc.ascii_trim_whitespace(column.cast(pa.string()))
    return pc.or_kleene(pc.is_null(text), pc.is_in(pc.ascii_upper(text), pa.array(ABSENT)))


def truth(column: pa.Array) -> pa.Array:
    """True and false from the words that tools write for yes and no; null for any other."""
    text = pc.ascii_lower(pc.ascii_trim_whitespace(column.cast(pa.string())))
    is_answer = pc.is_in(text, pa.array(_TRUE + _FALSE))
    return pc.if_else(is_answer, pc.is_in(text, pa.array(_TRUE)), pa.scalar(None, pa.bool_()))


def _mask_of_lengths(lengths: list[pa.Array]) -> pa.Array:
    """Region masks from the lengths of the seven regions; a length that is null counts as 0."""
    counts = np.stack([pc.fill_null(length, 0).to_numpy() for length in lengths], axis=1)
    codes = np.tile(np.frombuffer(MASK_LETTERS["region_mask"].encode(), np.uint8), len(counts))
    ends = np.cumsum([0, *counts.sum(axis=1)], dtype=np.int32)
    buffers = [pa.py_buffer(values) for values in (ends, np.repeat(codes, counts.ravel()))]
    return pa.Array.from_buffers(pa.string(), len(counts), [None, *buffers])


def _region_mask(columns: Columns, chain: str, sequence: pa.Array) -> pa.Array | None:
    """Region mask of the source itself, else from its CDR mask, else from its columns of regions."""
    if f"region_mask_{chain}" in columns:
        return columns[f"region_mask_{chain}"]
    if f"cdr_mask_{chain}" in columns:
        groups = pc.extract_regex(columns[f"cdr_mask_{chain}"], _CDR_MASK)
        lengths = [pc.binary_length(pc.struct_field(groups, [group])) for group in range(7)]
        return pc.if_else(groups.is_valid(), _mask_of_lengths(lengths), None)
    pieces = [f"{piece}_{chain}" for piece in REGION_PIECES]
    if not all(piece in columns for piece in pieces[:-1]):
        return None
    texts = [letters(columns[piece]) for piece in pieces[:-1]]
    before = pc.binary_join_element_wise(*texts, "")
    if pieces[-1] in columns:
        last = letters(columns[pieces[-1]])
    else:  # older units of OAS lack framework 4, which is the rest behind the CDR3
        known = zip(sequence.to_pylist(), pc.binary_length(before).to_pylist(), strict=True)
        rests = [(text or "")[length or 0 :] for text, length in known]
        last = pa.array([rest if 0 < len(rest) <= _LONGEST_FWR4 else None for rest in rests], pa.string())
    fits = pc.equal(pc.binary_join_element_wise(before, last, ""), sequence)
    return pc.if_else(fits, _mask_of_lengths([pc.binary_length(text) for text in (*texts, last)]), None)


def _fitting(name: str, mask: pa.Array, sequence: pa.Array) -> pa.Array:
    """The masks with one of their letters for each residue: others would be read against the wrong ones."""
    alphabet = MASK_LETTERS[name.rpartition("_")[0]]
    fits = pc.and_(pc.equal(pc.binary_length(mask), pc.binary_length(sequence)), pc.not_equal(mask, ""))
    if not holds_only(mask, alphabet):
        fits = pc.and_(fits, pc.match_substring_regex(mask, f"^[{alphabet}]*$"))
    return pc.if_else(fits, mask, None)


def _gene(column: pa.Array) -> pa.Array:
    """Gene calls without the species or score behind them, as in `IGHV1-18 (Human)`; null for none."""
    calls = column.cast(pa.string())
    if holds(calls, "("):
        calls = pc.replace_substring_regex(calls, r"\s*\([^)]*\)", "")
    return pc.if_else(_is_empty(calls), None, pc.ascii_trim_whitespace(calls))


def describe_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Read the schema fields that an OAS metadata line gives for the whole file.

    Subjects are numbered within a study ("Subject-1"), so the donor is named with the study's author.
    """

    def value_of(key: str) -> str | None:
        value = str(metadata.get(key, "")).strip()
        return None if value.lower() in _UNKNOWN_METADATA else value

    subject, author = value_of("Subject"), value_of("Author")
    donor = f"{author}/{subject}" if author and subject else subject
    fields = {"donor": donor, "disease": value_of("Disease"), "isotype": value_of("Isotype")}
    if str(fields["isotype"]).lower() in _UNKNOWN_ISOTYPES:
        fields["isotype"] = None
    return {name: value for name, value in fields.items() if value is not None}


def arrange(
    columns: Columns, constants: Mapping[str, str], extra: tuple[str, ...], recognised: Recognised
) -> pa.RecordBatch:
    """Put a batch into the pair schema, followed by `productive_heavy`, `productive_light` and `extra`.

    The columns hold residues as they are kept, and the `source` and `record` of each row. Values that cannot
    be understood are left empty and counted.
    """
    num_rows = len(columns["record"])
    out: Columns = {}
    sequences = {chain: columns[chain] for chain in CHAINS if chain in columns}
    for field in FIELDS:
        name = field.name
        if name in columns and field.type != pa.string():
            out[name] = _numbers(name, columns[name])
            given = pc.and_not(pc.is_valid(columns[name]), _is_empty(columns[name]))
            lost = pc.and_(given, out[name].is_null())
            recognised.count(recognised.emptied, name, pc.sum(lost).as_py() or 0)
        elif name in columns and "_call_" in name:
            out[name] = _gene(columns[name])
        elif name in columns:
            out[name] = columns[name].cast(pa.string())
        else:
            out[name] = pa.nulls(num_rows, field.type)
        if name == "isotype":  # OAS writes "All" and "Bulk" of units with several
            is_known = pc.invert(pc.is_in(pc.ascii_lower(out[name]), pa.array(_UNKNOWN_ISOTYPES)))
            out[name] = pc.if_else(pc.fill_null(is_known, False), out[name], None)
        if name in constants:
            out[name] = pc.coalesce(out[name], pa.scalar(constants[name]))
    for chain, sequence in sequences.items():
        region_mask = _region_mask(columns, chain, sequence)
        if region_mask is not None:
            out[f"region_mask_{chain}"] = region_mask
        for mask in MASK_LETTERS:
            name = f"{mask}_{chain}"
            before = out[name]
            out[name] = _fitting(name, before, sequence)
            num_lost = out[name].null_count - before.null_count
            recognised.count(recognised.emptied, name, num_lost)
    if "split" in columns:
        codes = pc.index_in(pc.ascii_lower(out["split"]), pa.array(list(_SPLITS)))
        out["split"] = pa.array(list(_SPLITS.values())).take(codes)
    out["source"] = columns["source"]
    out["record"] = columns["record"]
    for chain in CHAINS:
        name = f"productive_{chain}"
        out[name] = truth(columns[name]) if name in columns else pa.nulls(num_rows, pa.bool_())
    for name in extra:
        out[name] = columns[name].cast(pa.string())
    return pa.record_batch(out)
