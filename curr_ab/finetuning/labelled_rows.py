"""Rows of a table that may become examples: the columns that a recipe needs, and records that are none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.preparing.clean import REASONS, drop_reasons, reasons_without_pair
from curr_ab.data.preparing.plan import CleaningLimits
from curr_ab.data.reading.column_names import ColumnNames, RowChains
from curr_ab.data.reading.columns import Layout
from curr_ab.data.reading.first_rows import layout_of
from curr_ab.data.reading.pairs import read_source
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.data.reading.table import Table
from curr_ab.finetuning.labels import label_columns
from curr_ab.finetuning.recipe import Recipe
from curr_ab.words import CHAINS

# Whatever else looks odd is the user's choice: nobody labels a pair by mistake.
_FATAL = ("several_chains", "missing_chain", "nucleotides", "stop_codon", "unknown_letter")
_OF_SCHEMA = ("donor", "clone")  # read under the names that curr_ab.data recognises
_MOST_NAMED = 20  # of bad records, in one error


def names_of(recipe: Recipe, names: ColumnNames | None = None) -> ColumnNames:
    """Columns that the recipe names, and the other names of the caller."""
    own: dict[str, Any] = {"heavy": recipe.heavy_column, "light": recipe.light_column, "id": recipe.id_column}
    return replace(names or ColumnNames(), **{name: column for name, column in own.items() if column})


def labelled_layout(table: Table, recipe: Recipe, names: ColumnNames) -> Layout:
    """Columns that the recipe needs, in the table; an error names those that it has."""
    source = table.source
    present = () if table.form == "FASTA" else table.names
    columns = f"the columns are {', '.join(present)}" if present else "a FASTA file has none"
    field_of_labels = "label_columns" if recipe.label_columns else "label_column"
    needed = dict.fromkeys(label_columns(recipe), field_of_labels)
    if _has_one_column_of_residues(recipe, present):
        needed = {recipe.label_column: field_of_labels}
    elif recipe.unpaired and recipe.target == "residues":  # a table of one kind of chain needs one of them
        needed = {column: field_of_labels for column in needed if column in present} or needed
    if recipe.weight_column is not None:
        needed[recipe.weight_column] = "weight_column"
    if recipe.group_by is not None and recipe.group_by not in _OF_SCHEMA:
        needed[recipe.group_by] = "group_by"
    missing = [column for column in needed if column not in present]
    extra = tuple(column for column in needed if column in present)
    try:
        layout = layout_of(replace(table, names=present), replace(names, extra=extra)) if present else None
    except ValueError as error:
        raise MalformedSource(source, str(error)) from error
    is_paired = layout is not None and (
        layout.kind in ("cells", "joined") or set(CHAINS) <= layout.columns.keys()
    )
    if layout is None or not (is_paired or recipe.unpaired):
        problem = f"a record needs a heavy and a light chain; name their columns; {columns}"
        fields = ["heavy_column", "light_column"]
        if layout is not None and recipe.negatives == "given":
            problem += "; or read single chains as unpaired"
            fields.append("unpaired")
        raise MalformedSource(source, problem, fields=tuple(fields))
    if recipe.negatives != "given":
        missing = [column for column in missing if needed[column] != "label_column"]
    if missing:
        field = needed[missing[0]]
        problem = f"there is no column {missing[0]!r}; name another with {field}; {columns}"
        raise MalformedSource(source, problem, fields=(field,))
    if recipe.group_by in _OF_SCHEMA and recipe.group_by not in layout.columns:
        raise MalformedSource(
            source,
            f"there is no column of the {recipe.group_by}; hold another column's values apart with group_by, "
            f"or take the fold_scheme rows, whose folds may leak; {columns}",
            fields=("group_by", "fold_scheme"),
        )
    chain = "" if layout.kind == "cells" else "_light"  # there each row is of one chain
    mutations = {f"mutations{chain}", f"v_identity{chain}"} & layout.columns.keys()
    if recipe.negatives == "matched" and not (f"v_call{chain}" in layout.columns and mutations):
        needs = "v_call_light, and mutations_light or v_identity_light"
        problem = f"matched negatives need {needs}; add them, or choose shuffled negatives; {columns}"
        raise MalformedSource(source, problem, fields=("negatives",))
    return layout


def _has_one_column_of_residues(recipe: Recipe, names: Iterable[str]) -> bool:
    """True for single chains with their labels in one column."""
    names = set(names)
    by_chain = names & set(label_columns(recipe))
    return recipe.unpaired and recipe.target == "residues" and recipe.label_column in names and not by_chain


def columns_of_labels(recipe: Recipe, layout: Layout) -> tuple[str, ...]:
    """The columns of labels that the table has; none where the recipe makes them."""
    if _has_one_column_of_residues(recipe, layout.columns):
        return (recipe.label_column,)
    wanted = label_columns(recipe)
    if recipe.unpaired and recipe.target == "residues":
        return tuple(column for column in wanted if column in layout.columns)
    return wanted if set(wanted) <= layout.columns.keys() else ()


def labelled_rows(
    table: Table,
    recipe: Recipe,
    names: ColumnNames,
    layout: Layout,
    columns: Sequence[str],
    notes: list[str],
) -> Iterator[dict[str, Any]]:
    """The records as mappings; records that cannot be pairs are refused, and so are swapped columns."""
    source = table.source
    named = (*columns, recipe.weight_column, recipe.group_by)
    extra = tuple(column for column in dict.fromkeys(named) if column and column not in _OF_SCHEMA)
    kept = ["id", "heavy", "light", "donor", "clone", "record", *extra]
    kept += [f"{what}_{chain}" for what in ("domain_start", "domain_end", "num_residues") for chain in CHAINS]
    if recipe.negatives == "matched":
        kept += ["v_call_light", "mutations_light", "v_identity_light"]
    num_rows, swapped, num_left_out = 0, [], 0
    bad: list[str] = []
    chains: RowChains = "either" if recipe.unpaired else "paired"
    for batch in read_source(table, replace(names, extra=extra), chains):
        left_out = _without_chains(batch) if recipe.unpaired else reasons_without_pair(batch)
        if left_out:
            num_left_out += sum(reason is not None for reason in left_out)
            batch = batch.filter(pa.array([reason is None for reason in left_out]))
        reasons = drop_reasons(batch, CleaningLimits(), paired=not recipe.unpaired).to_pylist()
        for record, reason in zip(batch["record"].to_pylist(), reasons, strict=True):
            if reason in _FATAL:
                bad.append(f"record {record}: {REASONS[reason]}; mend or remove it")
            if reason == "wrong_chain":
                swapped.append(record)
        num_rows += batch.num_rows
        if not bad:
            yield from batch.select(list(dict.fromkeys(kept))).to_pylist()
    refuse(source, bad, num_rows)
    if num_left_out:
        what = "chains are left out, whose cells have no other or several of a kind"
        if recipe.unpaired:
            what = "records are left out, which hold no chain"
        notes.append(f"{source}: {num_left_out:,} {what}")
    if 2 * len(swapped) > num_rows and layout.kind == "wide" and set(CHAINS) <= layout.columns.keys():
        heavy, light = layout.columns["heavy"], layout.columns["light"]
        raise MalformedSource(
            source,
            f"{len(swapped):,} of {num_rows:,} pairs have a light chain in {heavy!r} or a heavy one in "
            f"{light!r}: the columns are swapped; set heavy_column to {light} and light_column to {heavy}",
            fields=("heavy_column", "light_column"),
        )
    if swapped:
        notes.append(
            f"{source}: the chains of {len(swapped):,} pairs look swapped, such as record {swapped[0]}"
        )


def _without_chains(batch: pa.RecordBatch) -> list[str | None]:
    """Why rows are no record where single chains are: those without any."""
    absent = pc.and_(*(pc.is_null(batch[chain]) for chain in CHAINS))
    return ["missing_chain" if one else None for one in absent.to_pylist()]


def refuse(source: str, bad: Sequence[str], num_rows: int, fields: tuple[str, ...] = ()) -> None:
    """Refuse a source with records that cannot be used; the error names all, or the first twenty."""
    if not bad:
        return
    count = f"{len(bad):,} of {num_rows:,} records cannot be used: " if len(bad) > 1 else ""
    more = f"; and {len(bad) - _MOST_NAMED:,} more" if len(bad) > _MOST_NAMED else ""
    raise MalformedSource(source, f"{count}{'; '.join(bad[:_MOST_NAMED])}{more}", fields=fields)
