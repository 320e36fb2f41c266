"""Mutations as text: `H:Y32A` a substitution, `L:S50del` a deletion, `H:G54insAG` an insertion behind G54."""

from __future__ import annotations

import re
from typing import NamedTuple

from curr_ab.inference.records import CHAINS, STANDARD_RESIDUES, Record

_MUTATION = re.compile(
    rf"(?P<chain>[HL]):(?P<wild_type>[A-Z])(?P<position>\d+)"
    rf"(?:(?P<mutant>[{STANDARD_RESIDUES}])|(?P<deleted>del)|ins(?P<inserted>[{STANDARD_RESIDUES}]+))"
)


class Mutation(NamedTuple):
    """One change; positions count the residues of the chain from 1."""

    text: str
    chain: str
    wild_type: str
    position: int
    replacement: str  # what stands at the position afterwards: one residue, none, or several

    @property
    def is_substitution(self) -> bool:
        return len(self.replacement) == 1


def parse_mutant(text: str) -> tuple[Mutation, ...]:
    """The mutations of a mutant such as `H:Y32A;L:S50T`."""
    mutations = []
    for part in text.split(";"):
        match = _MUTATION.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                f"{part.strip()!r} is no mutation: write H:Y32A, H:Y32del or H:Y32insAG, joined by ';'"
            )
        wild_type, deleted, inserted = match["wild_type"], match["deleted"], match["inserted"]
        replacement = "" if deleted else wild_type + inserted if inserted else match["mutant"]
        chain = "heavy" if match["chain"] == "H" else "light"
        mutations.append(Mutation(part.strip(), chain, wild_type, int(match["position"]), replacement))
    places = [(one.chain, one.position) for one in mutations]
    if len(set(places)) < len(places):
        raise ValueError(f"{text!r} changes the same position twice")
    return tuple(mutations)


def check_wild_type(record: Record, mutations: tuple[Mutation, ...]) -> None:
    """The residues that a mutant replaces must be those that stand there."""
    for one in mutations:
        chain = record.chain(one.chain) or ""
        if not 1 <= one.position <= len(chain):
            raise ValueError(
                f"{one.text}: the {one.chain} chain of {record.name} has {len(chain)} residues, "
                f"no position {one.position}"
            )
        if (found := chain[one.position - 1]) != one.wild_type:
            raise ValueError(
                f"{one.text}: position {one.position} of the {one.chain} chain of {record.name} is {found}, "
                f"not {one.wild_type}"
            )


def apply_mutant(record: Record, mutations: tuple[Mutation, ...]) -> Record:
    """The mutated pair, without regions: an insertion would move them."""
    check_wild_type(record, mutations)
    chains = {name: list(record.chain(name) or "") for name in CHAINS}
    for one in mutations:
        chains[one.chain][one.position - 1] = one.replacement
    mutated = record.with_chains({name: "".join(residues) or None for name, residues in chains.items()})
    return mutated._replace(region_mask_heavy=None, region_mask_light=None)
