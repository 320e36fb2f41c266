"""Residues of a batch: of a chain by the rules of the layout, of its CDR3, and of two chains in one text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase

import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.columns import Rule
from curr_ab.data.reading.evidence import holds_only, is_nucleotides, shown_chain
from curr_ab.data.reading.translation import read_nucleotides, reverse_complement, translate

# Gaps and blanks, those of word processors included: a space that does not break, and some of no width.
_BESIDE_LETTERS = r"[-.\s\x{a0}\x{200b}\x{feff}]"
LIST_SIGNS = r"\s+|^[\[(]?['\"]|['\"][\])]?$"  # blanks, and what is around a list of two texts
# Words for a chain that is not there. None of them is a sequence.
ABSENT = (
    "",
    "ND",
    "NA",
    "N/A",
    "NAN",
    "NONE",
    "NULL",
    "UNKNOWN",
    "MISSING",
    "NOTDETERMINED",
    "NOTAVAILABLE",
    "?",
)


def letters(column: pa.Array) -> pa.Array:
    """Residues in upper case without blanks, newlines and alignment gaps; null where a chain is missing."""
    if not holds_only(column, ascii_uppercase):  # most tables hold nothing else
        column = pc.ascii_upper(pc.ascii_trim_whitespace(column))
        column = pc.replace_substring_regex(column, _BESIDE_LETTERS, "")
    is_short = pc.less(pc.binary_length(column), 14)
    if not pc.any(is_short).as_py():
        return column
    return pc.if_else(pc.and_(is_short, pc.is_in(column, pa.array(ABSENT))), None, column)


def _joined(columns: Mapping[str, pa.Array], rule: Rule) -> pa.Array:
    texts = [columns[name].cast(pa.string()) for name in rule.columns]
    return texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "")


def residues_of(
    columns: Mapping[str, pa.Array],
    rules: Sequence[Rule],
    *,
    cdr3: Callable[[], pa.Array] | None = None,
    reverse: pa.Array | None = None,
) -> tuple[pa.Array, pa.Array]:
    """Residues by the first rule that gives some, row by row; and true for each row that was translated.

    Nucleotides that have no open frame stay as they are, where no other rule gives residues. `reverse` is
    true where the text of a contig is of the other strand.
    """
    num_rows = len(next(iter(columns.values())))
    out, unread = pa.nulls(num_rows, pa.string()), pa.nulls(num_rows, pa.string())
    translated = pa.repeat(pa.scalar(False), num_rows)
    for rule in rules:
        if not out.null_count:
            break
        gapped = _joined(columns, rule)
        text = letters(gapped)
        if len(rule.columns) > 1:
            text = pc.if_else(pc.is_in(text, pa.array(ABSENT)), None, text)
        nucleotides = is_nucleotides(text)
        if pc.any(nucleotides).as_py():
            wanted = pc.and_(nucleotides, out.is_null())
            rows = pc.indices_nonzero(wanted)
            strands = text.take(rows)
            if rule.is_contig and reverse is not None:
                turned = pc.fill_null(reverse, False).take(rows).to_pylist()
                both = zip(strands.to_pylist(), turned, strict=True)
                strands = pa.array([reverse_complement(s) if turn else s for s, turn in both], pa.string())
            read = read_nucleotides(
                strands,
                gapped=gapped.take(rows),
                cdr3=cdr3 and cdr3().take(rows),
                contig=rule.is_contig,
            )
            translated = pc.or_(translated, pc.replace_with_mask(wanted, wanted, read.is_valid()))
            unread = pc.coalesce(unread, pc.if_else(nucleotides, text, None))
            text = pc.replace_with_mask(pc.if_else(nucleotides, None, text), wanted, read)
        out = pc.coalesce(out, text)
    return pc.coalesce(out, unread), translated


def _without_anchors(text: pa.Array, has_anchors: pa.Array, chain: pa.Array | None) -> pa.Array:
    if chain is not None:
        rows = pc.indices_nonzero(has_anchors)
        pairs = zip(text.take(rows).to_pylist(), chain.take(rows).to_pylist(), strict=True)
        inside = [any(f"C{cdr3}{end}" in (whole or "") for end in "FW") for cdr3, whole in pairs]
        are_anchors = pc.invert(pa.array(inside, pa.bool_()))
        has_anchors = pc.replace_with_mask(has_anchors, has_anchors, are_anchors)
    return pc.if_else(has_anchors, pc.utf8_slice_codeunits(text, 1, -1), text)


def cdr3_of(
    columns: Mapping[str, pa.Array], rules: Sequence[Rule], chain: pa.Array | None = None
) -> pa.Array:
    """Residues of the CDR3 without its anchors C and W or F, whatever the columns hold; null where unknown.

    Nucleotides count where they are of a whole number of codons. One of 40,000 CDR3s in the built-in corpus
    begins and ends with the letters of anchors itself, and the chain tells: its anchors stand beside it.
    """
    out = pa.nulls(len(next(iter(columns.values()))), pa.string())
    for rule in rules:
        text = letters(_joined(columns, rule))
        if not holds_only(text, ascii_uppercase):
            text = pc.if_else(pc.match_substring_regex(text, "^[A-Z*]+$"), text, None)
        is_coded = pc.match_substring_regex(text, "^[ACGTUN]{9,}$")
        if pc.any(is_coded).as_py():
            whole = pc.match_substring_regex(text, "^(?:[ACGTUN]{3})*$")
            text = pc.if_else(is_coded, pc.if_else(whole, translate(text), None), text)
        has_anchors = pc.fill_null(pc.match_substring_regex(text, "^C[A-Z*]*[FW]$"), False)
        if pc.any(has_anchors).as_py():
            text = _without_anchors(text, has_anchors, chain)
        out = pc.coalesce(out, text)
    return out


def split_joined(text: pa.Array, separator: str) -> dict[str, pa.Array]:
    """The heavy and the light chain of texts with both, in the order that their residues show.

    One chain decides where the other shows nothing, and the order of most texts where neither does.
    """
    packed = pc.replace_substring_regex(pc.ascii_upper(text), LIST_SIGNS, "")
    packed = pc.replace_substring_regex(
        packed, f"^(?:\\[CLS\\]|<CLS>|(?:{separator}))+|(?:{separator})+$", ""
    )
    parts = pc.split_pattern_regex(packed, separator)
    is_pair = pc.fill_null(pc.equal(pc.list_value_length(parts), 2), False)
    two = pc.if_else(is_pair, parts, pa.scalar(["", ""], parts.type))
    first, second = (letters(pc.list_element(two, index)) for index in range(2))
    is_heavy, is_light = shown_chain(first), pc.invert(shown_chain(second))
    differ = pc.fill_null(pc.xor(is_heavy, is_light), False)
    one = pc.if_else(differ, None, pc.coalesce(is_heavy, is_light))
    most = pc.mean(one.cast(pa.uint8())).as_py()
    swapped = pc.invert(pc.fill_null(one, most is None or most >= 0.5))
    return {"heavy": pc.if_else(swapped, second, first), "light": pc.if_else(swapped, first, second)}
