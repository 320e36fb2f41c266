"""Examples out of any table: the labelled pairs that a recipe needs, each checked."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from curr_ab.data.preparing.clean import REASONS, drop_reasons, reasons_without_pair
from curr_ab.data.preparing.plan import CleaningLimits
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.columns import Layout
from curr_ab.data.reading.first_rows import layout_of
from curr_ab.data.reading.formats import open_table
from curr_ab.data.reading.objects import tables_of
from curr_ab.data.reading.pairs import read_source
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.data.reading.table import Table
from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import OptionError
from curr_ab.words import CHAINS, UNKNOWN_LABEL

# Whatever else looks odd is the user's choice: nobody labels a pair by mistake.
_FATAL = ("several_chains", "missing_chain", "nucleotides", "stop_codon", "unknown_letter")
_OF_SCHEMA = ("donor", "clone")  # read under the names that curr_ab.data recognises
_MOST_NAMED = 20  # of bad records, in one error
_NATIVE = 1  # index among the labels of a recipe that makes its negatives
Label = int | float | tuple[int, ...]
UNKNOWN_LETTER = "-"
_INTEGER = re.compile(r"(\d+)(\.0*)?")  # pandas writes 1.0 where a value of the column is missing


@dataclass(frozen=True)
class Example:
    """A pair and what is to be learnt of it; the germline where matched negatives are made."""

    id: str
    heavy: str
    light: str
    label: Label  # index of a class; a number; or a class for each residue of heavy and light, -100 unknown
    group: str | None  # folds hold groups apart; None where the recipe names none
    number: int  # index in the input, from 1; negatives follow
    donor: str | None = None
    clone: str | None = None
    v_gene_light: str | None = None
    light_is_mutated: bool | None = None


def read_labelled_pairs(
    recipe: Recipe, sources: Any, names: ColumnNames | None = None
) -> tuple[list[Example], list[str]]:
    """All records of all sources, and what is to be said about them."""
    names = names_of(recipe, names)
    pairs: list[Example] = []
    notes: list[str] = []
    num_before = 0
    for table in map(open_table, tables_of(sources)):
        source = table.source
        layout = _layout(table, recipe, names)
        columns = label_columns(recipe) if set(label_columns(recipe)) <= layout.columns.keys() else ()
        rows = list(_rows(table, recipe, names, layout, columns, notes))
        if not rows:
            raise MalformedSource(source, "the table holds no record")
        if (
            recipe.target == "classes"
            and columns
            and any(is_index(recipe.labels, row[columns[0]] or "") for row in rows)
        ):
            if recipe.negatives != "given":
                raise MalformedSource(
                    source,
                    f"column {columns[0]!r} holds numbers, which do not say which pairs are native; "
                    "write names, remove the column, or set negatives to given and name its labels",
                    fields=("negatives", "labels"),
                )
            order = ", ".join(f"{index} is {label}" for index, label in enumerate(recipe.labels))
            notes.append(f"{source}: {columns[0]} holds indices of the recipe's labels: {order}")
        read: list[Example] = []
        bad: dict[str, tuple[str, ...]] = {}  # and the options that might help
        for index, row in enumerate(rows, 1):
            try:
                read.append(_pair(recipe, row, columns, num_before + index))
            except ValueError as error:
                fields = error.fields if isinstance(error, OptionError) else ()
                bad[f"record {row['record']}, {error}"] = fields
        _refuse(source, list(bad), len(rows), tuple(dict.fromkeys(itertools.chain(*bad.values()))))
        natives = [pair for pair in read if recipe.negatives == "given" or pair.label == _NATIVE]
        if len(natives) < len(read):
            kept = f"{len(natives):,} of {len(read):,} pairs are {recipe.labels[_NATIVE]} and kept"
            notes.append(f"{source}: {kept}; the others are made anew ({recipe.negatives} negatives)")
        pairs += natives
        num_before += len(rows)
    return pairs, notes


def names_of(recipe: Recipe, names: ColumnNames | None = None) -> ColumnNames:
    """Columns that the recipe names, and the other names of the caller."""
    own: dict[str, Any] = {"heavy": recipe.heavy_column, "light": recipe.light_column, "id": recipe.id_column}
    return replace(names or ColumnNames(), **{name: column for name, column in own.items() if column})


def _layout(table: Table, recipe: Recipe, names: ColumnNames) -> Layout:
    """Columns that the recipe needs, in the table; an error names those that it has."""
    source = table.source
    present = () if table.form == "FASTA" else table.names
    columns = f"the columns are {', '.join(present)}" if present else "a FASTA file has none"
    needed = dict.fromkeys(label_columns(recipe), "label_column")
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
    if layout is None or not is_paired:
        problem = f"a record needs a heavy and a light chain; name their columns; {columns}"
        raise MalformedSource(source, problem, fields=("heavy_column", "light_column"))
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


def _rows(
    table: Table,
    recipe: Recipe,
    names: ColumnNames,
    layout: Layout,
    columns: Sequence[str],
    notes: list[str],
) -> Iterator[dict[str, Any]]:
    """The records as mappings; records that cannot be pairs are refused, and so are swapped columns."""
    source = table.source
    extra = tuple(column for column in (*columns, recipe.group_by) if column and column not in _OF_SCHEMA)
    kept = ["id", "heavy", "light", "donor", "clone", "record", *extra]
    kept += [f"{what}_{chain}" for what in ("domain_start", "domain_end", "num_residues") for chain in CHAINS]
    if recipe.negatives == "matched":
        kept += ["v_call_light", "mutations_light", "v_identity_light"]
    num_rows, swapped, num_left_out = 0, [], 0
    bad: list[str] = []
    for batch in read_source(table, replace(names, extra=extra), "paired"):
        left_out = reasons_without_pair(batch)
        if left_out:
            num_left_out += sum(reason is not None for reason in left_out)
            batch = batch.filter(pa.array([reason is None for reason in left_out]))
        reasons = drop_reasons(batch, CleaningLimits(), paired=True).to_pylist()
        for record, reason in zip(batch["record"].to_pylist(), reasons, strict=True):
            if reason in _FATAL:
                bad.append(f"record {record}: {REASONS[reason]}; mend or remove it")
            if reason == "wrong_chain":
                swapped.append(record)
        num_rows += batch.num_rows
        if not bad:
            yield from batch.select(list(dict.fromkeys(kept))).to_pylist()
    _refuse(source, bad, num_rows)
    if num_left_out:
        notes.append(
            f"{source}: {num_left_out:,} chains are left out, whose cells have no other or several of a kind"
        )
    if 2 * len(swapped) > num_rows and layout.kind == "wide":
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


def _refuse(source: str, bad: Sequence[str], num_rows: int, fields: tuple[str, ...] = ()) -> None:
    """Refuse a source with records that cannot be used; the error names all, or the first twenty."""
    if not bad:
        return
    count = f"{len(bad):,} of {num_rows:,} records cannot be used: " if len(bad) > 1 else ""
    more = f"; and {len(bad) - _MOST_NAMED:,} more" if len(bad) > _MOST_NAMED else ""
    raise MalformedSource(source, f"{count}{'; '.join(bad[:_MOST_NAMED])}{more}", fields=fields)


def _pair(recipe: Recipe, row: dict[str, Any], columns: Sequence[str], number: int) -> Example:
    heavy, light = row["heavy"], row["light"]
    label: Label = _NATIVE
    if columns:
        texts = [row[column] for column in columns]
        if recipe.target == "residues":
            texts = [_of_domain(row, *one) for one in zip(CHAINS, texts, strict=True)]
        label = read_label(recipe, texts, heavy, light)
    group = None if recipe.group_by is None else row[recipe.group_by]
    # A column of floats has no other way to say that a value is missing.
    if recipe.group_by is not None and (group is None or group.strip().casefold() in ("", "nan")):
        raise ValueError(
            f"column {recipe.group_by!r}: the group is missing; complete it or remove the record"
        )
    germline = _germline(row) if recipe.negatives == "matched" else (None, None)
    return Example(row["id"], heavy, light, label, group, number, row["donor"], row["clone"], *germline)


def _of_domain(row: dict[str, Any], chain: str, text: str | None) -> str | None:
    """Labels of a chain's residues, cut as the chain was; those of the domain alone stay as they are."""
    start, end = row[f"domain_start_{chain}"], row[f"domain_end_{chain}"]
    if text is None or start is None or len(text.strip()) == len(row[chain]):
        return text
    num_labels, num_residues = len(text.strip()), row[f"num_residues_{chain}"]
    if num_labels != num_residues:
        raise ValueError(
            f"{num_labels} labels for the {num_residues} residues of the {chain} chain, of which {start} to "
            f"{end} are its variable domain; write one character for each, or for each of the domain"
        )
    return text.strip()[start - 1 : end]


