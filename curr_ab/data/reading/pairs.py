"""Reader of pairs from any source, for every command that takes pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curr_ab.data.reading.annotate import Columns, arrange, describe_metadata
from curr_ab.data.reading.cells import SEVERAL_CHAINS, pair_cells, tell_chains_apart
from curr_ab.data.reading.column_names import Chains, ColumnNames
from curr_ab.data.reading.columns import Layout, find_layout
from curr_ab.data.reading.formats import open_table
from curr_ab.data.reading.objects import tables_of
from curr_ab.data.reading.sources import MalformedSource, unknown_columns
from curr_ab.data.reading.table import Table
from curr_ab.data.schema import PAIR_SCHEMA
from curr_ab.options import OptionError
from curr_ab.words import CHAINS


def _named(batch: pa.RecordBatch, layout: Layout) -> Columns:
    """Put the columns of a typed table under the schema's names; text of every kind becomes plain text."""
    out = {}
    for field, column in layout.columns.items():
        values = batch[column]
        keep = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        out[field] = values if keep and field in PAIR_SCHEMA.names else values.cast(pa.string())
    return out


def _layout(table: Table, names: ColumnNames) -> Layout:
    if table.form == "FASTA" and (names.named() or names.extra):
        raise MalformedSource(table.source, "a FASTA file has no columns; leave out their names")
    try:
        layout = find_layout(table.names, names)
    except OptionError as error:
        raise MalformedSource(table.source, str(error), table.header_line, error.fields) from error
    if layout is None:
        raise unknown_columns(table.source, table.names, table.header_line)
    return layout


def _check_chains(source: str, layout: Layout, chains: Chains) -> None:
    missing = [chain for chain in CHAINS if chain not in layout.columns]
    if chains == "paired" and layout.kind == "single":
        problem = "the table holds single chains; read them as unpaired"
        raise MalformedSource(source, problem, fields=("unpaired",))
    if chains == "paired" and layout.kind == "wide" and missing:
        column = f"{missing[0]}_column"
        advice = f"name it with {column}, or read single chains as unpaired"
        problem = f"no column is known as the {missing[0]} chain; {advice}"
        raise MalformedSource(source, problem, fields=(column, "unpaired"))
    if chains == "unpaired" and layout.kind == "wide" and not missing:
        problem = "the table holds pairs; read them without unpaired"
        raise MalformedSource(source, problem, fields=("unpaired",))


def read_source(source: str | Table, names: ColumnNames, chains: Chains) -> Iterator[pa.RecordBatch]:
    """Read a source into the pair schema, followed by columns for cleaning and the extra ones."""
    table = open_table(source)
    source = table.source
    layout, metadata = _layout(table, names), table.metadata
    _check_chains(source, layout, chains)
    constants = describe_metadata(metadata)
    columns_read = list(dict.fromkeys(layout.columns.values()))
    batches: Iterator[Columns] = (_named(batch, layout) for batch in table.read(columns_read))
    if layout.kind == "cells" and chains == "paired":
        size = Path(source).stat().st_size if Path(source).exists() else 0
        batches = pair_cells(batches, metadata, size)
    elif layout.kind in ("cells", "single"):
        batches = (tell_chains_apart(columns, metadata) for columns in batches)
    first_record = 1
    for columns in batches:
        batch = arrange(columns, source, first_record, constants, names.extra)
        if SEVERAL_CHAINS in columns:
            batch = batch.append_column(SEVERAL_CHAINS, columns[SEVERAL_CHAINS])
        first_record += batch.num_rows
        yield batch


def read_sources(
    sources: Iterable[str | Table], names: ColumnNames, chains: Chains
) -> Iterator[pa.RecordBatch]:
    """Read several sources, each as `read_source` does."""
    for source in sources:
        yield from read_source(source, names, chains)


def read_pairs(
    sources: Any,
    *,
    heavy_column: str | None = None,
    light_column: str | None = None,
    id_column: str | None = None,
    extra_columns: Sequence[str] = (),
    chains: Chains = "paired",
) -> Iterator[pa.RecordBatch]:
    """Read record batches in `PAIR_SCHEMA`, followed by `extra_columns` as text, in constant memory.

    Sources are files, patterns, `builtin`, `hf://owner/name`, or objects: data frames, Arrow tables, data
    sets, lists of pairs. Nothing is cleaned: a missing chain is null, and residues are upper case without
    gaps.
    """
    names = ColumnNames(heavy=heavy_column, light=light_column, id=id_column, extra=tuple(extra_columns))
    kept = list(dict.fromkeys([*PAIR_SCHEMA.names, *names.extra]))
    for batch in read_sources(tables_of(sources), names, chains):
        yield batch.select(kept)
