"""Annotation of a table's columns: fields of the schema, with uniform letters, numbers and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.columns import REGION_PIECES
from curr_ab.data.reading.sources import MalformedSource
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
_UNKNOWN_METADATA = {"", "no", "none", "unknown", "nan", "na", "null"}
_CDR_MASK = "^(?P<a>0*)(?P<b>1+)(?P<c>0+)(?P<d>2+)(?P<e>0+)(?P<f>3+)(?P<g>0*)$"


def letters(column: pa.Array) -> pa.Array:
    """Residues in upper case without blanks and alignment gaps; an empty text is null."""
    column = pc.ascii_upper(pc.ascii_trim_whitespace(column))
    if pc.any(pc.match_substring_regex(column, "[-. ]")).as_py():
        column = pc.replace_substring_regex(column, "[-. ]", "")
    return pc.if_else(pc.equal(pc.binary_length(column), 0), None, column)


def _numbers(name: str, column: pa.Array, source: str, first_record: int) -> pa.Array:
    kind = PAIR_SCHEMA.field(name).type
    if not pa.types.is_string(column.type):
        return _possible(name, column.cast(kind))
    text = pc.ascii_trim_whitespace(column)
    text = pc.if_else(pc.equal(pc.binary_length(text), 0), None, text)
    bad = pc.invert(pc.match_substring_regex(text, r"^[-+]?\d+\.?\d*([eE][-+]?\d+)?$"))
    if pc.any(bad).as_py():
        row = pc.index(bad, True).as_py()
        value = text[row].as_py()
        raise MalformedSource(
            source,
            f"record {first_record + row}: {name} must be a number; got {value!r}: correct or empty it",
        )
    numbers = text.cast(pa.float64())
    if name.startswith("v_identity"):  # AIRR writes a share, IgBLAST and OAS per cent
        numbers = pc.if_else(pc.greater(numbers, 1.0), pc.divide(numbers, 100.0), numbers)
    return pc.round(numbers).cast(kind) if pa.types.is_integer(kind) else _possible(name, numbers.cast(kind))


def _possible(name: str, shares: pa.Array) -> pa.Array:
    """The identities between 0 and 1; others are null."""
    if not name.startswith("v_identity"):
        return shares
    inside = pc.and_(pc.greater_equal(shares, 0.0), pc.less_equal(shares, 1.0))
    return pc.if_else(inside, shares, pa.scalar(None, shares.type))


def truth(column: pa.Array) -> pa.Array:
    """True and false from the words that tools write for yes and no; null for any other."""
    text = pc.ascii_lower(pc.ascii_trim_whitespace(column.cast(pa.string())))
    is_answer = pc.is_in(text, pa.array(_TRUE + _FALSE))
    return pc.if_else(is_answer, pc.is_in(text, pa.array(_TRUE)), pa.scalar(None, pa.bool_()))


def _mask_of_lengths(lengths: list[pa.Array]) -> pa.Array:
    """Region masks from the lengths of the seven regions."""
    codes = MASK_LETTERS["region_mask"]
    regions = [pc.binary_repeat(code, length) for code, length in zip(codes, lengths, strict=True)]
    return pc.binary_join_element_wise(*regions, "")


def _region_mask(columns: Columns, chain: str, sequence: pa.Array) -> pa.Array | None:
    """Region mask of the source itself, else from its CDR mask, else from its columns of regions."""
    if f"region_mask_{chain}" in columns:
        return columns[f"region_mask_{chain}"]
    if f"cdr_mask_{chain}" in columns:
        groups = pc.extract_regex(columns[f"cdr_mask_{chain}"], _CDR_MASK)
        return _mask_of_lengths([pc.binary_length(pc.struct_field(groups, [group])) for group in range(7)])
    pieces = [f"{piece}_{chain}" for piece in REGION_PIECES]
    if all(piece in columns for piece in pieces):
        texts = [letters(columns[piece]) for piece in pieces]
        is_whole = pc.equal(pc.binary_join_element_wise(*texts, ""), sequence)
        return pc.if_else(is_whole, _mask_of_lengths([pc.binary_length(text) for text in texts]), None)
    return None


def _check_mask(name: str, mask: pa.Array, sequence: pa.Array, source: str, first_record: int) -> None:
    """Refuse a mask that does not fit its residues: it would be read against the wrong ones."""
    alphabet = MASK_LETTERS[name.rpartition("_")[0]]
    same = pc.equal(pc.binary_length(mask), pc.binary_length(sequence))
    fits = pc.and_(same, pc.match_substring_regex(mask, f"^[{alphabet}]+$"))
    if not pc.all(fits).as_py():
        record = first_record + pc.index(fits, False).as_py()
        problem = f"must have one of the letters {alphabet} for each residue"
        raise MalformedSource(source, f"record {record}: {name} {problem}; correct or empty it")


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
    return {name: value for name, value in fields.items() if value is not None}


def arrange(
    columns: Columns, source: str, first_record: int, constants: Mapping[str, str], extra: tuple[str, ...]
) -> pa.RecordBatch:
    """Put a batch into the pair schema, followed by `productive_heavy`, `productive_light` and `extra`."""
    num_rows = len(next(iter(columns.values())))
    out: Columns = {}
    sequences = {chain: letters(columns[chain]) for chain in CHAINS if chain in columns}
    for field in FIELDS:
        name = field.name
        if name in sequences:
            out[name] = sequences[name]
        elif name in columns and field.type != pa.string():
            out[name] = _numbers(name, columns[name], source, first_record)
        elif name in columns:
            out[name] = columns[name].cast(pa.string())
        elif name in constants:
            out[name] = pa.repeat(pa.scalar(constants[name]), num_rows)
        else:
            out[name] = pa.nulls(num_rows, field.type)
    for chain, sequence in sequences.items():
        region_mask = _region_mask(columns, chain, sequence)
        if region_mask is not None:
            out[f"region_mask_{chain}"] = region_mask
        for mask in MASK_LETTERS:
            name = f"{mask}_{chain}"
            if name in columns:
                _check_mask(name, out[name], sequence, source, first_record)
    if "split" in columns:
        codes = pc.index_in(pc.ascii_lower(out["split"]), pa.array(list(_SPLITS)))
        out["split"] = pa.array(list(_SPLITS.values())).take(codes)
    counted = pa.array(range(first_record, first_record + num_rows), pa.int64())
    records = columns.get("record", counted)  # joined cells keep the number of their heavy chain's row
    out["id"] = pc.coalesce(out["id"], records.cast(pa.string()))
    out["source"] = pa.repeat(pa.scalar(source), num_rows)
    out["record"] = records
    for chain in CHAINS:
        name = f"productive_{chain}"
        out[name] = truth(columns[name]) if name in columns else pa.nulls(num_rows, pa.bool_())
    for name in extra:
        out[name] = columns[name].cast(pa.string())
    return pa.record_batch(out)