def _germline(row: dict[str, Any]) -> tuple[str, bool]:
    """V gene of the light chain without its allele, and whether the chain is mutated."""
    gene = row["v_call_light"]
    mutations, identity = row["mutations_light"], row["v_identity_light"]
    if not gene or (mutations is None and identity is None):
        raise ValueError("columns of the light chain: V gene or mutations are missing; remove the record")
    return gene.partition(",")[0].partition("*")[0], mutations > 0 if mutations is not None else identity < 1


def label_columns(recipe: Recipe) -> tuple[str, ...]:
    """The columns that hold the labels: one, or one for each chain."""
    if recipe.target == "residues":
        return f"{recipe.label_column}_heavy", f"{recipe.label_column}_light"
    return (recipe.label_column,)


def read_label(recipe: Recipe, texts: Sequence[str | None], heavy: str, light: str) -> Label:
    """The label of one pair; the error names the column."""
    columns = label_columns(recipe)
    for column, text in zip(columns, texts, strict=True):
        if text is None or not text.strip():
            raise ValueError(f"column {column!r}: the label is missing; complete it or remove the record")
    labels = [text.strip() for text in texts if text is not None]
    if recipe.target == "residues":
        chains = zip(columns, labels, ("heavy", "light"), (heavy, light), strict=True)
        return tuple(label for chain in chains for label in _residues(recipe, *chain))
    if recipe.target == "number":
        return _number(columns[0], labels[0])
    return _class(recipe, columns[0], labels[0])


