"""Reader of pairs from any source, for every command that takes pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.annotate import Columns, arrange, describe_metadata, truth
from curr_ab.data.reading.cells import SEVERAL_CHAINS, pair_cells, reasons_to_leave_out, tell_chains_apart
from curr_ab.data.reading.column_names import Chains, ColumnNames, RowChains
from curr_ab.data.reading.columns import Layout
from curr_ab.data.reading.cut import CUT, TRUNCATED, DomainCutter, split_domains
from curr_ab.data.reading.first_rows import BARCODE_IN_ID, layout_of
from curr_ab.data.reading.objects import tables_of
from curr_ab.data.reading.remote import here
from curr_ab.data.reading.residues import cdr3_of, letters, residues_of, split_joined
from curr_ab.data.reading.samples import group_sources, open_sample, samples_agree
from curr_ab.data.reading.sources import MalformedSource, locate
from curr_ab.data.reading.table import Recognised, Table, without_null_words
from curr_ab.data.report import DROPPED, outcomes
from curr_ab.data.schema import PAIR_SCHEMA
from curr_ab.options import OptionError
from curr_ab.words import CHAINS

_SEQUENCES = (*CHAINS, "sequence")
# Takes the outcomes of rows that are no record of their own.
Aside = Callable[[pa.RecordBatch], None]
_KEY_SIGN = "\x1f"  # between sample and cell
LAYOUTS = {
    "wide": "both chains in a row",
    "joined": "both chains in one column",
    "cells": "one chain in a row, with its cell",
    "single": "one chain in a row",
}


def _layout(table: Table, names: ColumnNames) -> Layout:
    if table.form == "FASTA" and (names.named() or names.extra):
        raise MalformedSource(table.source, "a FASTA file has no columns; leave out their names")
    try:
        layout = layout_of(table, names)
    except OptionError as error:
        if isinstance(error, MalformedSource):
            raise
        raise MalformedSource(table.source, str(error), table.header_line, error.fields) from error
    if layout is None:
        columns = ", ".join(table.names)
        problem = f"no sequence column is known among {columns}; name the columns that hold the chains"
        raise MalformedSource(table.source, problem, table.header_line, ("heavy_column", "light_column"))
    for name in _SEQUENCES:
        column = layout.columns.get(name)
        if column is not None and (kind := table.not_text.get(column)):
            problem = f"column {column!r} must hold sequences as text; it holds {kind}"
            raise MalformedSource(table.source, problem)
    return layout


def _check_chains(table: Table, layout: Layout, names: ColumnNames, chains: RowChains) -> None:

    def refuse(problem: str, *fields: str) -> MalformedSource:
        ready = {"unpaired": ""} if "unpaired" in fields else None
        return MalformedSource(table.source, problem, fields=fields, ready=ready)

    missing = [chain for chain in CHAINS if chain not in layout.columns]
    if chains == "paired" and layout.kind == "wide" and missing:
        column = f"{missing[0]}_column"
        advice = f"name it with {column}, or read single chains as unpaired"
        raise refuse(f"no column is known as the {missing[0]} chain; {advice}", column, "unpaired")
    if layout.kind in ("cells", "single") and "sequence" not in layout.rules:
        problem = "the annotations of contigs hold no sequences; name their FASTA file in the same command, "
        problem += "such as filtered_contig.fasta, or the column that holds them"
        raise refuse(problem, "sequence_column")
    if chains != "paired" or layout.kind not in ("cells", "single"):
        return
    if names.pair_by == "clone" and "clone" not in layout.columns:
        raise refuse("no column is known as the clone; pair_by must be cell", "pair_by")
    if table.form == "FASTA" and layout.kind == "single":
        problem = "the names of the records do not say which chain is heavy and which is light; name them "
        problem += "ID_heavy and ID_light, or read single chains as unpaired"
        raise refuse(problem, "unpaired")
    if names.pair_by == "cell" and layout.kind == "single":
        problem = "the table holds single chains; read them as unpaired, or name the column of their cell"
        if "clone" not in layout.columns:
            raise refuse(problem, "unpaired", "cell_column")
        raise refuse(f"{problem}, or pair the chains of a clone", "unpaired", "cell_column", "pair_by")
    if names.several_chains == "most_umis" and "umis" not in layout.columns:
        problem = "no column is known to hold the UMIs of a chain; several_chains must be drop or all"
        raise refuse(problem, "several_chains")


def _recognised(table: Table, layout: Layout) -> Recognised:
    columns: dict[str, list[str]] = {}
    for name in dict.fromkeys([*_SEQUENCES, *layout.columns, *layout.rules]):
        if name in layout.rules:
            columns[name] = [" + ".join(rule.columns) for rule in layout.rules[name]]
        elif name in layout.columns:
            columns[name] = [layout.columns[name]]
    if layout.samples:
        columns["sample"] = [" + ".join(layout.samples)]
    return Recognised(table.source, table.form, LAYOUTS[layout.kind], columns)


def _fields(batch: pa.RecordBatch, layout: Layout, recognised: Recognised) -> Columns:
    """The fields of a batch by the layout, with residues as they are kept."""
    ruled = {column for rules in layout.rules.values() for rule in rules for column in rule.columns}
    text = {column: batch[column].cast(pa.string()) for column in ruled}
    out: Columns = {}
    for name, column in layout.columns.items():
        if name not in _SEQUENCES:
            values = batch[column] if name == "id" else without_null_words(batch[column])  # NA may be an id
            out[name] = values if name in PAIR_SCHEMA.names else values.cast(pa.string())
    if layout.samples:
        samples = [pc.fill_null(batch[column].cast(pa.string()), "") for column in layout.samples]
        out["sample"] = pc.binary_join_element_wise(*samples, _KEY_SIGN)
    if layout.kind == "joined":
        joined = batch[layout.columns["sequence"]].cast(pa.string())
        if layout.separator:
            return out | split_joined(joined, layout.separator)
        return out | dict(zip(CHAINS, split_domains(letters(joined)), strict=True))  # of an scFv
    reverse = truth(out["rev_comp"]) if "rev_comp" in out else None
    cdr3s = {"cdr3" if name == "sequence" else f"cdr3_{name}": name for name in _SEQUENCES}
    for field, name in cdr3s.items():
        if name in layout.rules:
            cdr3 = partial(cdr3_of, text, layout.rules[field]) if field in layout.rules else None
            out[name], translated = residues_of(text, layout.rules[name], cdr3=cdr3, reverse=reverse)
            recognised.translated += pc.sum(translated).as_py() or 0
            out["translated" if name == "sequence" else f"translated_{name}"] = translated
        if field in layout.rules:
            out[field] = cdr3_of(text, layout.rules[field], out.get(name))
    if {"contig", "high_confidence", "productive"} <= out.keys():  # 10x: empty where it cannot be productive
        out["productive"] = pc.if_else(truth(out["productive"]).is_valid(), out["productive"], "false")
    return out


def _numbered(table: Table, layout: Layout, recognised: Recognised) -> Iterator[Columns]:
    """Fields of each batch with their source and record, whose number is the id of one without."""
    first_record = 1
    for batch in table.read(layout.columns_read):
        columns = _fields(batch, layout, recognised)
        end = first_record + batch.num_rows
        columns["record"] = pa.array(np.arange(first_record, end, dtype=np.int64))
        ids = columns["id"].cast(pa.string()) if "id" in columns else pa.nulls(batch.num_rows, pa.string())
        columns["id"] = pc.coalesce(ids, columns["record"].cast(pa.string()))
        columns["source"] = pa.repeat(pa.scalar(table.source), batch.num_rows)
        recognised.rows += batch.num_rows
        first_record = end
        yield columns


def _single_chains(
    table: Table, layout: Layout, recognised: Recognised, aside: Aside | None
) -> Iterator[Columns]:
    """The same for a table with one chain in a row, without rows that hold no chain of an antibody's cell."""
    for columns in _numbered(table, layout, recognised):
        keep = pa.repeat(pa.scalar(True), len(columns["record"]))
        for reason, holds in reasons_to_leave_out(columns, table.metadata).items():
            holds = pc.and_(holds, keep)
            recognised.count(recognised.left_out, reason, int(pc.sum(holds).as_py() or 0))
            if aside is not None and pc.any(holds).as_py():
                left_out = {name: column.filter(holds) for name, column in columns.items()}
                aside(outcomes(left_out, DROPPED, reason))
            keep = pc.and_not(keep, holds)
        if not pc.all(keep).as_py():
            columns = {name: column.filter(keep) for name, column in columns.items()}
        yield columns


