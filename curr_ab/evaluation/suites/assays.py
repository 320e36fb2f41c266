"""Assays: pairs with a measured fitness and the better direction of it, one table each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.data.preparing.clean import reasons_without_pair
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.fasta import fasta_records
from curr_ab.data.reading.formats import open_table
from curr_ab.data.reading.objects import tables_of
from curr_ab.data.reading.pairs import read_source
from curr_ab.data.reading.table import Table
from curr_ab.data.schema import PAIR_SCHEMA
from curr_ab.measures.metrics import Floats
from curr_ab.options import OptionError, read_yaml
from curr_ab.words import CHAINS

FITNESS, DIRECTION = "fitness", "direction"
_SIGNS = {"higher": 1, "lower": -1}
_GAP = ord("-")  # fills up short genes


@dataclass(frozen=True)
class Assay:
    """The pairs of one assay that have a number; `fitness` is signed so that higher is better.

    A pair that was measured several times is one pair with its mean: repeats are not independent, and would
    be both learned from and predicted.
    """

    name: str
    pairs: pa.Table
    fitness: Floats
    num_without: int  # rows that have no number
    num_repeats: int = 0  # rows that were merged into an earlier one


def read_assays(
    sources: Any, direction: str | None, names_of_columns: ColumnNames | None = None
) -> list[Assay]:
    """A table of pairs with their fitness for each assay, named after its file."""
    directions = _read_directions(direction)
    columns = names_of_columns or ColumnNames()
    assays = [_read_assay(open_table(source), directions, columns) for source in tables_of(sources)]
    names = [assay.name for assay in assays]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"names of assays must differ; got two files of {twice[0]}; rename one")
    if unknown := sorted(set(directions) - {*names, ""}):
        raise ValueError(
            f"{direction}: names must be those of assays ({', '.join(names)}); got {unknown[0]!r}"
        )
    return assays


def _read_assay(table: Table, directions: Mapping[str, str], columns: ColumnNames) -> Assay:
    source, pairs = table.source, _read(table, columns)
    name = Path(source).name.split(".")[0]
    rows = zip(pairs["record"].to_pylist(), pairs[FITNESS].to_pylist(), strict=True)
    values = [_number(text, f"{source}, record {record}") for record, text in rows]
    sign = _SIGNS[_direction(name, source, pairs, directions)]
    known = [value is not None for value in values]
    fitness = np.array([value for value in values if value is not None], dtype=np.float64)
    kept = pairs.filter(pa.array(known, pa.bool_())).drop_columns(["source"])
    for row in kept.select(["record", *CHAINS]).to_pylist():
        if missing := [chain for chain in CHAINS if not row[chain]]:
            raise ValueError(
                f"{source}, record {row['record']} must have both chains; the {missing[0]} one is missing; "
                "complete or remove the record"
            )
    firsts, means = _merge_repeats(kept, fitness)
    num_repeats = len(kept) - len(firsts)
    return Assay(name, kept.take(pa.array(firsts)), sign * means, len(values) - len(fitness), num_repeats)


def _merge_repeats(pairs: pa.Table, fitness: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """The first row of each distinct pair, and the mean of all its rows."""
    numbers: dict[tuple[str, ...], int] = {}
    chains = zip(*(pairs[chain].to_pylist() for chain in CHAINS), strict=True)
    of_rows = np.array([numbers.setdefault(pair, len(numbers)) for pair in chains], dtype=np.int64)
    _, firsts = np.unique(of_rows, return_index=True)
    return firsts, np.bincount(of_rows, fitness) / np.bincount(of_rows)


def _read(table: Table, columns: ColumnNames) -> pa.Table:
    """Its pairs with their fitness, and with the direction where it has such a column."""
    extra = (FITNESS, *([DIRECTION] if DIRECTION in table.names else []))
    batches = []
    for batch in read_source(table, replace(columns, extra=extra), "paired"):
        if left_out := reasons_without_pair(batch):
            batch = batch.filter(pa.array([reason is None for reason in left_out]))
        batches.append(batch.select([*PAIR_SCHEMA.names, *extra]))
    if not batches:
        problem = "must have records; got none; add rows below its header, or leave the file out"
        raise ValueError(f"{table.source} {problem}")
    return pa.Table.from_batches(batches)


def _number(text: str | None, where: str) -> float | None:
    """The fitness; None where the cell is empty or says that there is none."""
    if text is None or text.strip().lower() in ("", "nan", "na", "none", "null"):
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{where}: fitness must be a number or empty; got {text!r}") from None
    if math.isinf(value):
        raise ValueError(f"{where}: fitness must be finite; got {text}; leave the cell empty or give a bound")
    return value


def _direction(name: str, source: str, pairs: pa.Table, directions: Mapping[str, str]) -> str:
    """The better direction of this assay as given, or as its column says; never guessed."""
    column = set(pairs[DIRECTION].to_pylist()) if DIRECTION in pairs.column_names else set()
    words = column | {directions[key] for key in (name, "") if key in directions}
    if not words:
        raise OptionError(
            f"{source}: is higher or lower fitness better? Set direction to higher or lower for all assays, "
            f"or to a YAML file with `{name}: higher` in it, or add a column `direction`",
            "direction",
        )
    if len(words) > 1 or not words <= _SIGNS.keys():
        raise ValueError(
            f"{source}: direction must be higher or lower; got {' and '.join(sorted(map(str, words)))}"
        )
    return str(words.pop())


def _read_directions(direction: str | None) -> dict[str, str]:
    """Directions by assay; the empty name stands for all."""
    if direction is None:
        return {}
    if direction in _SIGNS:
        return {"": direction}
    if not Path(direction).is_file():
        raise OptionError(
            f"direction must be higher, lower or a YAML file that says it by assay; got {direction!r}",
            "direction",
        )
    directions = read_yaml(direction)  # JSON is YAML too
    if wrong := [name for name, word in directions.items() if word not in tuple(_SIGNS)]:
        raise ValueError(
            f"{direction}: {wrong[0]} must be higher or lower; got {directions[wrong[0]]!r}; "
            "write lines `assay: higher` or `assay: lower`"
        )
    return {str(name): word for name, word in directions.items()}


def germline_distances(pairs: pa.Table, germlines: Mapping[str, str] | None) -> dict[str, Floats] | None:
    """Differences from germline by chain and of the pair; None where nothing tells them of any pair.

    Both chains have the same unit, counts or shares, whichever is known of more pairs; a pair of which it is
    not known is NaN throughout.
    """
    if germlines is not None:
        distances = {chain: nearest_distances(pairs[chain].to_pylist(), germlines) for chain in CHAINS}
    else:
        counts = {chain: _numbers(pairs[f"mutations_{chain}"]) for chain in CHAINS}
        shares = {chain: 1 - _numbers(pairs[f"v_identity_{chain}"]) for chain in CHAINS}
        distances = max((counts, shares), key=lambda unit: np.isfinite(unit["heavy"] + unit["light"]).sum())
    pair = distances["heavy"] + distances["light"]
    known = np.isfinite(pair)
    by_chain = {chain: np.where(known, values, np.nan) for chain, values in distances.items()}
    return {**by_chain, "pair": pair} if known.any() else None


def _numbers(column: pa.ChunkedArray) -> Floats:
    """The column as numbers, NaN where it is null."""
    numbers: Floats = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    return numbers


def read_germlines(path: str | Path) -> dict[str, str]:
    """V genes as amino acids by name, from FASTA; IMGT's gaps are taken out."""
    germlines = {
        name: residues.upper().replace(".", "").replace("-", "")
        for _, name, residues in fasta_records(str(path))
    }
    if not germlines:
        raise ValueError(f"{path} holds no germline")
    for name, residues in germlines.items():
        if not residues or set(residues) <= set("ACGTN"):
            raise ValueError(
                f"{path}: {name} is {'empty' if not residues else 'nucleotides'}; give amino acids"
            )
    return germlines


