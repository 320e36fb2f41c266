"""Chains drawn from left to right by a causal model, with the keys and values of what stands already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from curr_ab.inference.settings import Sampling
from curr_ab.inference.templates import Template
from curr_ab.inference.token_batches import budget
from curr_ab.modeling import CurrAbForCausalLM
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import STANDARD_RESIDUES

# A row of decoding has one token at a time: as many as fill a batch would leave caches cold.
_TOKENS_OF_A_ROW = 32


class KeyValueCache:
    """Keys and values of all layers, written in place: a longer list of tokens copies nothing."""

    def __init__(self, num_layers: int, capacity: int) -> None:
        self.num_layers, self.capacity, self.length = num_layers, capacity, 0
        self.states: list[tuple[Tensor, Tensor]] = []

    def get_seq_length(self) -> int:
        return self.length

    def update(self, key: Tensor, value: Tensor, layer: int, _: Any = None) -> tuple[Tensor, Tensor]:
        """Take in the keys and values [B, H, S, D] of new tokens; returns those of all tokens."""
        end = self.length + key.shape[2]
        if layer == len(self.states):
            shape = (*key.shape[:2], self.capacity, key.shape[3])
            self.states.append((key.new_empty(shape), value.new_empty(shape)))
        keys, values = self.states[layer]
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        if layer == self.num_layers - 1:
            self.length = end
        return keys[:, :, :end], values[:, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be taken several times."""
        for layer, states in enumerate(self.states):
            kept = [states[part].new_empty((len(rows), *states[part].shape[1:])) for part in (0, 1)]
            for part in (0, 1):
                kept[part][:, :, : self.length] = states[part][:, :, : self.length].index_select(0, rows)
            self.states[layer] = (kept[0], kept[1])


class Draft(NamedTuple):
    """A sample to be drawn: prompts that share one continuation, and the chains that follow them."""

    prompts: tuple[Tensor, ...]  # token ids; several where one light chain is to suit several heavy ones
    templates: tuple[Template, ...]
    random: torch.Generator


class Drawn(NamedTuple):
    """The chains of a draft, and the sum of the log-probabilities of what was drawn."""

    chains: tuple[str, ...]
    log_likelihood: float
    num_drawn: int  # residues and ends of chains


class Alphabet:
    """The tokens that may follow: the residues, the end of a chain, the end of the pair."""

    def __init__(self, tokenizer: CurrAbTokenizer) -> None:
        self.letters = STANDARD_RESIDUES
        ids = tokenizer.convert_tokens_to_ids(list(self.letters))
        self.ids = torch.tensor([*ids, tokenizer.cls_token_id, tokenizer.eos_token_id])
        self.separator, self.end = len(ids), len(ids) + 1  # their places among the candidates

    def table(self, templates: Sequence[Template], max_length: int, longest: int, allowed: str) -> Tensor:
        """True for what may stand: [segments, rows, candidates]; a segment is a chain or a separator.

        A row is the number of residues that the chain has already, up to `longest`.
        """
        table = torch.zeros(2 * len(templates) - 1, longest + 1, len(self.ids), dtype=torch.bool)
        for number, template in enumerate(templates):
            if number:
                table[2 * number - 1, :, self.separator] = True  # its second half
            ends = self.end if number == len(templates) - 1 else self.separator
            rows = [self._row(letters) for letters in template.positions]
            chain = table[2 * number]
            if rows:
                chain[: len(rows)] = torch.stack(rows)
            if template.is_open:
                chain[len(rows) : max_length] = self._row(allowed)
                chain[max(1, len(rows)) :, ends] = True
            else:
                chain[len(rows) :, ends] = True
        return table

    def _row(self, letters: str) -> Tensor:
        return torch.tensor([letter in letters for letter in self.letters] + [False, False])


