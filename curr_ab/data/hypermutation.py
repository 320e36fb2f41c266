"""Somatic hypermutation of a nucleotide sequence, targeted at the hot spots of the mutating enzymes."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.uint8]
_BASES = "TCAG"
# The standard genetic code in the order T, C, A, G of each of its three positions.
_CODE = np.frombuffer(b"FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG", np.uint8)
_NUMBER = np.zeros(256, np.int64)
_NUMBER[np.frombuffer(_BASES.encode(), np.uint8)] = np.arange(4)
_STOP = ord("*")

# Motifs of AID (WRC, GYW) and of polymerase eta (WA, TW), and AID's cold spots (SYC, GRS), with the place of
# the mutated base in each. Relative rates are rounded from Yaari et al. 2013 (doi:10.3389/fimmu.2013.00358).
_MOTIFS = (
    (re.compile(rb"(?=[AT][AG]C)"), 2, 5.0),
    (re.compile(rb"(?=G[CT][AT])"), 0, 5.0),
    (re.compile(rb"(?=[AT]A)"), 1, 3.0),
    (re.compile(rb"(?=T[AT])"), 0, 2.0),
    (re.compile(rb"(?=[CG][CT]C)"), 2, 0.3),
    (re.compile(rb"(?=G[AG][CG])"), 0, 0.3),
)
_TRANSITION = {ord(a): ord(b) for a, b in ("AG", "GA", "CT", "TC")}
_TRANSVERSIONS = {
    ord(base): [ord(other) for other in others]
    for base, others in zip("AGCT", ("CT",) * 2 + ("AG",) * 2, strict=True)
}
_TRANSITION_SHARE = 0.6


def translate(nucleotides: _Array) -> str:
    """Residues of the whole codons, from the first base."""
    codons = _NUMBER[nucleotides[: len(nucleotides) // 3 * 3]].reshape(-1, 3) @ np.array([16, 4, 1])
    residues: str = _CODE[codons].tobytes().decode()
    return residues


def _targets(nucleotides: _Array) -> npt.NDArray[np.float64]:
    weights = np.ones(len(nucleotides))
    text = nucleotides.tobytes()
    for motif, place, weight in _MOTIFS:
        weights[[match.start() + place for match in motif.finditer(text)]] = weight
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def mutate(nucleotides: _Array, rate: float, anchors: tuple[int, int], random: np.random.Generator) -> _Array:
    """A copy with about `rate` substitutions per base; no stop codon arises and the anchor residues stay."""
    mutated = nucleotides.copy()
    wanted = min(int(random.poisson(rate * len(nucleotides))), len(nucleotides) // 2)
    if wanted == 0:
        return mutated
    for site in random.choice(len(nucleotides), wanted, replace=False, p=_targets(nucleotides)):
        base = int(mutated[site])
        if random.random() < _TRANSITION_SHARE:
            mutated[site] = _TRANSITION[base]
        else:
            mutated[site] = _TRANSVERSIONS[base][int(random.integers(2))]
        codon = site // 3
        if codon in anchors or translate(mutated[3 * codon : 3 * codon + 3]) == "*":
            mutated[site] = base
    return mutated
