"""Labelled examples with a planted signal, made of the built-in corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from curr_ab.data.reading.formats import builtin_path
from curr_ab.data.simulation import PREFERRED_LIGHT
from curr_ab.options import OptionError, unknown

Row = dict[str, Any]
# Five residues that germline CDRH3s hardly have, in the middle of the loop; healthy donors have none.
MOTIFS = {"Flu": "FMHKW", "CoV": "WHPMF"}
# Weights of residues in the loops: a number is their sum over both chains, and noise.
_WEIGHTS = {
    "affinity": {"Y": 1.0, "W": 1.0, "F": 1.0, "D": -1.0, "E": -1.0},
    "developability": {"I": -1.0, "L": -1.0, "V": -1.0, "M": -1.0, "K": 0.5, "R": 0.5, "S": 0.5},
}
_NOISE = 0.5
_CONTACTS = frozenset("YWRDN")  # what touches the antigen where it stands in a CDR, and does not elsewhere
_LOOPS = frozenset("246")  # CDR1, CDR2, CDR3 in a region mask
_STEM = 3  # residues at either end of a CDRH3 that stay germline
_KEPT = ("id", "heavy", "light", "donor", "clone", "v_call_light", "mutations_heavy", "mutations_light")
_LOOKED_AT = ("v_call_heavy", "cdr3_heavy", "region_mask_heavy", "region_mask_light")


def plant(task: str, num_pairs: int = 600, seed: int = 0) -> pa.Table:
    """`num_pairs` pairs with what the shipped recipe `task` learns: whole clones of at least 10 donors."""
    if task not in TASKS:
        raise ValueError(unknown("recipe with example data", task, TASKS))
    random = np.random.default_rng(seed)
    rows = _draw(num_pairs, random, _has_the_preferred_light if task == "pairing" else lambda row: True)
    TASKS[task](rows, random)
    return pa.Table.from_pylist(rows)


def _draw(num_pairs: int, random: np.random.Generator, suits: Callable[[Row], bool]) -> list[Row]:
    """Whole clones in random order; few donors, so that each has pairs enough to exchange light chains."""
    corpus = pyarrow.parquet.read_table(builtin_path(), columns=[*_KEPT, *_LOOKED_AT])
    donors = random.permutation(sorted(set(corpus["donor"].to_pylist())))
    of_donors = set(donors[: max(10, num_pairs // 50)].tolist())
    clones: dict[str, list[Row]] = {}
    different = {(row["heavy"], row["light"]): row for row in corpus.to_pylist() if suits(row)}
    for row in different.values():
        if row["donor"] in of_donors and len(row["cdr3_heavy"]) >= 2 * _STEM + len(MOTIFS["CoV"]):
            clones.setdefault(row["clone"], []).append(row)
    order = random.permutation(sorted(clones)).tolist()
    rows = [row for clone in order for row in clones[clone]][:num_pairs]
    if num_pairs < 1 or len(rows) < num_pairs:
        message = f"pairs must be at most {len(rows):,}, as many as the corpus has; got {num_pairs:,}"
        raise OptionError(message, "pairs")
    return rows


def _keep(rows: list[Row], label: Callable[[Row], Mapping[str, Any]]) -> None:
    rows[:] = [{name: row[name] for name in _KEPT} | dict(label(row)) for row in rows]


def _specificity(*labels: str) -> Callable[[list[Row], np.random.Generator], None]:
    """A label for each clone; its motif stands at the same place in all its cells."""

    def plant_motifs(rows: list[Row], random: np.random.Generator) -> None:
        clones = sorted({row["clone"] for row in rows})
        of_clone = dict(zip(clones, random.permutation(np.resize(labels, len(clones))).tolist(), strict=True))
        for row in rows:
            if motif := MOTIFS.get(of_clone[row["clone"]]):
                loop = row["region_mask_heavy"].index("6")
                start = loop + (len(row["cdr3_heavy"]) - len(motif)) // 2
                row["heavy"] = row["heavy"][:start] + motif + row["heavy"][start + len(motif) :]
        _keep(rows, lambda row: {"label": of_clone[row["clone"]]})

    return plant_motifs


def _has_the_preferred_light(row: Row) -> bool:
    """As half of the corpus by its simulation, and some by chance; here a foreign light chain stands out."""
    heavy, light = (row[f"v_call_{chain}"].split("-")[0] for chain in ("heavy", "light"))
    return bool(PREFERRED_LIGHT[heavy] == light)


def _pairing(rows: list[Row], random: np.random.Generator) -> None:
    """The natives, chosen by their V families; the recipe makes the others."""
    _keep(rows, lambda row: {})


def _paratope(rows: list[Row], random: np.random.Generator) -> None:
    def touches(row: Row, chain: str) -> str:
        residues = zip(row[chain], row[f"region_mask_{chain}"], strict=True)
        return "".join("01"[residue in _CONTACTS and region in _LOOPS] for residue, region in residues)

    _keep(rows, lambda row: {f"paratope_{chain}": touches(row, chain) for chain in ("heavy", "light")})


def _number(weights: Mapping[str, float]) -> Callable[[list[Row], np.random.Generator], None]:
    def plant_number(rows: list[Row], random: np.random.Generator) -> None:
        def fitness(row: Row) -> float:
            regions = row["region_mask_heavy"] + row["region_mask_light"]
            residues = zip(row["heavy"] + row["light"], regions, strict=True)
            total = sum(weights.get(residue, 0.0) for residue, region in residues if region in _LOOPS)
            return round(total + float(random.normal(0, _NOISE)), 3)

        _keep(rows, lambda row: {"fitness": fitness(row)})

    return plant_number


TASKS: dict[str, Callable[[list[Row], np.random.Generator], None]] = {
    "specificity-binary": _specificity("HD", "CoV"),
    "specificity-multiclass": _specificity("HD", "Flu", "CoV"),
    "pairing": _pairing,
    "paratope": _paratope,
    **{task: _number(weights) for task, weights in _WEIGHTS.items()},
}
