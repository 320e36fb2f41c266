"""Assays: pairs with a measured fitness, one table each, and which direction is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.data.reading.pairs import read_pairs
from curr_ab.data.reading.sources import MalformedSource, expand_sources
from curr_ab.options import OptionError, read_yaml
from curr_ab.words import CHAINS

FITNESS, DIRECTION = "fitness", "direction"
_SIGNS = {"higher": 1, "lower": -1}
Array = npt.NDArray[np.float64]
_GAP = ord("-")  # fills up short genes


@dataclass(frozen=True)
class Assay:
    """The pairs of one assay that have a number; `fitness` is signed so that higher is better.

    A pair that was measured several times is one pair with its mean: repeats are not independent, and would
    be both learned from and predicted.
    """

    name: str
    pairs: pa.Table
    fitness: Array
    num_without: int  # rows that have no number
    num_repeats: int = 0  # rows that were merged into an earlier one


@dataclass(frozen=True)
class Assays:
    """All assays of a run."""

    assays: tuple[Assay, ...]
    fingerprint: str


def read_assays(sources: Sequence[str], direction: str | None) -> Assays:
    """A table `heavy, light, fitness` for each assay, named after its file."""
    told = _read_directions(direction)
    found = [_read_assay(source, told) for source in expand_sources(sources)]
    names = [assay.name for assay in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two assays are called {twice[0]}; their files need different names")
    if unknown := sorted(set(told) - {*names, ""}):
        raise ValueError(f"{direction}: no assay is called {unknown[0]!r}; there are {', '.join(names)}")
    digest = sha256()
    for assay in found:
        digest.update(repr([assay.name, assay.fitness.tolist(), assay.pairs.to_pydict()]).encode())
    return Assays(tuple(found), digest.hexdigest())


def _read_assay(source: str, told: dict[str, str]) -> Assay:
    pairs = _read(source)
    name = Path(source).name.split(".")[0]
    values = [
        _number(text, f"{source}, record {row}") for row, text in enumerate(pairs[FITNESS].to_pylist(), 1)
    ]
    sign = _SIGNS[_direction(name, source, pairs, told)]
    known = [value is not None for value in values]
    fitness = np.array([value for value in values if value is not None], dtype=np.float64)
    kept = pairs.filter(pa.array(known, pa.bool_())).drop_columns(["source"])
    for row in kept.select(["record", *CHAINS]).to_pylist():
        if missing := [chain for chain in CHAINS if not row[chain]]:
            raise ValueError(
                f"{source}, record {row['record']}: no {missing[0]} chain; complete or remove it"
            )
    firsts, means = _merge_repeats(kept, fitness)
    num_repeats = len(kept) - len(firsts)
    return Assay(name, kept.take(pa.array(firsts)), sign * means, len(values) - len(fitness), num_repeats)


def _merge_repeats(pairs: pa.Table, fitness: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """Where each distinct pair is first, and the mean of all its rows."""
    numbers: dict[tuple[str, ...], int] = {}
    chains = zip(*(pairs[chain].to_pylist() for chain in CHAINS), strict=True)
    of_rows = np.array([numbers.setdefault(pair, len(numbers)) for pair in chains], dtype=np.int64)
    _, firsts = np.unique(of_rows, return_index=True)
    return firsts, np.bincount(of_rows, fitness) / np.bincount(of_rows)


def _read(source: str) -> pa.Table:
    """Its pairs with their fitness, and with the direction where it has such a column."""
    try:
        batches = list(read_pairs(source, extra_columns=[FITNESS, DIRECTION]))
    except MalformedSource:  # what else may be wrong with it is wrong again
        batches = list(read_pairs(source, extra_columns=[FITNESS]))
    if not batches:
        raise ValueError(f"{source} has no record: add rows below its header, or leave the file out")
    return pa.Table.from_batches(batches)


def _number(text: str | None, where: str) -> float | None:
    """The fitness; None where the cell is empty or says that there is none."""
    if text is None or text.strip().lower() in ("", "nan", "na", "none", "null"):
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{where}: the fitness {text!r} is no number") from None
    if math.isinf(value):
        raise ValueError(f"{where}: the fitness is infinite; leave the cell empty or give a bound")
    return value


def _direction(name: str, source: str, pairs: pa.Table, told: dict[str, str]) -> str:
    """What is better in this assay: as told, or as its column says; never guessed."""
    column = set(pairs[DIRECTION].to_pylist()) if DIRECTION in pairs.column_names else set()
    words = column | {told[key] for key in (name, "") if key in told}
    if not words:
        raise OptionError(
            f"{source}: is higher or lower fitness better? Set direction to higher or lower for all assays, "
            f"or to a YAML file with `{name}: higher` in it, or add a column `direction`",
            "direction",
        )
    if len(words) > 1 or not words <= _SIGNS.keys():
        raise ValueError(
            f"{source}: the direction must be higher or lower, not {' and '.join(map(str, words))}"
        )
    return str(words.pop())


def _read_directions(direction: str | None) -> dict[str, str]:
    """By assay; the empty name stands for all."""
    if direction is None:
        return {}
    if direction in _SIGNS:
        return {"": direction}
    if not Path(direction).is_file():
        raise OptionError(
            f"direction must be higher, lower or a YAML file that says it by assay; got {direction!r}",
            "direction",
        )
    found = read_yaml(direction)  # JSON is YAML too
    if wrong := [name for name, word in found.items() if word not in tuple(_SIGNS)]:
        raise ValueError(
            f"{direction} must hold lines `assay: higher` or `assay: lower`; that of {wrong[0]!r} says "
            f"{found[wrong[0]]!r}"
        )
    return {str(name): word for name, word in found.items()}


def germline_distances(pairs: pa.Table, germlines: Mapping[str, str] | None) -> dict[str, Array] | None:
    """Differences from germline by chain and of the pair; None where nothing tells them of any pair.

    Both chains have the same unit, counts or shares, whichever is known of more pairs; a pair of which it is
    not known is NaN throughout.
    """
    if germlines is not None:
        found = {chain: nearest_distances(pairs[chain].to_pylist(), germlines) for chain in CHAINS}
    else:
        counts = {chain: _numbers(pairs[f"mutations_{chain}"]) for chain in CHAINS}
        shares = {chain: 1 - _numbers(pairs[f"v_identity_{chain}"]) for chain in CHAINS}
        found = max((counts, shares), key=lambda one: np.isfinite(one["heavy"] + one["light"]).sum())
    pair = found["heavy"] + found["light"]
    known = np.isfinite(pair)
    by_chain = {chain: np.where(known, values, np.nan) for chain, values in found.items()}
    return {**by_chain, "pair": pair} if known.any() else None


def _numbers(column: pa.ChunkedArray) -> Array:
    """What is null becomes NaN."""
    found: Array = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    return found


def read_germlines(path: str | Path) -> dict[str, str]:
    """V genes as amino acids by name, from FASTA; IMGT's gaps are taken out."""
    found: dict[str, str] = {}
    name = None
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        if line.startswith(">"):
            name = line[1:].split()[0] if line[1:].strip() else f"line {number}"
            found[name] = ""
        elif line.strip():
            if name is None:
                raise ValueError(f"{path}, line {number}: no FASTA file; it must begin with `>NAME`")
            found[name] += line.strip().upper().replace(".", "").replace("-", "")
    if not found:
        raise ValueError(f"{path} holds no germline")
    for name, residues in found.items():
        if not residues or set(residues) <= set("ACGTN"):
            raise ValueError(
                f"{path}: {name} is {'empty' if not residues else 'nucleotides'}; give amino acids"
            )
    return found


def nearest_distances(chains: list[str], germlines: Mapping[str, str]) -> Array:
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