def nearest_distances(chains: list[str], germlines: Mapping[str, str]) -> Floats:
    """Edits between each chain's beginning and the V gene to which it is nearest."""
    genes = [np.frombuffer(gene.encode(), np.uint8) for gene in germlines.values()]
    lengths = np.array([len(gene) for gene in genes])
    letters = np.full((len(genes), int(lengths.max())), _GAP, np.uint8)
    for row, gene in zip(letters, genes, strict=True):
        row[: len(gene)] = gene
    distances = {chain: _edits(chain, letters, lengths) for chain in set(chains)}
    return np.array([distances[chain] for chain in chains], dtype=np.float64)


def _edits(chain: str, letters: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]) -> int:
    """The fewest edits from a whole gene to some beginning of the chain, over all genes [G, L]."""
    genes, width = letters.shape
    steps = np.arange(width + 1)
    row = np.tile(steps, (genes, 1))  # edits between the first residues of each gene and those of the chain
    best = row[np.arange(genes), lengths]
    for number, residue in enumerate(chain.encode(), start=1):
        above = row
        row = np.empty_like(above)
        row[:, 0] = number
        row[:, 1:] = np.minimum(above[:, :-1] + (letters != residue), above[:, 1:] + 1)
        # Insertions along the row: each entry is at most the one before it plus one.
        row = np.minimum.accumulate(row - steps, axis=1) + steps
        best = np.minimum(best, row[np.arange(genes), lengths])
    return int(best.min())
