"""V genes and CDRH3s of heavy chains, and the residues before the CDRH3 by which V genes are told apart.

Those residues are counted back from the CDRH3: a V gene has no insertions but by rare mutations, so nothing
has to be aligned, and it does not matter where a chain begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.data.reading.fasta import fasta_records
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.data.reading.translation import read_nucleotides
from curr_ab.domains import Domain, find_domains
from curr_ab.options import OptionError

Residues = npt.NDArray[np.uint8]
NUM_BEFORE = 96  # residues before the CDRH3: the whole of FWR1 to FWR3 in most heavy chains
FEWEST_BEFORE = 30  # residues that tell V genes apart
# Least share of a gene's residues: chains of the built-in corpus keep 0.7 of their own gene's and more.
_LEAST_LIKE = 0.6
_GENES = (re.compile(r"IG[HKL][VJ][^\s,;|*]*"), re.compile(r"[^\s,;|*]+"))
_NUCLEOTIDES = re.compile("[ACGTUNRYSWKMBDHV]+")
_GAPS = re.compile(r"[.\-]")
_REST = "ARDYWGQGTLVTVSS"  # a V gene is aligned as the domain that it is a part of


class VGenes(NamedTuple):
    """Genes in the order of their names, and the residues of each before its CDR3."""

    names: tuple[str, ...]
    before: Residues


def gene_of(call: str) -> str:
    """IGHV3-23 of "Homsap IGHV3-23*01 F" and of "IGHV3-23D*01,IGHV3-23*04": the first call, without allele.

    IMGT's D marks a second copy of a gene, whose residues are the same.
    """
    found = next(filter(None, (gene.search(call.upper()) for gene in _GENES)), None)
    return re.sub(r"(?<=\d)D$", "", found[0]) if found else ""


def cdr3_of(heavy: str, cdr3: str | None, region_mask: str | None) -> tuple[str, str]:
    """CDRH3 without its anchors, and the column that it is from; both empty where neither column has it."""
    text = (cdr3 or "").strip().upper()
    place = heavy.rfind(text) if text else -1  # nucleotides are in no chain
    if place >= 0:
        # With its anchors, as 10x writes it, and the AIRR junction.
        anchored = heavy[place - 1 : place] != "C" and text[0] == "C" and text[-1] in "WF"
        text = text[1:-1] if anchored else text
        if text:
            return text, "cdr3"
    if region_mask and len(region_mask) == len(heavy) and "6" in region_mask:
        return heavy[region_mask.index("6") : region_mask.rindex("6") + 1], "region_mask"
    return "", ""


def align_cdr3(chain: str) -> str:
    """CDRH3 of a chain of which no column knows it, empty where there is no heavy domain."""
    domain = next((one for one in find_domains(chain) if one.chain == "H"), None)
    return chain[domain.cdr3] if domain else ""


def find_cdr3(heavy: str | None, cdr3: str | None, region_mask: str | None) -> tuple[str, str]:
    """CDRH3 by its columns, else by alignment, and a word for that; empty where nothing gives it."""
    if not heavy:
        return "", "no_heavy_chain"
    text, source = cdr3_of(heavy, cdr3, region_mask)
    if not source:
        text = align_cdr3(heavy)
        source = "alignment" if text else "without_cdr3"
    return text, source


def before_cdr3(chains: Sequence[str], cdr3s: Sequence[str]) -> Residues:
    """The residues before each CDR3, the last of them in the last column; 0 where the chain has no more."""
    known = zip(chains, cdr3s, strict=True)
    return _matrix(chain[: chain.rfind(cdr3)] if cdr3 else "" for chain, cdr3 in known)


def _matrix(texts: Iterable[str]) -> Residues:
    ends = (text[-NUM_BEFORE:].rjust(NUM_BEFORE, "\0") for text in texts)
    return np.frombuffer("".join(ends).encode("ascii", "replace"), np.uint8).reshape(-1, NUM_BEFORE)


def are_alike(some: Residues, others: Residues, share: float) -> npt.NDArray[np.bool_]:
    """True for two chains with this share of equal residues before their CDR3s, or with too few there."""
    known = np.count_nonzero((some != 0) & (others != 0), axis=1)
    equal = np.count_nonzero((some == others) & (some != 0), axis=1)
    return np.asarray((known < FEWEST_BEFORE) | (equal >= share * known))


def _residues(letters: str) -> str:
    bare = _GAPS.sub("", letters).upper()
    if not _NUCLEOTIDES.fullmatch(bare):
        return bare
    read = read_nucleotides(pa.array([bare]), gapped=pa.array([letters]), cdr3=None, contig=False)
    return str(read[0].as_py() or "")


def v_domains(path: Path) -> Iterator[tuple[str, str, Domain]]:
    """Gene, residues with a framework 4, and their domain, of each V gene of a FASTA file, heavy or light.

    Other segments and pseudogenes are passed over.
    """
    try:
        for _, name, letters in fasta_records(str(path)):
            residues = _residues(letters)
            gene = gene_of(name)
            if "*" in residues or len(residues) < FEWEST_BEFORE or not gene:
                continue
            chain = residues + _REST
            domain = next(iter(find_domains(chain)), None)
            if domain is not None and chain[domain.cdr3.start - 1] == "C":
                yield gene, chain, domain
    except (OSError, MalformedSource) as error:
        raise OptionError(f"v_genes must be a FASTA file that can be read; {error}", "v_genes") from error


@cache
def read_v_genes(path: Path) -> VGenes:
    """Germline V genes of heavy chains from a FASTA of residues or nucleotides, with IMGT's gaps or without.

    Of genes and alleles with the same residues the first name stands for all. Light chains, other segments
    and pseudogenes are passed over.
    """
    named: dict[str, str] = {}
    for gene, chain, domain in v_domains(path):
        if domain.chain == "H":
            before = chain[domain.start : domain.cdr3.start]
            named[before] = min(gene, named.get(before, gene))
    if not named:
        raise OptionError(
            "v_genes must be a FASTA of germline V genes of heavy chains, as residues or nucleotides; "
            f"{path} has none that can be recognised",
            "v_genes",
        )
    ordered = sorted((gene, before) for before, gene in named.items())
    return VGenes(tuple(gene for gene, _ in ordered), _matrix(before for _, before in ordered))


def nearest_genes(before: Residues, genes: VGenes) -> list[str | None]:
    """The gene of which each chain keeps most residues before its CDR3; the first name where several tie."""
    lengths = np.count_nonzero(before, axis=1)
    best, shares = np.full(len(before), -1), np.full(len(before), _LEAST_LIKE)
    for number, gene in enumerate(genes.before):
        known = gene != 0
        equal = np.count_nonzero(before[:, known] == gene[known], axis=1)
        share = equal / np.maximum(1, np.minimum(lengths, np.count_nonzero(known)))
        better = (share > shares) & (lengths >= FEWEST_BEFORE)
        best[better], shares[better] = number, share[better]
    return [genes.names[number] if number >= 0 else None for number in best.tolist()]


def fill_genes(rows: pa.Table, genes: VGenes) -> tuple[pa.Table, int]:
    """The rows with a V gene for each heavy chain that has none, and its CDR3; and the number of these."""
    names = ("heavy", "region_mask_heavy", "v_call_heavy", "cdr3_heavy")
    chains, masks, calls, texts = (rows[name].to_pylist() for name in names)
    wanted: dict[int, tuple[str, str]] = {}
    for row, (heavy, call) in enumerate(zip(chains, calls, strict=True)):
        if heavy and not call:
            text, source = find_cdr3(heavy, texts[row], masks[row])
            wanted[row] = heavy, text
            texts[row] = text if source == "alignment" else texts[row]
    if not wanted:
        return rows, 0
    found = nearest_genes(before_cdr3(*zip(*wanted.values(), strict=True)), genes)
    for row, gene in zip(wanted, found, strict=True):
        calls[row] = gene
    for name, values in (("v_call_heavy", calls), ("cdr3_heavy", texts)):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, pa.string()))
    return rows, sum(gene is not None for gene in found)
