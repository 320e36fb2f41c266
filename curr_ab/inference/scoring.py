"""Pseudo-log-likelihood and pseudo-perplexity of pairs, of regions, of chains with and without the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from curr_ab.inference.marginals import Marginals
from curr_ab.inference.records import Record
from curr_ab.inference.residue_charts import residue_chart
from curr_ab.inference.tokens import TokenRecord, residues_of, tokenize
from curr_ab.pictures import Picture
from curr_ab.words import CHAINS, STANDARD_RESIDUES


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

    def plot(self) -> Picture:
        """The picture of how surprised the model is at each residue."""
        values = {chain: self.log_probabilities[self.tokens.residues(chain)].tolist() for chain in CHAINS}
        return residue_chart(self.tokens.record, values, self.perplexity())

    def __repr__(self) -> str:
        values = f"log-likelihood {self.pll():.2f}, perplexity {self.perplexity():.3f}"
        for chain, own in self.alone.items():
            values += f", {chain} chain alone {perplexity(own):.3f}"
        return f"Score(id={self.id!r}, {self.tokens.lengths}: {values})"


def perplexity(log_probabilities: Tensor) -> float:
    """exp of minus the mean of the values that are not NaN."""
    return math.exp(-mean) if not math.isnan(mean := float(log_probabilities.double().nanmean())) else mean


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
