"""Reasons to drop a record that is not a usable antibody; each is dropped for the first that holds."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.preparing.plan import CleaningLimits
from curr_ab.data.reading.cells import SEVERAL_CHAINS
from curr_ab.data.reading.cut import NO_DOMAIN, OUTCOMES, RECEPTOR, SEVERAL, TRUNCATED, WRONG_CHAIN
from curr_ab.data.reading.evidence import KINDS, holds_only
from curr_ab.words import CHAINS, STANDARD_RESIDUES

# In the order in which they are looked for, which is the order of the report.
REASONS = {
    "several_chains": "the cell or clone has more than one heavy or light chain",
    "non_productive": "the source calls the rearrangement non-productive",
    "missing_chain": "one of the two chains is missing",
    "nucleotides": "the column holds nucleotides, not residues",
    "stop_codon": "a stop codon",
    "unknown_letter": "a letter that is not an amino acid",
    "ambiguous": "too many X, B, Z, U or O",
    "t_cell_receptor": "a chain of a T-cell receptor",
    "several_domains": "several variable domains of the same kind in one chain",
    "wrong_chain": "a light chain in the heavy column, or the other way round",
    "impossible_length": "too short or too long for a variable domain",
    "truncated_domain": "a part of a variable domain, without any of framework 1 or of framework 4",
    "not_a_variable_domain": "nothing that aligns with the variable domain of an antibody",
    "duplicate": "the same residues as an earlier record",
}
# What can be done where no record is left, and the options for it; nothing where the file decides.
_COLUMNS = ("heavy_column", "light_column")
WAYS_OUT: dict[str, tuple[str, tuple[str, ...]]] = {
    "several_chains": ("choose which chain of a cell counts", ("several_chains",)),
    "non_productive": ("take the productive ones of another file", ()),
    "missing_chain": ("read single chains as unpaired", ("unpaired",)),
    "nucleotides": ("name the columns of residues", _COLUMNS),
    "stop_codon": ("name the columns of residues", _COLUMNS),
    "unknown_letter": ("name the columns of residues", _COLUMNS),
    "ambiguous": ("allow more of them", ("max_ambiguous",)),
    "t_cell_receptor": ("give a file of antibodies", ()),
    "several_domains": ("name the columns of one chain each", _COLUMNS),
    "wrong_chain": ("name the columns the other way round", _COLUMNS),
    "impossible_length": ("name the columns of whole variable domains", _COLUMNS),
    "truncated_domain": ("name the columns of whole variable domains", _COLUMNS),
    "not_a_variable_domain": ("name the columns of antibodies", _COLUMNS),
}
# Of rows with one chain, of which some have no partner in every file: no fault of a record.
_WITHOUT_PARTNER = ("several_chains", "non_productive", "missing_chain")
_AMBIGUOUS = "[XBZUO]"
_CALL = {"heavy": ("(?i)IGHV|^VH", "(?i)IG[KL]V|^V[KL]"), "light": ("(?i)IG[KL]V|^V[KL]", "(?i)IGHV|^VH")}


def _holds(value: pa.Array) -> pa.Array:
    """The conditions, false where they are null."""
    return pc.fill_null(value, False)


def _either(conditions: Iterable[pa.Array]) -> pa.Array:
    return functools.reduce(pc.or_, map(_holds, conditions))


def _is_other_kind(evidence: pa.Array, own: str, other: str) -> pa.Array:
    shows_other = _holds(pc.match_substring_regex(evidence, other))
    if not pc.any(shows_other).as_py():
        return shows_other
    return pc.and_(shows_other, pc.invert(_holds(pc.match_substring_regex(evidence, own))))


def _wrong_chain(batch: pa.RecordBatch) -> pa.Array:
    """Positive evidence only: a chain that shows nothing of either kind is kept."""
    return _either(
        _is_other_kind(batch[f"{prefix}{chain}"], *patterns[chain])
        for chain in CHAINS
        for prefix, patterns in (("", KINDS), ("v_call_", _CALL))
    )


def _any_chain(batch: pa.RecordBatch, pattern: str) -> pa.Array:
    return _either(pc.match_substring_regex(batch[chain], pattern) for chain in CHAINS)


def _too_ambiguous(residues: pa.Array, limit: float) -> pa.Array:
    number = pc.count_substring_regex(residues, _AMBIGUOUS).cast(pa.float64())
    return pc.greater(pc.divide(number, pc.binary_length(residues)), limit)


def _bad_length(residues: pa.Array, limits: CleaningLimits) -> pa.Array:
    length = pc.binary_length(residues)
    return pc.or_(pc.less(length, limits.min_length), pc.greater(length, limits.max_length))


def _came_out(batch: pa.RecordBatch, outcome: str) -> pa.Array:
    """True where alignment, which not every chain needs, ended so for a chain."""
    return _either(pc.equal(batch[name], outcome) for name in OUTCOMES)


def _verdicts(batch: pa.RecordBatch, limits: CleaningLimits, paired: bool) -> Iterator[tuple[str, pa.Array]]:
    if SEVERAL_CHAINS in batch.schema.names:
        yield "several_chains", _holds(batch[SEVERAL_CHAINS])
    yield "non_productive", _either(pc.invert(batch[f"productive_{chain}"]) for chain in CHAINS)
    yield "missing_chain", (pc.or_ if paired else pc.and_)(*(batch[chain].is_null() for chain in CHAINS))
    yield "nucleotides", _any_chain(batch, "^[ACGTN]{20,}$")
    if not all(holds_only(batch[chain], STANDARD_RESIDUES) for chain in CHAINS):
        yield "stop_codon", _any_chain(batch, r"\*")
        yield "unknown_letter", _any_chain(batch, f"[^{STANDARD_RESIDUES}XBZUO]")
        yield "ambiguous", _either(_too_ambiguous(batch[chain], limits.max_ambiguous) for chain in CHAINS)
    for outcome in (RECEPTOR, SEVERAL):
        yield outcome, _came_out(batch, outcome)
    yield "wrong_chain", pc.or_(_wrong_chain(batch), _came_out(batch, WRONG_CHAIN))
    yield "impossible_length", _either(_bad_length(batch[chain], limits) for chain in CHAINS)
    for outcome in (TRUNCATED, NO_DOMAIN):
        yield outcome, _came_out(batch, outcome)


def drop_reasons(batch: pa.RecordBatch, limits: CleaningLimits, *, paired: bool) -> pa.Array:
    """The first reason to drop each record, or null."""
    reasons = pa.nulls(batch.num_rows, pa.string())
    for reason, holds in _verdicts(batch, limits, paired):
        if pc.any(holds).as_py():
            reasons = pc.coalesce(reasons, pc.if_else(holds, reason, None))
    return reasons


def reasons_without_pair(batch: pa.RecordBatch) -> list[str | None]:
    """Why rows of a table with one chain in a row are none of a pair; empty where a row is to be a pair."""
    if SEVERAL_CHAINS not in batch.schema.names:
        return []
    reasons = drop_reasons(batch, CleaningLimits(), paired=True).to_pylist()
    return [reason if reason in _WITHOUT_PARTNER else None for reason in reasons]