def choose(log_probabilities: Tensor, allowed: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """A candidate for each row [N], from float64 log-probabilities [N, C] and a uniform number each [N].

    Candidates keep their order, so that a difference in the last bit moves no boundary but its own.
    """
    scores = (log_probabilities / sampling.temperature).masked_fill(~allowed, -torch.inf)
    shares = scores.softmax(-1)
    if sampling.top_k is not None and sampling.top_k < shares.shape[1]:
        shares = shares.masked_fill(shares < shares.topk(sampling.top_k).values[:, -1:], 0.0)
    if sampling.min_p > 0:
        shares = shares.masked_fill(shares < sampling.min_p * shares.amax(-1, keepdim=True), 0.0)
    if sampling.top_p < 1:
        ordered, places = (shares / shares.sum(-1, keepdim=True)).sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # the first that reaches top_p stays
        shares = shares.masked_fill((before >= sampling.top_p).gather(-1, places.argsort(-1)), 0.0)
    sums = shares.cumsum(-1)
    chosen = (sums <= (uniforms * sums[:, -1])[:, None]).sum(-1)
    # Rounding may point behind the last candidate that has a share.
    last = shares.shape[1] - 1 - (shares > 0).flip(-1).int().argmax(-1)
    return torch.minimum(chosen, last)


def decode(
    model: CurrAbForCausalLM,
    tokenizer: CurrAbTokenizer,
    drafts: Sequence[Draft],
    sampling: Sampling,
    *,
    max_length: int,
    allowed: str = STANDARD_RESIDUES,
    tokens_per_batch: int | None = None,
) -> list[Drawn]:
    """The chains of all drafts, in their order; what they become does not depend on their batches."""
    alphabet = Alphabet(tokenizer)
    rows = max(1, budget(model.device, tokens_per_batch) // _TOKENS_OF_A_ROW)
    order = sorted(range(len(drafts)), key=lambda place: max(len(prompt) for prompt in drafts[place].prompts))
    drawn: dict[int, Drawn] = {}
    batch: list[int] = []
    for place in [*order, None]:
        full = place is None or sum(len(drafts[one].prompts) for one in [*batch, place]) > rows
        if batch and full:
            done = _decode_batch(
                model, alphabet, [drafts[one] for one in batch], sampling, max_length, allowed
            )
            drawn.update(zip(batch, done, strict=True))
            batch = []
        if place is not None:
            batch.append(place)
    return [drawn[place] for place in range(len(drafts))]


@torch.inference_mode()
def _decode_batch(
    model: CurrAbForCausalLM,
    alphabet: Alphabet,
    drafts: Sequence[Draft],
    sampling: Sampling,
    max_length: int,
    allowed: str,
) -> list[Drawn]:
    device = model.device
    # Of one length: a fixed template may be longer than what the model may add.
    longest = max(max_length, *(len(one.positions) for draft in drafts for one in draft.templates))
    tables = torch.stack([alphabet.table(draft.templates, max_length, longest, allowed) for draft in drafts])
    num_segments = tables.shape[1]
    max_new = (num_segments // 2 + 1) * (longest + 1) + num_segments // 2
    uniforms = torch.stack(
        [torch.rand(max_new, generator=draft.random, dtype=torch.float64) for draft in drafts]
    )
    prompts = [prompt for draft in drafts for prompt in draft.prompts]
    owner = torch.tensor([place for place, draft in enumerate(drafts) for _ in draft.prompts])
    shared = len(prompts) > len(drafts)
    weights = 1.0 / torch.bincount(owner).double()[owner, None]

    distinct, which = _distinct(prompts)
    width = max(map(len, distinct))
    input_ids = torch.full((len(distinct), width), model.config.pad_token_id)
    for row, prompt in enumerate(distinct):
        input_ids[row, width - len(prompt) :] = prompt  # padding before: all go on from the same place
    real = torch.ones(len(distinct), width + max_new, dtype=torch.long)
    real[:, :width] = input_ids != model.config.pad_token_id
    padded = not bool(real.all())
    real, which = real.to(device), which.to(device)
    cache = KeyValueCache(model.config.num_hidden_layers, width + max_new)

    def step(tokens: Tensor, position_ids: Tensor) -> Tensor:
        mask = real[:, : cache.length + tokens.shape[1]] if padded else None
        logits = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]
        rows: Tensor = logits.float().log_softmax(-1).cpu().double()[:, alphabet.ids]
        return rows

    position_ids = (real[:, :width].cumsum(1) - 1).clamp(min=0)
    rows = step(input_ids.to(device), position_ids)[which.cpu()]
    cache.select(which)
    real, next_position = real[which], position_ids[which, -1:] + 1

    segment, place = torch.zeros(len(drafts), dtype=torch.long), torch.zeros(len(drafts), dtype=torch.long)
    totals = torch.zeros(len(drafts), dtype=torch.float64)
    counts = torch.zeros(len(drafts), dtype=torch.long)
    texts: list[list[list[int]]] = [[[] for _ in draft.templates] for draft in drafts]
    alive = torch.arange(len(drafts))
    for number in range(max_new):
        if shared:
            rows = torch.zeros(len(drafts), rows.shape[1], dtype=torch.float64).index_add(
                0, owner, rows * weights
            )[alive]
        chosen = choose(rows, tables[alive, segment, place], uniforms[alive, number], sampling)
        told = segment % 2 == 0  # the second half of a separator is no news
        totals[alive] += torch.where(told, rows.gather(1, chosen[:, None])[:, 0], 0.0)
        counts[alive] += told
        for one, letter, at in zip(alive.tolist(), chosen.tolist(), segment.tolist(), strict=True):
            if letter < alphabet.separator:
                texts[one][at // 2].append(letter)
        place = torch.where(chosen < alphabet.separator, place + 1, 0)
        segment = segment + (chosen == alphabet.separator)
        going = chosen != alphabet.end
        if not bool(going.any()):
            break
        tokens = alphabet.ids[chosen]
        of_row = torch.searchsorted(alive, owner)  # `alive` is in order, and holds the owner of each row
        if not bool(going.all()):
            kept = going[of_row].nonzero().flatten()
            cache.select(kept.to(device))
            real, next_position = real[kept.to(device)], next_position[kept.to(device)]
            owner, weights, of_row = owner[kept], weights[kept], of_row[kept]
            alive, segment, place = alive[going], segment[going], place[going]
        rows = step(tokens[of_row][:, None].to(device), next_position)
        next_position = next_position + 1
    return [
        Drawn(
            tuple("".join(alphabet.letters[letter] for letter in text) for text in texts[one]),
            float(totals[one]),
            int(counts[one]),
        )
        for one in range(len(drafts))
    ]


def _distinct(prompts: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Different prompts, and which of them each is: samples of one pair share its first pass."""
    places: dict[tuple[int, ...], int] = {}
    which = [places.setdefault(tuple(prompt.tolist()), len(places)) for prompt in prompts]
    return [torch.tensor(ids) for ids in places], torch.tensor(which)
