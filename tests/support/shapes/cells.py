"""Cells of a sample: their contigs, and the pairs among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.shapes.drawing import Draw, Pair, Record, Shape
from support.shapes.molecules import Chain, Contig, contig_of, t_cell_receptor, with_stop
from support.shapes.writing import table_text, write


@dataclass(frozen=True)
class Row:
    """A contig of a cell, with what the program says of it."""

    barcode: str
    contig_id: str
    chain: Chain
    contig: Contig
    umis: int
    productive: bool = True
    is_cell: bool = True
    high_confidence: bool = True

    @property
    def gene(self) -> dict[str, str]:
        """Genes without their alleles."""
        chain = self.chain
        calls = {"v": chain.v_call, "d": chain.d_call, "j": chain.j_call, "c": chain.c_call}
        return {name: call.partition("*")[0] for name, call in calls.items()}


@dataclass
class Cells:
    """Contigs of one sample, and the pairs among them."""

    draw: Draw
    rows: list[Row] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, barcode: str, *chains: Chain, silent: Chain | None = None, **flags: bool) -> list[Row]:
        """Add a cell: its chains, and one more with a stop codon."""
        rng, rows = self.draw.rng, []
        for number, chain in enumerate([*chains, *([silent] if silent else [])], 1):
            productive = chain is not silent
            contig = contig_of(chain, rng, None if productive else with_stop(chain, rng))
            name, umis = f"{barcode}_contig_{number}", rng.randrange(2, 90)
            rows.append(Row(barcode, name, chain, contig, umis, productive, **flags))
        self.rows += rows
        return rows

    def add_pair(
        self, barcode: str, genes: Callable[[str], str] | None = None, silent: Chain | None = None
    ) -> None:
        """Add a cell that gives a pair."""
        heavy, light = self.draw.pair()
        rows = self.add(
            barcode, *([light, heavy] if self.draw.rng.random() < 0.5 else [heavy, light]), silent=silent
        )
        annotation = heavy.annotation("cdr3") | light.annotation("cdr3")
        for chain in (heavy, light):
            annotation[f"v_call_{chain.kind}"] = genes(chain.v_call) if genes else chain.v_call
        name = next(row.contig_id for row in rows if row.chain is heavy)
        self.pairs.append(Pair(heavy.residues, light.residues, (barcode, name), annotation))

    def add_others(self, *kinds: str) -> None:
        """Add cells that give no pair, each for a reason."""
        for kind in kinds:
            heavy, light = self.draw.pair()
            barcode = self.draw.barcode()
            if kind == "several_chains":
                rows = self.add(barcode, heavy, light, self.draw.pair()[1])
            elif kind == "missing_chain":
                rows = self.add(barcode, heavy)
            elif kind == "t_cell_receptor":
                rows = self.add(barcode, t_cell_receptor("TRB"), t_cell_receptor("TRA"))
            else:
                rows = self.add(barcode, heavy, light, **{kind.removeprefix("not_"): False})
            self.left_out[kind] += len(rows)

    def shuffle(self) -> None:
        if self.draw.variant:
            self.draw.rng.shuffle(self.rows)

    def shape(self, sources: Any, *checked: str) -> Shape:
        """The shape of these cells, of whose annotation the source holds the fields checked."""
        pairs = [
            Pair(
                pair.heavy,
                pair.light,
                pair.names,
                {
                    name: value
                    for name, value in pair.annotation.items()
                    if name.rpartition("_")[0] in checked
                },
            )
            for pair in self.pairs
        ]
        return Shape(sources, pairs, left_out=self.left_out, of_cells=True)


def gene(call: str) -> str:
    return call.partition("*")[0]


def cells_of(
    draw: Draw,
    *others: str,
    number: int = 7,
    barcodes: Iterable[str] | None = None,
    genes: Callable[[str], str] | None = gene,
) -> Cells:
    """Cells with a pair, one of them with a silenced second light chain, and the others."""
    cells = Cells(draw)
    for index, barcode in enumerate(barcodes or [draw.barcode() for _ in range(number)]):
        cells.add_pair(barcode, genes, silent=draw.pair()[1] if index == 1 else None)
    cells.left_out["non_productive"] += 1
    cells.add_others(*others)
    cells.shuffle()
    return cells


AIRR_NEEDS = ("cell_id", "sequence_id", "v_call", "productive")


def airr_tsv(cells: Cells, path: Path, records: list[Record], *needs: str) -> Path:
    columns = cells.draw.columns(records, [*AIRR_NEEDS, *needs])
    return write(path, table_text(columns, records, delimiter="\t"))
