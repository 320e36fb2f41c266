"""Chains drawn by a masked model: position by position, each given all others, and again in sweeps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from curr_ab.inference.decoding import Drawn, choose
from curr_ab.inference.marginals import Marginals
from curr_ab.inference.records import Record
from curr_ab.inference.settings import GenerationPlan
from curr_ab.inference.templates import Template
from curr_ab.inference.tokens import TokenRecord, tokenize_one
from curr_ab.words import STANDARD_RESIDUES


class _Sheet:
    """A sample on its way: the same generated chains beside each of the given ones."""

    def __init__(
        self,
        contexts: Sequence[Record],
        templates: dict[str, Template],
        random: torch.Generator,
        marginals: Marginals,
    ) -> None:
        texts = {chain: _masked(template) for chain, template in templates.items()}
        self.tokens: list[TokenRecord] = [
            tokenize_one(marginals.tokenizer, record.with_chains(texts)) for record in contexts
        ]
        self.ids = [one.input_ids.clone() for one in self.tokens]
        self.mask_id = marginals.model.config.mask_token_id
        self.random, self.chains = random, tuple(templates)
        # Residues of the generated chains, counted through them; their places among the tokens differ.
        self.allowed = [letters for template in templates.values() for letters in template.positions]
        self.places = [
            torch.cat([one.positions[one.residues(chain)] for chain in templates]) for one in self.tokens
        ]
        self.free = [index for index, letters in enumerate(self.allowed) if len(letters) > 1]
        self.log_probabilities: dict[int, float] = {}

    def put(self, index: int, token: int) -> None:
        for ids, places in zip(self.ids, self.places, strict=True):
            ids[places[index]] = token

    def shuffled(self) -> list[int]:
        order = torch.randperm(len(self.free), generator=self.random).tolist()
        return [self.free[place] for place in order]


def _masked(template: Template) -> str:
    return "".join(letters if len(letters) == 1 else "<mask>" for letters in template.positions)


def fill(
    marginals: Marginals,
    drafts: Sequence[tuple[Sequence[Record], dict[str, Template], torch.Generator]],
    plan: GenerationPlan,
) -> list[Drawn]:
    """The generated chains of all drafts; all take their steps together."""
    sheets = [_Sheet(contexts, templates, random, marginals) for contexts, templates, random in drafts]
    letter_ids = torch.tensor(marginals.tokenizer.convert_tokens_to_ids(list(STANDARD_RESIDUES)))
    for sweep in range(plan.sweeps + 1):
        waiting = {place: sheet.shuffled() for place, sheet in enumerate(sheets)}
        surest = sweep == 0 and plan.order == "confident"
        while any(waiting.values()):
            going = [(sheets[place], open) for place, open in waiting.items() if open]
            asked = [open if surest else open[: plan.at_once] for _, open in going]
            for (sheet, _), wanted in zip(going, asked, strict=True):
                for index in wanted:
                    sheet.put(index, sheet.mask_id)
            rows = _read_off(marginals, [sheet for sheet, _ in going], asked)
            for (sheet, open), wanted, probabilities in zip(going, asked, rows, strict=True):
                scores = probabilities[:, letter_ids].double()
                allowed = torch.tensor(
                    [[letter in sheet.allowed[index] for letter in STANDARD_RESIDUES] for index in wanted]
                )
                if surest:
                    shares = (scores / plan.temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                    kept = shares.amax(-1).argsort(descending=True, stable=True)[: plan.at_once].tolist()
                    scores, allowed = scores[kept], allowed[kept]
                    wanted = [wanted[place] for place in kept]
                uniforms = torch.rand(len(wanted), generator=sheet.random, dtype=torch.float64)
                for row, (index, letter) in enumerate(
                    zip(wanted, choose(scores, allowed, uniforms, plan).tolist(), strict=True)
                ):
                    sheet.put(index, int(letter_ids[letter]))
                    sheet.log_probabilities[index] = float(scores[row, letter])
                    open.remove(index)
    return [_drawn(sheet, marginals) for sheet in sheets]


def _read_off(marginals: Marginals, sheets: Sequence[_Sheet], asked: Sequence[Sequence[int]]) -> list[Tensor]:
    """Log-probabilities of the asked positions of each sheet: their mean over the given chains."""
    sequences = [ids for sheet in sheets for ids in sheet.ids]
    positions = [
        places[list(wanted)] for sheet, wanted in zip(sheets, asked, strict=True) for places in sheet.places
    ]
    rows = iter(marginals.read_off(sequences, positions))
    return [torch.stack([next(rows) for _ in sheet.ids]).mean(0) for sheet in sheets]


def _drawn(sheet: _Sheet, marginals: Marginals) -> Drawn:
    letters = marginals.tokenizer.convert_ids_to_tokens(sheet.ids[0][sheet.places[0]].tolist())
    lengths = [len(range(*sheet.tokens[0].residues(chain).indices(10_000))) for chain in sheet.chains]
    texts, start = [], 0
    for length in lengths:
        texts.append("".join(letters[start : start + length]))
        start += length
    values = sheet.log_probabilities.values()
    return Drawn(tuple(texts), sum(values), len(values))
