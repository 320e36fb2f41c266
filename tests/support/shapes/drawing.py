"""Shapes by name, and the seeded draw that each is made with."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curr_ab.data import builtin_path
from support.shapes.molecules import V_ENDS, Chain, chain_of

Record = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Residues that a source must give: exactly the V domains, one of them None in unpaired data."""

    heavy: str | None
    light: str | None
    names: tuple[str, ...] = ()  # ids that say which record it is; empty where the source has none
    annotation: Mapping[str, Any] = field(default_factory=dict)  # values of fields of the schema


def single(chain: Chain, *names: str, **annotation: str) -> Pair:
    """A chain alone, in unpaired data."""
    is_heavy = chain.kind == "heavy"
    residues = (chain.residues, None) if is_heavy else (None, chain.residues)
    return Pair(*residues, names, annotation)


@dataclass(frozen=True)
class Shape:
    """Files or an object to read, and what must come out."""

    sources: Any
    pairs: Sequence[Pair]
    options: Mapping[str, Any] = field(default_factory=dict)  # of `read_pairs`
    left_out: Mapping[str, int] = field(default_factory=dict)  # records that give no pair, by reason
    dropped: Sequence[Pair] = ()  # read whole, and dropped by `prepare`
    of_cells: bool = False  # one chain in a row


Maker = Callable[["Draw", Path], Shape]
SHAPES: dict[str, Maker] = {}


def shape(maker: Maker) -> Maker:
    """Register a maker under its name."""
    SHAPES[maker.__name__] = maker
    return maker


def draw_shape(name: str, variant: int, folder: Path) -> Shape:
    return SHAPES[name](Draw(name, variant), folder)


@functools.cache
def corpus() -> list[Record]:
    """Pairs of the corpus that differ in both chains and end as germline J genes end."""
    columns = [
        f"{name}_{chain}" for name in ("v_call", "j_call", "region_mask") for chain in ("heavy", "light")
    ]
    columns += ["id", "heavy", "light", "d_call_heavy", "isotype", "donor"]
    rows = pq.read_table(builtin_path(), columns=columns).slice(0, 4_000).to_pylist()
    rows = [row for row in rows if all(V_ENDS[chain].search(row[chain]) for chain in V_ENDS)]
    # Numbering tools misplace the ends of the longest loops, which is not what the shapes are about.
    rows = [row for row in rows if row["region_mask_heavy"].count("6") <= 24]
    once = {row["heavy"]: row for row in {row["light"]: row for row in rows}.values()}
    return list(once.values())


class Draw:
    """Random choices of one shape in one variant."""

    def __init__(self, name: str, variant: int) -> None:
        self.variant = variant
        self.rng = random.Random(f"{name}, variant {variant}")
        self._rows = self.rng.sample(corpus(), 60)

    def pair(self) -> tuple[Chain, Chain]:
        """The chains of a pair that this shape has not used yet."""
        row = self._rows.pop()
        return chain_of(row, "heavy"), chain_of(row, "light")

    def pairs(self, number: int = 8) -> list[tuple[Chain, Chain]]:
        return [self.pair() for _ in range(number)]

    def barcode(self) -> str:
        return "".join(self.rng.choices("ACGT", k=16)) + "-1"

    def sample(self) -> str:
        """A name of a sample, as its owner might have chosen it."""
        stem = self.rng.choice(["PBMC", "donor", "S", "GC-B", "patient.", "KL"])
        return f"{stem}{self.rng.randrange(10, 99)}"

    def name(self) -> str:
        """A name of an antibody."""
        stem = self.rng.choice(["mAb-", "ADI-", "P2C", "CR", "4A8_", "Ab "])
        return f"{stem}{self.rng.randrange(10_000, 99_999)}"

    def names(self, number: int) -> list[str]:
        names: dict[str, None] = {}
        while len(names) < number:
            names[self.name()] = None
        return list(names)

    def named(self, number: int = 8) -> list[tuple[str, Chain, Chain]]:
        """Pairs with a name."""
        return [(name, *self.pair()) for name in self.names(number)]

    def columns(self, records: Sequence[Record], needed: Sequence[str]) -> list[str]:
        """The columns of a table: all as they stand, or in the second variant shuffled and fewer."""
        columns = list(records[0])
        assert set(needed) <= set(columns), set(needed) - set(columns)
        if self.variant:
            columns = [name for name in columns if name in needed or self.rng.random() < 0.6]
            self.rng.shuffle(columns)
        return columns
