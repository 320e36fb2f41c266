"""Effects of mutations: of every single one, and of given mutants by log-odds or by whole sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from curr_ab.inference.marginals import Marginals, Mode
from curr_ab.inference.mutants import apply_mutant, check_wild_type, parse_mutant
from curr_ab.inference.records import STANDARD_RESIDUES, Record, TokenRecord, records_of, tokenize
from curr_ab.inference.regions import residues_of
from curr_ab.inference.scoring import score_window
from curr_ab.modeling import CurrAbForMaskedLM
from curr_ab.tokenization import CurrAbTokenizer

By = Literal["marginals", "sequence"]


class Site(NamedTuple):
    """One residue of a pair."""

    chain: str
    position: int  # from 1
    wild_type: str


class Saturation(NamedTuple):
    """The log-odds of all single mutants of a pair against its own residues."""

    record: Record
    sites: list[Site]
    log_odds: Tensor  # [sites, 20] in the order of STANDARD_RESIDUES; 0 at the wild type

    def rows(self) -> Iterator[tuple[Site, str, float]]:
        """Site, mutant and log-odds of every single mutant."""
        for site, values in zip(self.sites, self.log_odds.tolist(), strict=True):
            for mutant, value in zip(STANDARD_RESIDUES, values, strict=True):
                if mutant != site.wild_type:
                    yield site, mutant, value


def saturate(
    model: CurrAbForMaskedLM,
    tokenizer: CurrAbTokenizer,
    pairs: Any,
    *,
    mode: Mode = "exact",
    part: str = "pair",
    **options: Any,
) -> Iterator[Saturation]:
    """log p(mutant) - log p(wild type) at every known residue of a part, in the context of the pair.

    With `mode="exact"` these are masked marginals, with `mode="unmasked"` wild-type marginals, one pass for
    all. The other options are those of `Marginals`.
    """
    marginals = Marginals(model, tokenizer, mode, **options)
    for record in records_of(pairs):
        yield saturate_one(marginals, record, part)


def saturate_one(marginals: Marginals, record: Record, part: str) -> Saturation:
    """The same for one record."""
    tokens = tokenize(marginals.tokenizer, [record])[0]
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
    return [
        Site("heavy", index + 1, letter)
        if index < tokens.num_heavy
        else Site("light", index + 1 - tokens.num_heavy, letter)
        for index, letter in enumerate(letters)
    ]


def score_mutants(
    model: CurrAbForMaskedLM,
    tokenizer: CurrAbTokenizer,
    pair: Any,
    mutants: Sequence[str],
    *,
    by: By = "marginals",
    mode: Mode = "exact",
    **options: Any,
) -> list[float]:
    """The effect of each mutant, such as `H:Y32A;L:S50T`, on one pair; higher is more natural.

    `by="marginals"` adds the log-odds of the substitutions, each in the context of the wild type.
    `by="sequence"` is the pseudo-log-likelihood of the mutant minus that of the wild type, which sees how
    mutations act together, and which insertions and deletions need.
    """
    record = next(records_of([pair]))
    return score_mutants_of(Marginals(model, tokenizer, mode, **options), record, mutants, by)


def score_mutants_of(marginals: Marginals, record: Record, mutants: Sequence[str], by: By) -> list[float]:
    """The same for a record."""
    if by not in ("marginals", "sequence"):
        raise ValueError(f"mutants are scored by 'marginals' or 'sequence', not {by!r}")
    parsed = [parse_mutant(text) for text in mutants]
    for mutations in parsed:
        check_wild_type(record, mutations)
    if by == "sequence":
        changed = [record, *(apply_mutant(record, mutations) for mutations in parsed)]
        wild_type, *scores = [score.pll() for score in score_window(marginals, changed, alone=False)]
        return [score - wild_type for score in scores]
    indels = [one.text for mutations in parsed for one in mutations if not one.is_substitution]
    if indels:
        raise ValueError(
            f"{indels[0]} changes the length: score by whole sequences (by='sequence', --by sequence)"
        )
    # Only the positions that some mutant changes are computed.
    changed_sites = {(one.chain, one.position) for mutations in parsed for one in mutations}
    tokens = tokenize(marginals.tokenizer, [record])[0]
    sites = _sites(marginals.tokenizer, tokens)
    wanted = [index for index, site in enumerate(sites) if site[:2] in changed_sites]
    found = marginals.of([tokens._replace(positions=tokens.positions[wanted])])[0]
    log_probabilities = {sites[index][:2]: row for index, row in zip(wanted, found, strict=True)}
    ids = {
        letter: marginals.tokenizer.convert_tokens_to_ids(letter) for letter in STANDARD_RESIDUES + "XBZUO"
    }
    return [
        sum(
            float(row[ids[one.replacement]] - row[ids[one.wild_type]])
            for one in mutations
            for row in [log_probabilities[one.chain, one.position]]
        )
        for mutations in parsed
    ]