def _keys(columns: Columns, layout: Layout, *, by_clone: bool, by_sample: bool) -> pa.Array:
    """Sample and cell of each row, or its clone; null where the row has none."""
    if by_clone:
        cell = columns["clone"]
    elif layout.cell_in_id:
        cell = pc.struct_field(pc.extract_regex(columns["id"], BARCODE_IN_ID), ["cell"])
    else:
        cell = columns["cell"]
    cell = cell.cast(pa.string())
    cell = pc.if_else(pc.equal(pc.binary_length(pc.ascii_trim_whitespace(cell)), 0), None, cell)
    by_sample = by_sample and "sample" in columns
    return pc.binary_join_element_wise(columns["sample"], cell, _KEY_SIGN) if by_sample else cell


def _cells(
    tables: Sequence[Table],
    layouts: Sequence[Layout],
    recognised: Sequence[Recognised],
    names: ColumnNames,
    aside: Aside | None,
) -> Iterator[tuple[Columns, pa.Array]]:
    """Chains of all tables of a sample, told apart, with the keys of their cells."""
    by_sample = len(tables) == 1 or names.sample is not None or samples_agree(tables, layouts)
    fields = dict.fromkeys(name for layout in layouts for name in (*layout.columns, *layout.rules))
    for table, layout, own in zip(tables, layouts, recognised, strict=True):
        constants = describe_metadata(table.metadata)
        for columns in _single_chains(table, layout, own, aside):
            keys = _keys(columns, layout, by_clone=names.pair_by == "clone", by_sample=by_sample)
            for name in fields:
                columns.setdefault(name, pa.repeat(pa.scalar(constants.get(name), pa.string()), len(keys)))
            columns = {
                name: column if name in ("record", "translated") else column.cast(pa.string())
                for name, column in columns.items()
            }
            yield _told_apart(columns, table, own), keys


