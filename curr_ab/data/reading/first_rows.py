"""Content of a table's first rows, which tells its columns apart where their names do not decide."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.columns import Layout, Rule, fields_of_pairs, find_layout, words_of
from curr_ab.data.reading.evidence import CHAIN_LETTERS, SHOWS, is_nucleotides, shown_chain
from curr_ab.data.reading.residues import LIST_SIGNS, residues_of
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.data.reading.table import Table
from curr_ab.words import CHAINS

_NUM_ROWS = 500
_MOST = 0.5  # share of the first rows from which a column is taken to hold what they show
_SCFV_LENGTH = 180  # residues: two V domains are longer, one is not
# Between two chains in one text, once blanks are taken out. The words are those of tokenizers.
_SEPARATORS = (r"(?:\[SEP\]|<SEP>|<CLS>|<EOS>)+", r"[|:/;,_]+", r"['\"],['\"]")
_MAY_NAME = {"clone", "clone_id", "clone_name", "pdb", "pdb_id", "pdb_code"}  # or families and repeats
BARCODE_IN_ID = r"^(?P<cell>[ACGT]{10,}(?:-\d+)?)_(?:contig_)?\d+$"


@dataclass(frozen=True)
class _Content:
    """Shares of the rows with text in which a column shows a chain of residues, of each kind."""

    column: str
    chain: float
    heavy: float
    light: float
    both: float
    length: float  # mean number of residues
    gaps: float


def first_rows(table: Table, columns: Sequence[str]) -> dict[str, pa.Array]:
    """The first rows of those of these columns that are text; of a table without rows there are none."""
    batches = table.read(columns) if columns else ()
    batch = next((batch for batch in batches if batch.num_rows), pa.record_batch({}))
    rows = zip(batch.schema.names, batch.slice(0, _NUM_ROWS).columns, strict=True)
    return {name: values for name, values in rows if pa.types.is_string(values.type)}


def _residues(text: pa.Array) -> pa.Array:
    return residues_of({"": text}, (Rule(("",)),))[0]


def _share(condition: pa.Array, of: int) -> float:
    return float(pc.sum(pc.fill_null(condition, False)).as_py() or 0) / max(of, 1)


def _content(column: str, text: pa.Array) -> _Content:
    residues = _residues(text)
    rows = len(residues) - residues.null_count
    is_chain = pc.and_(
        pc.match_substring_regex(residues, CHAIN_LETTERS),
        pc.invert(is_nucleotides(pc.fill_null(residues, ""))),
    )
    chains = residues.filter(pc.fill_null(is_chain, False))
    is_heavy = shown_chain(chains)
    both = pc.and_(*(pc.match_substring_regex(chains, SHOWS[chain]) for chain in CHAINS))
    return _Content(
        column,
        _share(is_chain, rows),
        _share(is_heavy, rows),
        _share(pc.invert(is_heavy), rows),
        _share(both, rows),
        float(pc.mean(pc.binary_length(chains)).as_py() or 0),
        _share(pc.match_substring_regex(text, r"[-.]"), rows),
    )


def _shows_chains(residues: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring_regex(residues, CHAIN_LETTERS)).as_py())


def _surest(layout: Layout, table: Table) -> Layout:
    """The layout without columns that show no chain where others of the same chain do."""
    several = [chain for chain in CHAINS if len(layout.rules.get(chain, ())) > 1]
    columns = [column for chain in several for rule in layout.rules[chain] for column in rule.columns]
    text = first_rows(table, list(dict.fromkeys(columns)))
    rules, fields = dict(layout.rules), dict(layout.columns)
    for chain in several:
        readable = [rule for rule in rules[chain] if set(rule.columns) <= text.keys()]
        showing = [rule for rule in readable if _shows_chains(residues_of(text, (rule,))[0])]
        if showing:
            rules[chain], fields[chain] = tuple(showing), showing[0].columns[0]
    return replace(layout, rules=rules, columns=fields)


def _separator(texts: Sequence[str]) -> str | None:
    """The pattern that splits most texts into two chains; None where there is none."""
    packed = [re.sub(LIST_SIGNS, "", text.upper()) for text in texts]
    for pattern in _SEPARATORS:
        parts = [[part for part in re.split(pattern, text) if part] for text in packed]
        chains = [len(two) == 2 and all(re.fullmatch("[A-Z*.-]{60,}", part) for part in two) for two in parts]
        if sum(chains) > _MOST * len(texts):
            return pattern
    return None


def _by_content(
    table: Table, text: Mapping[str, pa.Array], known: dict[str, str], names: ColumnNames
) -> Layout | None:
    """The layout with columns for both chains, where the first rows tell them apart."""
    contents = [_content(name, column) for name, column in text.items() if name not in known.values()]
    chosen = dict(known)
    for chain in CHAINS:
        of_chain = [one for one in contents if getattr(one, chain) > _MOST]
        if chain not in chosen and of_chain:
            # A V domain alone rather than a whole chain, and without the gaps of an alignment.
            chosen[chain] = min(of_chain, key=lambda one: (one.gaps > _MOST, one.length)).column
    if not set(CHAINS) <= chosen.keys():
        return None
    return find_layout(table.names, replace(names, heavy=chosen["heavy"], light=chosen["light"]))


def _of_different_chains(text: Mapping[str, pa.Array]) -> tuple[str, str] | None:
    """Two columns of which most rows show a heavy chain in one and a light chain in the other."""
    kinds = {name: shown_chain(_residues(column)) for name, column in text.items()}
    for first, second in combinations(kinds, 2):
        if _share(pc.xor(kinds[first], kinds[second]), len(kinds[first])) > _MOST:
            return first, second
    return None


def _joined_or_single(table: Table, text: Mapping[str, pa.Array], names: ColumnNames) -> Layout | None:
    """Layout of a table with one column of sequences: both chains in a text, or one."""
    fields = fields_of_pairs(table.names) | ({"id": names.id} if names.id else {})
    fields |= {column: column for column in names.extra}
    for name, column in text.items():
        if separator := _separator([one for one in column.to_pylist() if one and len(one) > 30]):
            return Layout("joined", fields | {"sequence": name}, separator=separator)
    contents = [_content(name, column) for name, column in text.items()]
    chains = [one for one in contents if one.chain > _MOST]
    if not chains:
        return None
    if two := _of_different_chains({one.column: text[one.column] for one in chains}):
        problem = (
            f"columns {two[0]!r} and {two[1]!r} hold chains, and which is the heavy one differs from row "
        )
        problem += "to row; name them, and leave rows the other way round out"
        ready = dict(zip(("heavy_column", "light_column"), two, strict=True))
        raise MalformedSource(table.source, problem, table.header_line, tuple(ready), ready)
    best = min(chains, key=lambda one: (one.gaps > _MOST, -one.chain))
    if best.length > _SCFV_LENGTH and best.both > _MOST:
        return Layout("joined", fields | {"sequence": best.column})
    single = find_layout(table.names, replace(names, sequence=best.column))
    return _cells_in_ids(single, table) if single is not None and single.kind == "single" else single


def _cells_in_ids(layout: Layout, table: Table) -> Layout:
    """The layout with cells where ids begin with a barcode, as 10x and TRUST4 write them."""
    columns = [column for field, column in layout.columns.items() if field == "id"]
    for ids in first_rows(table, columns).values():
        is_barcode = pc.match_substring_regex(ids, BARCODE_IN_ID)
        if _share(is_barcode, len(ids) - ids.null_count) >= 0.95:
            return replace(layout, kind="cells", cell_in_id=True)
    return layout


def _holds_letters(table: Table, columns: Sequence[str]) -> bool:
    """True of columns that name the chains of a structure, such as `Hchain` with the letter H."""
    if not all("chain" in column.lower() for column in columns):
        return False
    lengths = [pc.max(pc.binary_length(text)).as_py() for text in first_rows(table, columns).values()]
    return bool(lengths) and max(length or 0 for length in lengths) <= 2


def _named(layout: Layout, table: Table) -> Layout:
    """The layout with names of records from a column of clones or structures, where each has its own."""
    column = next((name for name in table.names if "_".join(words_of(name)) in _MAY_NAME), None)
    if "id" in layout.columns or column is None or layout.kind == "cells":
        return layout
    for text in first_rows(table, [column]).values():
        if not text.null_count and len(text.unique()) == len(text):
            return replace(layout, columns={**layout.columns, "id": column})
    return layout


def layout_of(table: Table, names: ColumnNames) -> Layout | None:
    """The layout of a table, by the names of its columns and, where they do not decide, by its first rows."""
    layout = _layout_of(table, names)
    return layout and _named(layout, table)


def _layout_of(table: Table, names: ColumnNames) -> Layout | None:
    layout = find_layout(table.names, names)
    if table.metadata and layout is not None:  # OAS: every row has what the first has, and there are many
        return replace(layout, rules={name: rules[:1] for name, rules in layout.rules.items()})
    known: dict[str, str] = {}
    if layout is not None and layout.kind == "wide":
        known = {chain: layout.columns[chain] for chain in CHAINS if chain in layout.columns}
        if set(CHAINS) <= known.keys():
            if names.heavy or names.light or not _holds_letters(table, list(known.values())):
                return _surest(layout, table)
            known = {}
    elif layout is not None:
        is_single = layout.kind == "single" or "contig" in layout.columns
        return _cells_in_ids(layout, table) if is_single else layout
    text = first_rows(table, [name for name in table.names if name not in names.extra])
    found = _by_content(table, text, known, names)
    if found is None and layout is None:
        found = _joined_or_single(table, text, names)
    return found or (layout if known else None)
