"""Layout of a table: its columns, matched with the documented aliases without regard to case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.schema import FIELDS, SEQUENCE_BASES, Field
from curr_ab.options import OptionError
from curr_ab.words import CHAINS, REGIONS

REGION_PIECES = tuple(f"{region.lower()}_aa" for region in REGIONS)


@dataclass(frozen=True)
class Layout:
    """Kind of a table and its columns: `wide` has a pair in a row, `cells` and `single` have one chain."""

    kind: str
    columns: Mapping[str, str]  # field, with the chain's suffix where it has one → column of the table


def _auxiliary(chain: str) -> list[Field]:
    """Fields of a chain that are read for cleaning and masks, and not kept."""
    names = ("productive", "cdr_mask", *REGION_PIECES)
    return [Field(f"{name}_{chain}", pa.string(), "", (name,), chain) for name in names]


def _match(fields: Sequence[tuple[str, Sequence[str]]], present: Mapping[str, str]) -> dict[str, str]:
    columns = {}
    for name, aliases in fields:
        column = next((present[alias] for alias in aliases if alias in present), None)
        if column is not None:
            columns[name] = column
    return columns


def _single_chain_fields() -> list[tuple[str, Sequence[str]]]:
    """Fields of a table with one chain in a row, and their aliases there."""
    fields: list[tuple[str, Sequence[str]]] = [("sequence", SEQUENCE_BASES)]
    for item in (*FIELDS, *_auxiliary("heavy")):
        if item.name in ("id", *CHAINS) or item.chain == "light":
            continue
        fields.append((item.name.removesuffix("_heavy"), item.bases if item.chain else item.aliases))
    fields += [
        ("cell", ("cell_id", "barcode")),
        ("clone", ("clone_id", "clonotype_id", "raw_clonotype_id")),
        ("locus", ("locus", "chain")),
        ("isotype", ("c_call", "c_gene", "isotype")),
        ("id", ("id", "sequence_id", "contig_id", "name")),
    ]
    return fields


def find_layout(columns: Sequence[str], names: ColumnNames) -> Layout | None:
    """Find the layout by the column names; None where no sequence column is known."""
    present = {column.strip().lower(): column for column in reversed(columns)}
    named = names.named()
    missing = [column for column in (*named.values(), *names.extra) if column not in columns]
    if missing:
        fields = [f"{name}_column" for name, column in named.items() if column == missing[0]]
        raise OptionError(f"there is no column {missing[0]!r}; the columns are {', '.join(columns)}", *fields)
    extra = {column: column for column in names.extra}
    auxiliary = [*_auxiliary("heavy"), *_auxiliary("light")]
    wide = _match([(item.name, item.aliases) for item in (*FIELDS, *auxiliary)], present) | named
    if named or ("heavy" in wide and "light" in wide and wide["heavy"] != wide["light"]):
        return Layout("wide", wide | extra)
    single = _match(_single_chain_fields(), present)
    if "sequence" in single and {"locus", "v_call"} & set(single):
        return Layout("cells" if {"cell", "clone"} & set(single) else "single", single | extra)
    if set(CHAINS) & set(wide):
        return Layout("wide", wide | extra)
    return None