def _told_apart(columns: Columns, table: Table, recognised: Recognised) -> Columns:
    """Values under the names of their chains; chains of which nothing tells the kind are counted."""
    out = tell_chains_apart(columns, table.metadata)
    unknown = pc.and_(columns["sequence"].is_valid(), pc.and_(out["heavy"].is_null(), out["light"].is_null()))
    name = next((name for name in ("locus", "v_call") if name in columns), "sequence")
    recognised.count(recognised.emptied, name, int(pc.sum(unknown).as_py() or 0))
    return out


def _each_chain(columns: Columns) -> Columns:
    """Pairs as single chains, the heavy one first; the chain ends the ids of two that are of one row."""
    none = pa.nulls(len(columns["record"]), pa.string())
    heavy, light = (columns.get(chain, none).is_valid().to_numpy(zero_copy_only=False) for chain in CHAINS)
    rows, place = np.nonzero(np.column_stack([heavy | ~light, light]))
    takes = {"heavy": pa.array(heavy[rows] & (place == 0)), "light": pa.array(place == 1)}
    out: Columns = {}
    for name, column in columns.items():
        out[name] = column.take(pa.array(rows))
        for chain, of_chain in takes.items():
            if name == chain or name.endswith(f"_{chain}"):
                out[name] = pc.if_else(of_chain, out[name], pa.scalar(None, column.type))
    unique = pc.binary_join_element_wise(out["id"], pc.if_else(takes["light"], "_light", "_heavy"), "")
    return out | {"id": pc.if_else(pa.array((heavy & light)[rows]), unique, out["id"])}


