"""Pseudo-log-likelihood and pseudo-perplexity of pairs, of regions, of chains with and without the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from curr_ab.inference.marginals import WINDOW, Marginals
from curr_ab.inference.records import Record, TokenRecord, records_of, residues_of, tokenize, windows
from curr_ab.modeling import CurrAbForCausalLM, CurrAbForMaskedLM
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import CHAINS, STANDARD_RESIDUES, Mode


class Score(NamedTuple):
    """Log-probabilities of a pair's own residues; NaN where the residue is unknown (X and other letters)."""

    tokens: TokenRecord
    log_probabilities: Tensor  # [R], each given the rest of the pair
    alone: dict[str, Tensor]  # by chain, each given the rest of its chain only

    @property
    def id(self) -> str:
        return self.tokens.record.id

    def residues(self, part: str = "pair") -> Tensor:
        """Log-probabilities of a part (`pair`, `heavy`, `CDRH3`, ...), in the context of the pair."""
        return self.log_probabilities[residues_of(part, self.tokens)]

    def pll(self, part: str = "pair") -> float:
        """Pseudo-log-likelihood: the sum over the known residues of the part."""
        return float(self.residues(part).double().nansum())

    def perplexity(self, part: str = "pair") -> float:
        """Pseudo-perplexity: exp of minus the mean; NaN where nothing is known."""
        return perplexity(self.residues(part))


def perplexity(log_probabilities: Tensor) -> float:
    """exp of minus the mean of the values that are not NaN."""
    return math.exp(-mean) if not math.isnan(mean := float(log_probabilities.double().nanmean())) else mean


def score(
    model: CurrAbForMaskedLM | CurrAbForCausalLM,
    tokenizer: CurrAbTokenizer,
    pairs: Any,
    *,
    mode: Mode = "exact",
    alone: bool = False,
    **options: Any,
) -> Iterator[Score]:
    """The score of each pair, in input order and constant memory; `alone` adds each chain by itself.

    `mode` and the other options are those of `Marginals`. Probabilities are over the whole vocabulary. With a
    causal model each residue is given what precedes it, and the sum of a pair is its log-likelihood, without
    the tokens that end chains.
    """
    marginals = Marginals(model, tokenizer, mode, **options)
    for window in windows(records_of(pairs), WINDOW[mode]):
        yield from score_window(marginals, window, alone=alone)


def score_window(marginals: Marginals, window: Sequence[Record], *, alone: bool) -> list[Score]:
    """The scores of records that are batched together."""
    tokens = tokenize(marginals.tokenizer, window)
    single_chains = [
        (number, chain, record.with_chains({other: None for other in CHAINS if other != chain}))
        for number, record in enumerate(window)
        for chain in CHAINS
        if alone and record.chain(chain) is not None
    ]
    everything = [*tokens, *tokenize(marginals.tokenizer, [record for _, _, record in single_chains])]
    standard = torch.tensor(marginals.tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES)))
    own = [
        own_residues(one, rows, standard)
        for one, rows in zip(everything, marginals.of(everything), strict=True)
    ]
    by_record: list[dict[str, Tensor]] = [{} for _ in window]
    for (number, chain, _), values in zip(single_chains, own[len(tokens) :], strict=True):
        by_record[number][chain] = values
    return [Score(*parts) for parts in zip(tokens, own[: len(tokens)], by_record, strict=True)]


def own_residues(tokens: TokenRecord, log_probabilities: Tensor, standard: Tensor) -> Tensor:
    """The log-probability of each residue's own letter [R]; NaN for letters of several residues."""
    observed = tokens.input_ids[tokens.positions]
    own = log_probabilities.gather(1, observed[:, None])[:, 0]
    return own.masked_fill(~torch.isin(observed, standard), torch.nan)
