"""How far pairs are from their germlines: as their annotation says, or from the nearest V genes given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.data.schema import CHAINS

Array = npt.NDArray[np.float64]
_GAP = ord("-")  # fills up short genes


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