def read_source(
    source: str | Table | Sequence[str | Table],
    names: ColumnNames,
    chains: RowChains,
    *,
    annotate: bool = False,
    recognised: list[Recognised] | None = None,
    scratch: Path | None = None,
    aside: Aside | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read a source into the pair schema, followed by columns for cleaning and the extra ones.

    With `either` a row with both chains is a pair, and one with a single chain that chain.

    Chains are cut to their variable domains; `annotate` numbers those without a region mask as well. Several
    files are read as one sample. What is recognised of each is added to `recognised`, and its counts
    are whole at the end. Rows of cells are spread over files in `scratch`. `aside` takes what became of rows
    that are no record of their own; the column `note` says what was done to one that is.
    """
    files = [here(file, scratch) for file in ([source] if isinstance(source, str | Table) else source)]
    tables = open_sample(files, names)
    layouts = [_layout(table, names) for table in tables]
    for table, layout in zip(tables, layouts, strict=True):
        _check_chains(table, layout, names, chains)
    own = [_recognised(table, layout) for table, layout in zip(tables, layouts, strict=True)]
    if recognised is not None:
        recognised += own
    if chains == "paired" and layouts[0].kind in ("cells", "single"):
        paths = [Path(locate(file)[0]) for file in files if isinstance(file, str)]
        size = sum(path.stat().st_size for path in paths if path.exists())
        cells = _cells(tables, layouts, own, names, aside)
        pairs = pair_cells(
            cells, size_bytes=size, several_chains=names.several_chains, scratch=scratch, aside=aside
        )
        metadata = tables[0].metadata if len(tables) == 1 else {}
        read = [(pairs, metadata, own[0])]
    else:
        read = [
            (_rows(table, layout, one, chains, aside), table.metadata, one)
            for table, layout, one in zip(tables, layouts, own, strict=True)
        ]
    for batches, metadata, one in read:
        constants, cutter = describe_metadata(metadata), DomainCutter(one, annotate=annotate)
        for columns in batches:
            batch = cutter.cut(arrange(columns, constants, names.extra, one))
            batch = batch.append_column("note", _notes(columns, batch))
            if SEVERAL_CHAINS in columns:
                batch = batch.append_column(SEVERAL_CHAINS, columns[SEVERAL_CHAINS])
            yield batch


def _rows(
    table: Table, layout: Layout, recognised: Recognised, chains: RowChains, aside: Aside | None
) -> Iterator[Columns]:
    """Pairs, or single chains, that need no other row."""
    if layout.kind in ("cells", "single"):
        for columns in _single_chains(table, layout, recognised, aside):
            yield _told_apart(columns, table, recognised)
        return
    for columns in _numbered(table, layout, recognised):
        yield _each_chain(columns) if chains == "unpaired" else columns


_CUT = pa.array([CUT, TRUNCATED])


def _notes(columns: Columns, batch: pa.RecordBatch) -> pa.Array:
    """Note of each row on what was done to its chains; null where they are as they stand in the source."""
    notes, never = pa.nulls(batch.num_rows, pa.string()), pa.repeat(pa.scalar(False), batch.num_rows)
    for chain in CHAINS:
        is_cut = pc.is_in(batch[f"domain_{chain}"], _CUT)
        is_translated = columns.get(f"translated_{chain}", never)
        if pc.any(is_cut).as_py() or pc.any(is_translated).as_py():
            start, end = (batch[f"domain_{side}_{chain}"].cast(pa.string()) for side in ("start", "end"))
            cut = pc.binary_join_element_wise("cut to residues ", start, " to ", end, "")
            translated = pc.if_else(is_translated, "translated from nucleotides", None)
            done = _joined(translated, pc.if_else(is_cut, cut, None), ", ")
            notes = _joined(notes, pc.binary_join_element_wise(f"{chain} chain ", done, ""), "; ")
    return notes


def _joined(one: pa.Array, other: pa.Array, sign: str) -> pa.Array:
    """Both texts, or the one that is not null."""
    return pc.coalesce(pc.binary_join_element_wise(one, other, sign), one, other)


def read_sources(
    sources: Any, names: ColumnNames, chains: RowChains, *, annotate: bool = False
) -> Iterator[pa.RecordBatch]:
    """Read files and objects as `read_source` does each; files that belong together are read as one."""
    for sample in group_sources(tables_of(sources), names):
        yield from read_source(sample, names, chains, annotate=annotate)


def read_pairs(
    sources: Any,
    *,
    heavy_column: str | None = None,
    light_column: str | None = None,
    id_column: str | None = None,
    extra_columns: Sequence[str] = (),
    chains: Chains = "paired",
    names: ColumnNames | None = None,
    annotate: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Read record batches in `PAIR_SCHEMA`, followed by `extra_columns` as text, in constant memory.

    Sources are files, patterns, `builtin`, addresses such as `s3://…` and `hf://owner/name`, or objects: data
    frames, Arrow tables, data sets, lists of pairs. Files that belong together, such as one for each locus,
    are read as one. Nothing is cleaned: a missing chain is null, and residues are upper case without gaps.
    Chains are cut to their variable domains, and `annotate` gives all of them a region mask. `names` has
    further columns and rules; the others are short for its fields.
    """
    names = names or ColumnNames()
    names = replace(
        names,
        heavy=heavy_column or names.heavy,
        light=light_column or names.light,
        id=id_column or names.id,
        extra=tuple(extra_columns) or names.extra,
    )
    kept = list(dict.fromkeys([*PAIR_SCHEMA.names, *names.extra]))
    for batch in read_sources(sources, names, chains, annotate=annotate):
        yield batch.select(kept)
