"""Antibody chains that a member generates: light for heavy ones, heavy for light ones, or pairs."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from curr_ab.checkpoints import Checkpoint
from curr_ab.domains import CHAIN_OF, find_domains
from curr_ab.inference.decoding import Draft, Drawn, decode
from curr_ab.inference.filling import fill
from curr_ab.inference.marginals import Marginals
from curr_ab.inference.pairing import head_scores
from curr_ab.inference.records import Record, reader
from curr_ab.inference.settings import GenerationPlan
from curr_ab.inference.templates import germline_starts, template_of
from curr_ab.inference.tokens import tokenize_one
from curr_ab.options import OptionError, departures
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import CHAINS

# Why a sample is left out, in the order in which it is looked at.
REASONS = ("incomplete", "wrong_chain", "known", "duplicate", "unpaired", "unlikely")
INPUT = "input"  # as a source of `not_in`
_MOST_COMMON = 1_000  # heavy chains that share a light chain: all are drawn beside each other
_TAIL = 2  # residues behind a domain that alignment may leave out


class Generated(NamedTuple):
    """One sample."""

    record: Record  # with the generated chains
    sample: int  # from 1, within the record
    log_likelihood: float  # sum over what was drawn, each residue given what stood there then
    num_drawn: int  # residues, and ends of chains where the model chose them

    @property
    def perplexity(self) -> float:
        return math.exp(-self.log_likelihood / max(1, self.num_drawn))

    def __repr__(self) -> str:
        lengths = f"{len(self.record.heavy or '')} heavy and {len(self.record.light or '')} light residues"
        what = f"sample {self.sample}, {lengths}, {self.num_drawn} drawn, perplexity {self.perplexity:.3f}"
        return f"Generated(id={self.record.id!r}, {what})"


@dataclass
class Samples:
    """What became of a record: the samples that are kept, and how many were left out for which reason."""

    record: Record
    kept: list[Generated] = field(default_factory=list)
    num_draws: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    seen: set[tuple[str | None, str | None]] = field(default_factory=set)


def check_model(model: Any, plan: GenerationPlan) -> bool:
    """True for a causal model; refuses a plan that the model cannot follow."""
    is_causal = bool(model.config.is_decoder)
    if is_causal and plan.given == "light" and not model.config.light_first:
        raise OptionError(
            "given must be heavy or nothing for this member: it was trained with the heavy chain first; "
            "train one with light_first, or use a masked member",
            "given",
        )
    for name in ("order", "at_once", "sweeps"):
        if is_causal and name in departures(plan):
            message = (
                f"{name} must be left out for a causal member, which draws chains from left to right, once"
            )
            raise OptionError(message, name)
    return is_causal


def check_record(tokenizer: CurrAbTokenizer, record: Record, plan: GenerationPlan) -> Record:
    """The record, if it has what is given, and what is to stand of the chain that is drawn anew."""
    if plan.given != "nothing" and not record.chain(plan.given):
        raise ValueError(f"{record.name} has no {plan.given} chain, which is to be given")
    if plan.fix:
        for chain in plan.made:
            template_of(plan, chain, record, tokenizer, False, torch.Generator())
    return record


def generate_window(
    model: Any,
    tokenizer: CurrAbTokenizer,
    records: Sequence[Record],
    plan: GenerationPlan,
    *,
    tokens_per_batch: int | None = None,
    head: Checkpoint | None = None,
    least_pairing: float = 0.5,
    v_genes: tuple[Path, ...] = (),
) -> list[Samples]:
    """The samples of some records; those that are left out are drawn again, as often as the plan tries."""
    is_causal = check_model(model, plan)
    if plan.common and len(records) >= _MOST_COMMON:
        raise OptionError(f"common must be used with fewer than {_MOST_COMMON:,} heavy chains", "common")
    for record in records:
        check_record(tokenizer, record, plan)
    for gene in plan.v_gene:
        germline_starts(gene, v_genes)
    known = known_chains(tuple(source for source in plan.not_in if source != INPUT))
    all_samples = [Samples(record) for record in records]
    wanted = 1 if plan.given == "nothing" else plan.n
    # The least likely are left out at the end.
    enough = math.ceil(wanted / (1 - plan.drop_lowest))
    groups = [all_samples] if plan.common and all_samples else [[one] for one in all_samples]
    while True:
        drafts: list[tuple[list[Samples], int]] = []
        for group in groups:
            missing = enough - len(group[0].kept)
            room = plan.tries * enough - group[0].num_draws
            for _ in range(min(missing, room)):
                for one in group:
                    one.num_draws += 1
                drafts.append((group, group[0].num_draws))
        if not drafts:
            break
        makers = _decoded if is_causal else _filled
        drawn = makers(model, tokenizer, drafts, plan, v_genes, tokens_per_batch)
        for (group, number), draw in zip(drafts, drawn, strict=True):
            chains = dict(zip(plan.made, _in_order(model, draw.chains), strict=True))
            made = [
                Generated(one.record.with_chains(chains), number, draw.log_likelihood, draw.num_drawn)
                for one in group
            ]
            faults = (_fault(one, sample, plan, known) for one, sample in zip(group, made, strict=True))
            reason = next(filter(None, faults), None)  # a common chain is kept for all records or for none
            for samples, sample in zip(group, made, strict=True):
                if reason:
                    samples.left_out[reason] += 1
                else:
                    samples.kept.append(sample)
                samples.seen.add((sample.record.heavy, sample.record.light))
        if head is not None:
            _leave_out_unpaired(groups, head, least_pairing)
    for samples in all_samples:
        surplus = len(samples.kept) - min(wanted, int(len(samples.kept) * (1 - plan.drop_lowest) + 1e-9) or 1)
        if plan.drop_lowest and surplus > 0:
            ranked = sorted(samples.kept, key=lambda one: one.log_likelihood / max(1, one.num_drawn))
            worst = {one.sample for one in ranked[:surplus]}
            samples.kept = [one for one in samples.kept if one.sample not in worst]
            samples.left_out["unlikely"] += surplus
    return all_samples


def _generator(plan: GenerationPlan, record: Record, draw: int) -> torch.Generator:
    """Of its own for each draw: the batch that it shares and its place in the input have no part in it."""
    digest = hashlib.sha256(f"{plan.seed} {draw} {record.id}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def _decoded(
    model: Any,
    tokenizer: CurrAbTokenizer,
    drafts: Sequence[tuple[list[Samples], int]],
    plan: GenerationPlan,
    v_genes: tuple[Path, ...],
    tokens_per_batch: int | None,
) -> list[Drawn]:
    prompts = {id(one): _prompt(tokenizer, one.record, plan) for group, _ in drafts for one in group}
    wanted = []
    for group, number in drafts:
        record = group[0].record
        random = _generator(plan, record, number)
        templates = tuple(
            template_of(plan, chain, record, tokenizer, True, random, v_genes) for chain in plan.made
        )
        wanted.append(Draft(tuple(prompts[id(one)] for one in group), templates, random))
    return decode(
        model,
        tokenizer,
        wanted,
        plan,
        max_length=plan.max_length,
        allowed=plan.allowed,
        tokens_per_batch=tokens_per_batch,
    )


def _prompt(tokenizer: CurrAbTokenizer, record: Record, plan: GenerationPlan) -> Tensor:
    """The tokens before what is generated: `<cls>`, or `<cls> CHAIN <cls> <cls>`."""
    cls = tokenizer.cls_token_id
    if plan.given == "nothing":
        return torch.tensor([cls])
    other = {chain: None for chain in CHAINS if chain != plan.given}
    ids = tokenize_one(tokenizer, record.with_chains(other)).input_ids
    return torch.cat([ids[:-1], torch.tensor([cls, cls])])


def _filled(
    model: Any,
    tokenizer: CurrAbTokenizer,
    drafts: Sequence[tuple[list[Samples], int]],
    plan: GenerationPlan,
    v_genes: tuple[Path, ...],
    tokens_per_batch: int | None,
) -> list[Drawn]:
    marginals = Marginals(model, tokenizer, "unmasked", tokens_per_batch=tokens_per_batch)
    wanted = []
    for group, number in drafts:
        record = group[0].record
        random = _generator(plan, record, number)
        templates = {
            chain: template_of(plan, chain, record, tokenizer, False, random, v_genes) for chain in plan.made
        }
        wanted.append(([one.record for one in group], templates, random))
    return fill(marginals, wanted, plan)


def _in_order(model: Any, chains: tuple[str, ...]) -> tuple[str, ...]:
    """The chains as they are named; a model that saw light chains first may begin with one."""
    if len(chains) == 2 and model.config.is_decoder and model.config.light_first:
        kinds = [CHAIN_OF[domains[0].chain] if (domains := find_domains(text)) else "" for text in chains]
        if kinds == ["light", "heavy"]:
            return chains[::-1]
    return chains


def _fault(samples: Samples, sample: Generated, plan: GenerationPlan, known: frozenset[str]) -> str | None:
    """Why a sample is left out."""
    if not plan.any_sequence:
        for chain in plan.made:
            if reason := domain_fault(sample.record.chain(chain) or "", chain):
                return reason
    for chain in plan.made:
        text = sample.record.chain(chain)
        if text in known or (INPUT in plan.not_in and text == samples.record.chain(chain)):
            return "known"
    pair = (sample.record.heavy, sample.record.light)
    return "duplicate" if plan.unique and pair in samples.seen else None


def domain_fault(text: str, chain: str) -> str | None:
    """`incomplete` where a chain is not one whole V domain, `wrong_chain` where it is of another kind."""
    domains = find_domains(text) if text else []
    if len(domains) != 1 or domains[0].is_truncated:
        return "incomplete"
    [domain] = domains
    if domain.start or len(text) - domain.end > _TAIL:
        return "incomplete"
    return None if CHAIN_OF[domain.chain] == chain else "wrong_chain"


@cache
def known_chains(sources: tuple[str, ...]) -> frozenset[str]:
    """The chains of these files."""
    return frozenset(
        text
        for source in sources
        for record in reader([source], unpaired=source != "builtin")()
        for chain in CHAINS
        if (text := record.chain(chain))
    )


def _leave_out_unpaired(groups: Sequence[Sequence[Samples]], head: Checkpoint, least: float) -> None:
    """Leave out what the head doubts; a common chain where it doubts it for one of the records."""
    model, tokenizer = loaded(head)
    for group in groups:
        doubted: set[int] = set()
        for samples in filter(lambda one: one.kept, group):
            scores = head_scores(model, tokenizer, [one.record for one in samples.kept]).tolist()
            pairs = zip(samples.kept, scores, strict=True)
            doubted |= {one.sample for one, score in pairs if score < least}
        for samples in group:
            kept = [one for one in samples.kept if one.sample not in doubted]
            samples.left_out["unpaired"] += len(samples.kept) - len(kept)
            samples.kept = kept


@cache
def loaded(checkpoint: Checkpoint) -> tuple[Any, CurrAbTokenizer]:
    """A pairing head, read once."""
    return checkpoint.load()
