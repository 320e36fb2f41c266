"""Examples out of any table: the labelled pairs and single chains that a recipe needs, each checked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.formats import open_table
from curr_ab.data.reading.objects import tables_of
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.finetuning.labelled_rows import (
    columns_of_labels,
    labelled_layout,
    labelled_rows,
    names_of,
    refuse,
)
from curr_ab.finetuning.labels import (
    Label,
    ReadLabel,
    is_index,
    is_known,
    label_columns,
    read_label,
    read_number,
    read_residues,
    require,
    residue_letters,
)
from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import OptionError
from curr_ab.words import CHAINS

_NATIVE = 1  # index among the labels of a recipe that makes its negatives


@dataclass(frozen=True)
class Example:
    """A record and what is to be learnt of it; the germline where matched negatives are made."""

    id: str
    heavy: str | None  # None, as the light one, in a single chain of the other kind
    light: str | None
    label: Label
    group: str | None  # folds hold groups apart; None where the recipe names none
    number: int  # index in the input, from 1; negatives follow
    donor: str | None = None
    clone: str | None = None
    v_gene_light: str | None = None
    light_is_mutated: bool | None = None
    bounds: tuple[int, ...] = ()  # by column: 1 where the truth is above the number, -1 below; or none
    weight: float = 1.0  # in the loss

    @property
    def chains(self) -> tuple[str | None, str | None]:
        """Heavy and light chain."""
        return self.heavy, self.light

    @property
    def num_residues(self) -> int:
        return len(self.heavy or "") + len(self.light or "")


def read_labelled_pairs(
    recipe: Recipe, sources: Any, names: ColumnNames | None = None
) -> tuple[list[Example], list[str]]:
    """All records of all sources, and what is to be said about them."""
    names = names_of(recipe, names)
    pairs: list[Example] = []
    notes: list[str] = []
    units = Units()
    num_before = 0
    for table in map(open_table, tables_of(sources)):
        source = table.source
        layout = labelled_layout(table, recipe, names)
        columns = columns_of_labels(recipe, layout)
        rows = list(labelled_rows(table, recipe, names, layout, columns, notes))
        if not rows:
            raise MalformedSource(source, "the table holds no record")
        if recipe.target == "classes" and any(
            is_index(recipe.labels, row[column] or "") for column in columns for row in rows
        ):
            if recipe.negatives != "given":
                raise MalformedSource(
                    source,
                    f"column {columns[0]!r} holds numbers, which do not say which pairs are native; "
                    "write names, remove the column, or set negatives to given and name its labels",
                    fields=("negatives", "labels"),
                )
            order = ", ".join(f"{index} is {label}" for index, label in enumerate(recipe.labels))
            notes.append(f"{source}: {', '.join(columns)} holds indices of the recipe's labels: {order}")
        read: list[Example] = []
        bad: dict[str, tuple[str, ...]] = {}  # and the options that might help
        num_unlabelled = 0
        for index, row in enumerate(rows, 1):
            if recipe.label_columns and not any(is_known(row[column], recipe.labels) for column in columns):
                num_unlabelled += 1
                continue
            try:
                example, of_numbers = _pair(recipe, row, columns, num_before + index)
                units.add(of_numbers, source, row["record"])
                read.append(example)
            except ValueError as error:
                fields = error.fields if isinstance(error, OptionError) else ()
                bad[f"record {row['record']}, {error}"] = fields
        refuse(source, list(bad), len(rows), tuple(dict.fromkeys(itertools.chain(*bad.values()))))
        if num_unlabelled:
            notes.append(f"{source}: {num_unlabelled:,} of {len(rows):,} records have no label: left out")
        natives = [pair for pair in read if recipe.negatives == "given" or pair.label == _NATIVE]
        if len(natives) < len(read):
            kept = f"{len(natives):,} of {len(read):,} pairs are {recipe.labels[_NATIVE]} and kept"
            notes.append(f"{source}: {kept}; the others are made anew ({recipe.negatives} negatives)")
        pairs += natives
        num_before += len(rows)
    return pairs, [*notes, *units.notes()]


class Units:
    """The units of each column, which must be the same in all rows to be left out."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, str]] = {}  # by column: the unit, and the record that has it

    def add(self, units: Sequence[tuple[str, str]], source: str, record: int) -> None:
        for column, unit in units:
            first, where = self._first.setdefault(column, (unit, f"record {record} of {source}"))
            if unit != first:
                raise ValueError(
                    f"column {column!r}: the unit must be that of {where}, {first or 'none'}; got "
                    f"{unit or 'none'}: write all in one unit"
                )

    def notes(self) -> list[str]:
        return [
            f"the unit {unit} of {column!r} is that of all rows, and left out"
            for column, (unit, _) in self._first.items()
            if unit
        ]


