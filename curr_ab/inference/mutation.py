"""Effects of mutations: of every single one, and of given mutants by log-odds or by whole sequences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch

from curr_ab.inference.heat_maps import Saturation, Site
from curr_ab.inference.marginals import Marginals, require_masked
from curr_ab.inference.records import Record
from curr_ab.inference.scoring import score_window
from curr_ab.inference.settings import By
from curr_ab.inference.tokens import TokenRecord, residues_of, tokenize_one
from curr_ab.options import OptionError
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import CHAINS, STANDARD_RESIDUES

_MUTATION = re.compile(
    rf"(?P<chain>[HL]):(?P<wild_type>[A-Z])(?P<position>\d+)"
    rf"(?:(?P<mutant>[{STANDARD_RESIDUES}])|(?P<deleted>del)|ins(?P<inserted>[{STANDARD_RESIDUES}]+))"
)


def saturate_one(marginals: Marginals, record: Record, part: str) -> Saturation:
    """The log-odds at every known residue of a part of one record."""
    require_masked(marginals.model, "mutate")
    tokens = tokenize_one(marginals.tokenizer, record)
    sites = _sites(marginals.tokenizer, tokens)
    wanted = [
        index for index in residues_of(part, tokens).tolist() if sites[index].wild_type in STANDARD_RESIDUES
    ]
    chosen = [sites[index] for index in wanted]
    log_probabilities = marginals.of([tokens._replace(positions=tokens.positions[wanted])])[0]
    standard = log_probabilities[:, marginals.tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES))]
    own = torch.tensor([STANDARD_RESIDUES.index(site.wild_type) for site in chosen], dtype=torch.long)
    return Saturation(record, chosen, standard - standard.gather(1, own[:, None]))


def _sites(tokenizer: CurrAbTokenizer, tokens: TokenRecord) -> list[Site]:
    letters = tokenizer.convert_ids_to_tokens(tokens.input_ids[tokens.positions].tolist())
    return [Site(*tokens.site(index), letter) for index, letter in enumerate(letters)]


def score_mutants_of(marginals: Marginals, record: Record, mutants: Sequence[str], by: By) -> list[float]:
    """The effect of each mutant on one record."""
    require_masked(marginals.model, "mutate")
    if by not in ("marginals", "sequence"):
        raise ValueError(f"by must be 'marginals' or 'sequence'; got {by!r}")
    parsed = [parse_mutant(text) for text in mutants]
    for mutations in parsed:
        check_wild_type(record, mutations)
    if by == "sequence":
        changed = [record, *(apply_mutant(record, mutations) for mutations in parsed)]
        wild_type, *scores = [score.pll() for score in score_window(marginals, changed, alone=False)]
        return [score - wild_type for score in scores]
    indels = [one.text for mutations in parsed for one in mutations if not one.is_substitution]
    if indels:
        raise OptionError(f"by must be sequence for {indels[0]}, which changes the length; got {by}", "by")
    # Only the positions that some mutant changes are computed.
    changed_sites = {(one.chain, one.position) for mutations in parsed for one in mutations}
    require_masked(marginals.model, "mutate")
    tokens = tokenize_one(marginals.tokenizer, record)
    sites = _sites(marginals.tokenizer, tokens)
    wanted = [index for index, site in enumerate(sites) if site[:2] in changed_sites]
    rows = marginals.of([tokens._replace(positions=tokens.positions[wanted])])[0]
    log_probabilities = {sites[index][:2]: row for index, row in zip(wanted, rows, strict=True)}
    id_of = marginals.tokenizer.convert_tokens_to_ids

    def log_odds(mutation: Mutation) -> float:
        row = log_probabilities[mutation.chain, mutation.position]
        return float(row[id_of(mutation.replacement)] - row[id_of(mutation.wild_type)])

    return [sum(map(log_odds, mutations)) for mutations in parsed]


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
                f"a mutation must be written as H:Y32A, H:Y32del or H:Y32insAG, several joined by ';'; got "
                f"{part.strip()!r}"
            )
        wild_type, deleted, inserted = match["wild_type"], match["deleted"], match["inserted"]
        replacement = "" if deleted else wild_type + inserted if inserted else match["mutant"]
        chain = "heavy" if match["chain"] == "H" else "light"
        mutations.append(Mutation(part.strip(), chain, wild_type, int(match["position"]), replacement))
    positions = [(one.chain, one.position) for one in mutations]
    if len(set(positions)) < len(positions):
        raise ValueError(f"a mutant must change each position once; got {text!r}")
    return tuple(mutations)


def check_wild_type(record: Record, mutations: tuple[Mutation, ...]) -> None:
    """The residues that a mutant replaces must be those that stand there."""
    for one in mutations:
        chain = record.chain(one.chain) or ""
        if not 1 <= one.position <= len(chain):
            raise ValueError(
                f"{one.text}: the position must be from 1 to {len(chain)}, the end of the {one.chain} chain "
                f"of {record.name}; got {one.position}"
            )
        if (residue := chain[one.position - 1]) != one.wild_type:
            raise ValueError(
                f"{one.text}: position {one.position} of the {one.chain} chain of {record.name} is "
                f"{residue}, not {one.wild_type}"
            )


def apply_mutant(record: Record, mutations: tuple[Mutation, ...]) -> Record:
    """The mutated pair, without regions: an insertion would move them."""
    check_wild_type(record, mutations)
    chains = {name: list(record.chain(name) or "") for name in CHAINS}
    for one in mutations:
        chains[one.chain][one.position - 1] = one.replacement
    mutated = record.with_chains({name: "".join(residues) or None for name, residues in chains.items()})
    return mutated._replace(region_mask_heavy=None, region_mask_light=None)
