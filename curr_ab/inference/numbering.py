"""Positions and regions of chains in a numbering scheme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from curr_ab.domains import (
    CHAIN_OF,
    Scheme,
    find_domains,
    in_scheme,
    missing_after,
    missing_before,
    number_of,
    t_cell_receptor,
)


class Numbering(NamedTuple):
    """Positions of a chain, one for each residue: "32", "111A", or "" outside the variable domain."""

    labels: tuple[str, ...]
    chain_type: str  # H, K or L
    region_mask: str  # 1-7 for FWR1 ... FWR4; residues outside belong to the framework next to them

    def missing_ends(self) -> tuple[int, int]:
        """The numbers of residues that are missing before the first and after the last one; IMGT alone."""
        numbers = [number_of(label) for label in self.labels if label]
        before = missing_before(numbers[0], self.chain_type)
        return before, missing_after(numbers[-1], self.chain_type)


def number_chain(sequence: str, chain: str | None = None, scheme: Scheme = "imgt") -> Numbering:
    """The numbering of a sequence with one variable domain, or with one of the kind of the chain."""
    domains = find_domains(sequence)
    own = [one for one in domains if chain is None or CHAIN_OF[one.chain] == chain]
    if len(own) != 1:
        kinds = ", ".join(CHAIN_OF[one.chain] for one in domains)
        found = f"those of the chains {kinds}" if kinds else "none"
        if not domains and (receptor := t_cell_receptor(sequence)):
            found = f"that of a T-cell receptor (TR{receptor})"
        kind = f"an antibody's {chain} chain" if chain else "an antibody's chain"
        raise ValueError(
            f"{sequence[:20]}... must hold one variable domain of {kind} to be numbered; got {found}; "
            "leave this record out"
        )
    domain = in_scheme(own[0], sequence, scheme)
    before, after = domain.start, len(sequence) - domain.end
    labels = (*[""] * before, *domain.labels, *[""] * after)
    mask = "1" * before + domain.region_mask + "7" * after
    return Numbering(labels, domain.chain, mask)


def number_chains(chains: Sequence[str], scheme: Scheme = "imgt") -> list[Numbering]:
    """The numbering of each sequence."""
    return [number_chain(sequence, None, scheme) for sequence in chains]