def _pair(
    recipe: Recipe, row: dict[str, Any], columns: Sequence[str], number: int
) -> tuple[Example, Sequence[tuple[str, str]]]:
    """The example of a row, and the units of its numbers by column."""
    read = ReadLabel(_NATIVE)
    if columns and recipe.target == "residues":
        read = ReadLabel(_labels_of_residues(recipe, row, columns))
    elif columns:
        read = read_label(recipe, columns, [row[column] for column in columns])
    group = None if recipe.group_by is None else row[recipe.group_by]
    # A column of floats has no other way to say that a value is missing.
    if recipe.group_by is not None and (group is None or group.strip().casefold() in ("", "nan")):
        raise ValueError(
            f"column {recipe.group_by!r}: the group is missing; complete it or remove the record"
        )
    gene, is_mutated = _germline(row) if recipe.negatives == "matched" else (None, None)
    example = Example(
        row["id"],
        row["heavy"],
        row["light"],
        read.label,
        group,
        number,
        row["donor"],
        row["clone"],
        gene,
        is_mutated,
        bounds=read.bounds,
        weight=1.0 if recipe.weight_column is None else _weight(recipe.weight_column, row),
    )
    return example, read.units


def _weight(column: str, row: dict[str, Any]) -> float:
    weight = read_number(column, require(column, row[column], "weight"))
    if weight <= 0:
        raise ValueError(f"column {column!r}: the weight must be above 0; got {weight:g}; correct it")
    return weight


def _labels_of_residues(recipe: Recipe, row: dict[str, Any], columns: Sequence[str]) -> tuple[int, ...]:
    """The class of each residue, those of the heavy chain first."""
    chains = [chain for chain in CHAINS if row[chain] is not None]
    if columns == (recipe.label_column,):
        if len(chains) > 1:
            raise ValueError(
                f"column {columns[0]!r}: a pair needs a column of labels for each chain; name them "
                f"{' and '.join(label_columns(recipe))}"
            )
        of_chain = dict.fromkeys(chains, columns[0])
    else:
        of_chain = dict(zip(CHAINS, label_columns(recipe), strict=True))
    labels: list[int] = []
    for chain in chains:
        column = of_chain[chain]
        letters = _of_domain(row, chain, residue_letters(column, row.get(column)))
        labels += read_residues(recipe, column, letters, chain, row[chain])
    return tuple(labels)


def _of_domain(row: dict[str, Any], chain: str, labels: list[str]) -> list[str]:
    """Labels of a chain's residues, cut as the chain was; those of the domain alone stay as they are."""
    start, end = row[f"domain_start_{chain}"], row[f"domain_end_{chain}"]
    if start is None or len(labels) == len(row[chain]):
        return labels
    num_residues = row[f"num_residues_{chain}"]
    if len(labels) != num_residues:
        raise ValueError(
            f"{len(labels)} labels for the {num_residues} residues of the {chain} chain, of which {start} to "
            f"{end} are its variable domain; write one character for each, or for each of the domain"
        )
    return labels[start - 1 : end]


def _germline(row: dict[str, Any]) -> tuple[str, bool]:
    """V gene of the light chain without its allele, and whether the chain is mutated."""
    gene = row["v_call_light"]
    mutations, identity = row["mutations_light"], row["v_identity_light"]
    if not gene or (mutations is None and identity is None):
        raise ValueError("columns of the light chain: V gene or mutations are missing; remove the record")
    return gene.partition(",")[0].partition("*")[0], mutations > 0 if mutations is not None else identity < 1
