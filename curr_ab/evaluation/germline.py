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
    """Differences from germline by chain and of the pair; None where nothing tells them."""
    found = {}
    for chain in CHAINS:
        if germlines is not None:
            found[chain] = nearest_distances(pairs[chain].to_pylist(), germlines)
        elif pairs[f"mutations_{chain}"].null_count == 0:
            found[chain] = pairs[f"mutations_{chain}"].to_numpy().astype(np.float64)
        elif pairs[f"v_identity_{chain}"].null_count == 0:
            found[chain] = 1 - pairs[f"v_identity_{chain}"].to_numpy().astype(np.float64)
        else:
            return None
    return {**found, "pair": found["heavy"] + found["light"]}


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