def is_index(labels: Sequence[str], text: str) -> bool:
    """True for an index of the labels; where any label is an integer, integers are names."""
    return _INTEGER.fullmatch(text.strip()) is not None and not any(map(_INTEGER.fullmatch, labels))


def _class(recipe: Recipe, column: str, text: str) -> int:
    labels = recipe.labels
    names = [label.strip().casefold() for label in labels]
    integer = _INTEGER.fullmatch(text)
    for name in (text.casefold(), integer and integer[1]):
        if name in names:
            return names.index(name)
    if integer is None or not is_index(labels, text):
        advice = "name those of your data in the order of the logits"
        if recipe.negatives != "given":
            advice = "remove or rename a column that does not say which pairs are native"
        raise OptionError(
            f"column {column!r}: labels must be {', '.join(labels)}; got {text!r}: {advice}", "labels"
        )
    if int(integer[1]) >= len(labels):
        choices = ", ".join(f"{index} {label}" for index, label in enumerate(labels))
        raise OptionError(
            f"column {column!r}: {text} is beyond the recipe's {len(labels)} labels ({choices}); "
            "name all classes of your data",
            "labels",
        )
    return int(integer[1])


def _number(column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(
            f"column {column!r}: {text!r} must be a number; correct it or remove the record"
        ) from None
    if not math.isfinite(number):
        raise ValueError(f"column {column!r}: {text!r} is not a finite number; remove the record")
    return number


def _residues(recipe: Recipe, column: str, text: str, chain: str, residues: str) -> list[int]:
    digits = "".join(str(index) for index in range(len(recipe.labels)))
    if len(text) != len(residues):
        raise ValueError(
            f"column {column!r}: {len(text)} labels for the {len(residues)} residues of the {chain} chain; "
            f"write one character for each, {UNKNOWN_LETTER!r} where it is unknown"
        )
    if wrong := sorted(set(text) - set(digits + UNKNOWN_LETTER)):
        choices = ", ".join(f"{index} {label}" for index, label in enumerate(recipe.labels))
        raise ValueError(
            f"column {column!r}: {wrong[0]!r} must be one of {choices}, {UNKNOWN_LETTER} unknown"
        )
    return [UNKNOWN_LABEL if letter == UNKNOWN_LETTER else int(letter) for letter in text]
