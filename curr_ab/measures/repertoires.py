"""Chains of many antibodies as arrays: residues by IMGT position, their loci, genes, CDR3s and identities.

Genes are called from residues, for real and generated chains in the same way: errors of the call are then in
all that is compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from curr_ab.domains import CHAIN_OF, Domain, find_domains, missing_after, missing_before
from curr_ab.measures.metrics import Flags, Floats, Labels
from curr_ab.words import REGIONS, STANDARD_RESIDUES

Residues = npt.NDArray[np.uint8]

_INSERTIONS = "ABCDEFGH"
# IMGT's positions, with the insertions of CDR3, which lie in its middle: 111, 111A ... 112A, 112.
POSITIONS = (
    *map(str, range(1, 112)),
    *(f"111{letter}" for letter in _INSERTIONS),
    *(f"112{letter}" for letter in reversed(_INSERTIONS)),
    *map(str, range(112, 129)),
)
_COLUMN = {label: column for column, label in enumerate(POSITIONS)}
_CODE = {letter: code for code, letter in enumerate(STANDARD_RESIDUES, start=1)}  # 0: nothing stands there
_CONSERVED = {"23": "C", "41": "W", "104": "C"}
V_REGION = slice(0, _COLUMN["104"] + 1)
J_REGION = slice(_COLUMN["113"], len(POSITIONS))
_REGION_ENDS = (26, 38, 55, 65, 104, 117, 128)
REGION_COLUMNS = {
    region: slice(_COLUMN[str(first + 1)] if first else 0, _COLUMN[str(last)] + 1)
    for region, first, last in zip(REGIONS, (0, *_REGION_ENDS), _REGION_ENDS, strict=False)
}
WHOLE = slice(0, len(POSITIONS))
_CHAINS_AT_ONCE = 4_096
_FAMILY = re.compile(r"IG[HKL]V\d+")


@dataclass(frozen=True, eq=False)
class Chains:
    """Heavy or light chains, in order; one that could not be numbered has no residues, locus or CDR3."""

    texts: tuple[str, ...]
    residues: Residues  # [chains, positions]
    loci: Labels  # of letters H, K, L, or "" where there is no single domain of the right kind
    complete: Flags  # no residue is missing at the ends of the domain
    cdr3s: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def numbered(self) -> Flags:
        return np.asarray(self.loci != "")

    @property
    def conserved(self) -> Flags:
        """True for chains with both cysteines and the tryptophan of every variable domain."""
        at = [_COLUMN[label] for label in _CONSERVED]
        return np.asarray((self.residues[:, at] == [_CODE[one] for one in _CONSERVED.values()]).all(axis=1))

    @cached_property
    def lengths(self) -> Floats:
        return np.array([len(text) for text in self.texts], np.float64)

    @cached_property
    def cdr3_lengths(self) -> Labels:
        return np.array([len(text) for text in self.cdr3s], np.int64)

    def take(self, rows: Iterable[int]) -> Chains:
        """These chains, in this order."""
        chosen = np.fromiter(rows, np.int64)
        return Chains(
            tuple(self.texts[row] for row in chosen),
            self.residues[chosen],
            self.loci[chosen],
            self.complete[chosen],
            tuple(self.cdr3s[row] for row in chosen),
        )


def read_chains(texts: Sequence[str | None], kind: str) -> Chains:
    """Chains of one kind, heavy or light, numbered by alignment."""
    residues = np.zeros((len(texts), len(POSITIONS)), np.uint8)
    loci, cdr3s = np.full(len(texts), "", "<U1"), [""] * len(texts)
    complete = np.zeros(len(texts), bool)
    for row, text in enumerate(texts):
        domains = find_domains(text) if text else []
        if len(domains) != 1 or CHAIN_OF[domains[0].chain] != kind or text is None:
            continue
        [domain] = domains
        loci[row], cdr3s[row], complete[row] = domain.chain, text[domain.cdr3], _is_complete(domain)
        for label, letter in zip(domain.labels, text[domain.start : domain.end], strict=True):
            if label in _COLUMN:  # insertions elsewhere are rare, and have no place in common
                residues[row, _COLUMN[label]] = _CODE.get(letter, 0)
    return Chains(tuple(text or "" for text in texts), residues, loci, complete, tuple(cdr3s))


def _is_complete(domain: Domain) -> bool:
    first, last = (int(re.sub(r"\D", "", domain.labels[place])) for place in (0, -1))
    return not (missing_before(first, domain.chain) or missing_after(last, domain.chain))


def identities(first: Residues, second: Residues) -> Floats:
    """Share of the positions held by either chain that both hold alike, row by row; NaN where none is."""
    held = (first > 0) | (second > 0)
    alike = (first == second) & held
    with np.errstate(invalid="ignore"):
        shares: Floats = alike.sum(axis=-1) / held.sum(axis=-1)
    return shares


def all_identities(first: Residues, second: Residues) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """The identities of all chains with all others, a block of `second` at a time, with its first row."""
    ours, ours_held = _one_hot(first), (first > 0).astype(np.float32)
    for begin in range(0, len(second), _CHAINS_AT_ONCE):
        block = second[begin : begin + _CHAINS_AT_ONCE]
        held = (block > 0).astype(np.float32)
        alike = ours @ _one_hot(block).T
        either = ours_held.sum(axis=1)[:, None] + held.sum(axis=1) - ours_held @ held.T
        yield begin, alike / np.maximum(either, 1)


def _one_hot(residues: Residues) -> npt.NDArray[np.float32]:
    codes = np.arange(1, len(_CODE) + 1, dtype=np.uint8)
    flags = residues[:, :, None] == codes
    return np.asarray(flags.reshape(len(residues), -1), np.float32)


def nearest(first: Residues, second: Residues) -> tuple[Labels, Floats]:
    """The nearest of `second` for each of `first`, and its identity."""
    rows = np.zeros(len(first), np.int64)
    best = np.full(len(first), -1.0)
    for begin, block in all_identities(first, second):
        found = block.argmax(axis=1)
        values = block[np.arange(len(first)), found]
        better = values > best
        rows[better], best[better] = begin + found[better], values[better]
    return rows, best


@dataclass(frozen=True)
class Genes:
    """Genes by name, and the usual residues of the chains that a reference says are theirs."""

    names: tuple[str, ...]
    usual: Residues  # [genes, positions]
    columns: slice  # the positions that tell them apart

    def call(self, chains: Chains) -> tuple[Labels, Floats]:
        """The number of each chain's gene, -1 where it is not numbered; and its identity to the gene."""
        rows, shares = nearest(chains.residues[:, self.columns], self.usual[:, self.columns])
        return np.where(chains.numbered, rows, -1), np.where(chains.numbered, shares, np.nan)

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The family of each gene, such as IGHV3."""
        found = (_FAMILY.match(name) for name in self.names)
        return tuple(match[0] if match else name for match, name in zip(found, self.names, strict=True))


def learn_genes(chains: Chains, calls: Sequence[str | None], columns: slice) -> Genes | None:
    """Genes of a reference whose records name them; None where none does.

    The usual residue at a position is the commonest one: mutations differ from chain to chain, so that with
    some chains it is the germline's.
    """
    named = np.array([call or "" for call in calls])
    names = sorted({*named[chains.numbered]} - {""})
    if not names:
        return None
    usual = np.zeros((len(names), len(POSITIONS)), np.uint8)
    for row, name in enumerate(names):
        own = chains.residues[(named == name) & chains.numbered]
        counts = (own[:, :, None] == np.arange(len(_CODE) + 1)).sum(axis=0)
        usual[row] = counts.argmax(axis=1)
    return Genes(tuple(names), usual, columns)
