"""Unknown residues filled in: all at once, the surest first, or sampled."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from curr_ab.inference.marginals import Marginals, require_masked
from curr_ab.inference.records import Record
from curr_ab.inference.settings import RestorationPlan
from curr_ab.inference.tokens import TokenRecord, tokenize
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import CHAINS, STANDARD_RESIDUES

_SHOWN = 10  # residues in a line
_UNKNOWN = re.compile("<mask>|[X*_]", re.IGNORECASE)


class Filled(NamedTuple):
    """One residue that was filled in, and the alternatives when it was chosen."""

    chain: str
    position: int  # from 1
    residue: str
    top: tuple[tuple[str, float], ...]  # residues with their probabilities among those allowed, best first


class Restoration(NamedTuple):
    """One completed pair."""

    record: Record  # as it is now
    variant: int  # from 1
    filled: tuple[Filled, ...]  # in the order of the chains

    def __repr__(self) -> str:
        shown = [f"{one.chain[0].upper()}:{one.position}{one.residue}" for one in self.filled]
        names = " ".join(shown if len(shown) <= _SHOWN else [*shown[:_SHOWN], "..."])
        count = f"{len(shown)} residues filled in" + (f": {names}" if shown else "")
        return f"Restoration(id={self.record.id!r}, variant {self.variant}, {count})"


def mask_unknown(record: Record) -> Record:
    """The record with `X`, `*` and `_` as `<mask>`."""
    texts = {
        chain: _UNKNOWN.sub("<mask>", text) if isinstance(text, str) else text
        for chain in CHAINS
        for text in [record.chain(chain)]
    }
    return record.with_chains(texts)


class _Draft:
    """A pair on its way: its tokens, the residues that are still unknown, and those that were chosen."""

    def __init__(self, tokens: TokenRecord, variant: int, plan: RestorationPlan, mask_id: int) -> None:
        self.tokens, self.variant, self.plan = tokens, variant, plan
        self.ids = tokens.input_ids.clone()
        self.open = (self.ids[tokens.positions] == mask_id).nonzero().flatten().tolist()  # among the residues
        self.filled: dict[int, Filled] = {}
        # A generator for each variant of each record: the batch that it shares and its place in the input
        # have no part in it, for the input may be cut into batches that know nothing of each other.
        digest = hashlib.sha256(f"{plan.seed} {variant} {tokens.record.id}".encode()).digest()
        self.random = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
        self.limits = {(chain, position): residues for chain, position, residues in plan.allowed_at}

    def fill(self, log_probabilities: Tensor, residue_ids: Tensor) -> None:
        """Fill what this pass decides, given log-probabilities [open, V]."""
        probabilities = torch.stack(
            [
                self._allowed(row, self.tokens.site(index))
                for row, index in zip(log_probabilities[:, residue_ids], self.open, strict=True)
            ]
        )  # [open, 20]
        if self.plan.method == "greedy":
            chosen = list(range(len(self.open)))
        elif self.plan.method == "confident":
            chosen = [int(probabilities.amax(1).argmax())]
        else:
            chosen = [int(torch.randint(len(self.open), (), generator=self.random))]
        for place in chosen:
            row = probabilities[place]
            if self.plan.method == "sample":
                letter = int(torch.multinomial(row, 1, generator=self.random))
            else:
                letter = int(row.argmax())
            index = self.open[place]
            best = row.topk(min(self.plan.top_k, int((row > 0).sum())))
            top = tuple(
                (STANDARD_RESIDUES[at], value)
                for value, at in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            )
            self.filled[index] = Filled(*self.tokens.site(index), STANDARD_RESIDUES[letter], top)
            self.ids[self.tokens.positions[index]] = residue_ids[letter]
        self.open = [index for place, index in enumerate(self.open) if place not in chosen]

    def _allowed(self, row: Tensor, site: tuple[str, int]) -> Tensor:
        allowed = self.limits.get(site, self.plan.allowed)
        barred = torch.tensor([letter not in allowed for letter in STANDARD_RESIDUES])
        temperature = self.plan.temperature if self.plan.method == "sample" else 1.0
        return (row.double() / temperature).masked_fill(barred, -torch.inf).softmax(0)

    def finished(self, tokenizer: CurrAbTokenizer) -> Restoration:
        letters = tokenizer.convert_ids_to_tokens(self.ids[self.tokens.positions].tolist())
        record = self.tokens.record
        texts = {
            chain: None if record.chain(chain) is None else "".join(letters[self.tokens.residues(chain)])
            for chain in CHAINS
        }
        filled = tuple(self.filled[index] for index in sorted(self.filled))
        return Restoration(record.with_chains(texts), self.variant, filled)


def restore_window(
    marginals: Marginals, window: Sequence[Record], plan: RestorationPlan
) -> list[Restoration]:
    """The completed pairs of records whose unknown residues are `<mask>`; all take their steps together."""
    require_masked(marginals.model, "restore")
    mask_id = marginals.model.config.mask_token_id
    tokenizer = marginals.tokenizer
    drafts = [
        _Draft(tokens, variant, plan, mask_id)
        for tokens in tokenize(tokenizer, window)
        for variant in range(1, plan.variants + 1)
    ]
    for draft in drafts:
        _check_sites(draft)
    residue_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES)))
    while waiting := [draft for draft in drafts if draft.open]:
        rows = marginals.read_off(
            [draft.ids for draft in waiting], [draft.tokens.positions[draft.open] for draft in waiting]
        )
        for draft, log_probabilities in zip(waiting, rows, strict=True):
            draft.fill(log_probabilities, residue_ids)
    return [draft.finished(tokenizer) for draft in drafts]


def _check_sites(draft: _Draft) -> None:
    sites = {draft.tokens.site(index) for index in draft.open}
    for chain, position in draft.limits:
        if (chain, position) not in sites:
            raise ValueError(
                f"{draft.tokens.record.name}: position {position} of the {chain} chain is not unknown, "
                "so its residues cannot be limited"
            )


def complete_ends(record: Record, missing: Mapping[str, tuple[int, int]]) -> Record:
    """The record with as many unknown residues before and after each chain as it lacks there."""
    texts = {
        chain: "<mask>" * before + text + "<mask>" * after
        for chain, (before, after) in missing.items()
        if (text := record.chain(chain)) is not None
    }
    return record.with_chains(texts)
