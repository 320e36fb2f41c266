"""Reader of pairs from any source, for every command that takes pairs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from curr_ab.data.reading.annotate import Columns, arrange, describe_metadata
from curr_ab.data.reading.cells import SEVERAL_CHAINS, pair_cells, tell_chains_apart
from curr_ab.data.reading.column_names import Chains, ColumnNames
from curr_ab.data.reading.columns import Layout, find_layout
from curr_ab.data.reading.delimited import read_delimited, read_header, read_names
from curr_ab.data.reading.fasta import read_fasta
from curr_ab.data.reading.sources import (
    BUILTIN,
    HUB_PREFIX,
    MalformedSource,
    expand_sources,
    read_head,
    read_hub,
    unknown_columns,
)
from curr_ab.data.schema import PAIR_SCHEMA
from curr_ab.options import OptionError
from curr_ab.words import CHAINS

_BATCH = 16_384


def builtin_path() -> str:
    """Path of the built-in corpus in this installation."""
    return str(files("curr_ab.data") / "builtin.parquet")


def _named(batch: pa.RecordBatch, layout: Layout) -> Columns:
    """Put the columns of a typed table under the schema's names; text of every kind becomes plain text."""
    out = {}
    for field, column in layout.columns.items():
        values = batch[column]
        keep = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        out[field] = values if keep and field in PAIR_SCHEMA.names else values.cast(pa.string())
    return out


def _table_layout(source: str, columns: Sequence[str], names: ColumnNames) -> Layout:
    try:
        layout = find_layout(columns, names)
    except OptionError as error:
        raise MalformedSource(source, str(error), fields=error.fields) from error
    if layout is None:
        raise unknown_columns(source, columns)
    return layout


def _open_parquet(path: str, source: str) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise MalformedSource(source, f"the Parquet file is damaged or cut off ({error})") from error


def _read_parquet(path: str, source: str, names: ColumnNames) -> tuple[Layout, Iterator[Columns]]:
    file = _open_parquet(path, source)
    layout = _table_layout(source, file.schema_arrow.names, names)

    def batches() -> Iterator[Columns]:
        try:
            for batch in file.iter_batches(_BATCH, columns=sorted(set(layout.columns.values()))):
                yield _named(batch, layout)
        except (pa.ArrowInvalid, OSError) as error:
            raise MalformedSource(source, f"the Parquet file is damaged ({error})") from error

    return layout, batches()


def _open(source: str, names: ColumnNames) -> tuple[Layout, Mapping[str, Any], Iterator[Columns]]:
    """Layout, metadata and columns of a source, whose format is recognised by its content."""
    if source.startswith(HUB_PREFIX):
        column_names, hub_batches = read_hub(source)
        layout = _table_layout(source, column_names, names)
        return layout, {}, (_named(batch, layout) for batch in hub_batches)
    path = builtin_path() if source == BUILTIN else source
    head = read_head(path)
    if head.startswith(b"PAR1"):
        layout, batches = _read_parquet(path, source, names)
        return layout, {}, batches
    if head.lstrip().startswith(b">"):
        if names.named() or names.extra:
            raise MalformedSource(source, "a FASTA file has no columns; leave out their names")
        layout = Layout("wide", {name: name for name in ("id", "heavy", "light")})
        return layout, {}, (_columns(batch) for batch in read_fasta(path))
    header = read_header(path, names)
    return header.layout, header.metadata, (_columns(batch) for batch in read_delimited(path, header))


def source_columns(source: str) -> tuple[str, ...]:
    """Column names of a table, as they stand there; empty for a FASTA file."""
    if source.startswith(HUB_PREFIX):
        return tuple(read_hub(source)[0])
    path = builtin_path() if source == BUILTIN else source
    head = read_head(path)
    if head.startswith(b"PAR1"):
        return tuple(_open_parquet(path, source).schema_arrow.names)
    return () if head.lstrip().startswith(b">") else read_names(path)


def _columns(batch: pa.RecordBatch) -> Columns:
    return dict(zip(batch.schema.names, batch.columns, strict=True))


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


def read_source(source: str, names: ColumnNames, chains: Chains) -> Iterator[pa.RecordBatch]:
    """Read a source into the pair schema, followed by columns for cleaning and the extra ones."""
    layout, metadata, batches = _open(source, names)
    _check_chains(source, layout, chains)
    constants = describe_metadata(metadata)
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


def read_pairs(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    heavy_column: str | None = None,
    light_column: str | None = None,
    id_column: str | None = None,
    extra_columns: Sequence[str] = (),
    chains: Chains = "paired",
) -> Iterator[pa.RecordBatch]:
    """Read record batches in `PAIR_SCHEMA`, followed by `extra_columns` as text, in constant memory.

    Sources are files, patterns, `builtin` or `hf://owner/name`. Nothing is cleaned: a missing chain is
    null, and residues are upper case without gaps.
    """
    names = ColumnNames(heavy=heavy_column, light=light_column, id=id_column, extra=tuple(extra_columns))
    kept = list(dict.fromkeys([*PAIR_SCHEMA.names, *names.extra]))
    for source in expand_sources(sources):
        for batch in read_source(source, names, chains):
            yield batch.select(kept)
