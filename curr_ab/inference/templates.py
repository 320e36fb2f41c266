"""Templates of chains: the residues that may stand at each position, and whether the model ends the chain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from curr_ab.data import builtin_path
from curr_ab.data.preparing.genes import gene_of, v_domains
from curr_ab.inference.records import Record, number_records, reader
from curr_ab.inference.settings import GenerationPlan, chain_of_gene, parse_cdr, parse_span, parse_start
from curr_ab.inference.tokens import residues_of, tokenize_one
from curr_ab.options import OptionError
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import REGIONS, STANDARD_RESIDUES

BUILTIN = "builtin"


class Template(NamedTuple):
    """One chain to be generated."""

    positions: tuple[str, ...]  # residues that may stand there: one letter, several, or all that are allowed
    is_open: bool  # more may follow, and the model says where the chain ends


Frame = tuple[int, ...]  # lengths of the regions of a natural chain


def template_of(
    plan: GenerationPlan,
    chain: str,
    record: Record,
    tokenizer: CurrAbTokenizer,
    is_causal: bool,
    random: torch.Generator,
    v_genes: tuple[Path, ...] = (),
) -> Template:
    """What is to stand in a chain; lengths and germline starts are drawn where the plan leaves them open."""
    free = plan.allowed
    if spans := [span for text in plan.fix for span in [parse_span(text)] if span[0] == chain]:
        return _redesigned(chain, record, spans, tokenizer, free)
    start = _start(plan, chain, random, v_genes)
    cdrs = {number: letters for text in plan.cdr for of, number, letters in [parse_cdr(text)] if of == chain}
    if not cdrs and is_causal and plan.length_from is None:
        return Template(tuple(start), is_open=True)
    given = tuple((REGIONS.index(region), len(letters)) for region, letters in cdrs.items())
    frames = frames_within(plan.max_length, plan.length_from or BUILTIN, chain, given)
    frame = frames[int(torch.randint(len(frames), (), generator=random))]
    positions: list[str] = []
    room = None  # before the first CDR that must stand
    for region, length in zip(REGIONS, frame, strict=True):
        letters = cdrs.get(region)
        if letters is not None and room is None:
            room = len(positions)
        positions += [free] * length if letters is None else list(letters)
    if room is not None and len(start) > room:
        if plan.start:
            message = f"start must end before the CDR that must stand, at residue {room} here"
            raise OptionError(f"{message}; got {len(start)} residues", "start", "cdr")
        start = start[:room]
    positions[: len(start)] = start
    return Template(tuple(positions), is_open=False)


def _redesigned(
    chain: str,
    record: Record,
    spans: Sequence[tuple[str, str | tuple[int, int]]],
    tokenizer: CurrAbTokenizer,
    free: str,
) -> Template:
    """The input's own chain, of which these spans stand."""
    text = record.chain(chain)
    if not text:
        message = (
            f"{record.name} has no {chain} chain, so no span of it can stand; give both chains, or no fix"
        )
        raise OptionError(message, "fix")
    text = text.replace("<mask>", "X")
    positions = [free] * len(text)
    for _, span in spans:
        if isinstance(span, str):
            tokens = tokenize_one(tokenizer, record)
            first = tokens.residues(chain).start
            places = [int(index) - first for index in residues_of(span, tokens)]
        else:
            if span[1] > len(text):
                message = f"{record.name}: fix must lie in the {chain} chain, which has {len(text)} residues"
                raise OptionError(f"{message}; got position {span[1]}", "fix")
            places = list(range(span[0] - 1, span[1]))
        for place in places:
            if text[place] not in STANDARD_RESIDUES:
                message = f"{record.name}, {chain} chain, position {place + 1}: {text[place]!r} is no residue"
                raise OptionError(f"{message} that can stand; leave it out of fix", "fix")
            positions[place] = text[place]
    return Template(tuple(positions), is_open=False)


def _start(plan: GenerationPlan, chain: str, random: torch.Generator, v_genes: tuple[Path, ...]) -> str:
    for text in plan.start:
        of, letters = parse_start(text, plan.given)
        if of == chain:
            return letters
    for gene in plan.v_gene:
        if chain_of_gene(gene) == chain:
            starts = germline_starts(gene, v_genes)
            return starts[int(torch.randint(len(starts), (), generator=random))][: plan.start_residues]
    return ""


@cache
def germline_starts(gene: str, v_genes: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """V regions of a gene, a family or a locus, as often as they are to be drawn.

    They are those of the FASTA files, each once. Without files they are those of chains of the built-in
    corpus that have no mutation, as often as the corpus has the gene.
    """
    regions = _given_regions(v_genes) if v_genes else _builtin_regions(chain_of_gene(gene))
    full = gene.upper() if gene.upper().startswith("IG") else f"IG{gene.upper()}"
    beginning = f"{full}V" if len(full) == len("IGK") else rf"{re.escape(full)}(?!\d)"
    if chosen := [region for name, region in regions if re.match(beginning, name)]:
        return tuple(chosen)
    names = sorted({name for name, _ in regions})
    shown = ", ".join(names[:12]) + f" and {len(names) - 12} more" * (len(names) > 12)
    advice = "" if v_genes else "; give the FASTA file of other genes, or of other names, as v_genes"
    message = f"v_gene must be a gene, a family or a locus of {shown}; got {gene}{advice}"
    raise OptionError(message, "v_gene", "v_genes")


def _given_regions(v_genes: tuple[Path, ...]) -> list[tuple[str, str]]:
    return [
        (name, text[domain.start : domain.cdr3.start])
        for path in v_genes
        for name, text, domain in v_domains(path)
    ]


def _builtin_regions(chain: str) -> list[tuple[str, str]]:
    names = [chain, f"v_call_{chain}", f"cdr3_{chain}", f"mutations_{chain}"]
    pairs = pq.read_table(builtin_path(), columns=names)
    pairs = pairs.filter(pc.equal(pairs[f"mutations_{chain}"], 0))
    return [
        (gene_of(call), text[: text.index(cdr3)])
        for text, call, cdr3 in zip(*(pairs[name].to_pylist() for name in names[:3]), strict=True)
    ]


@cache
def frames_within(
    max_length: int, source: str, chain: str, given: tuple[tuple[int, int], ...]
) -> tuple[Frame, ...]:
    """The region lengths of chains that are not too long with those regions whose lengths are given."""
    lengths = dict(given)
    frames = [
        tuple(lengths.get(place, length) for place, length in enumerate(frame))
        for frame in frames_of(source, chain)
    ]
    if within := tuple(frame for frame in frames if sum(frame) <= max_length):
        return within
    least = f"{min(map(sum, frames))} at least, the length of the shortest {chain} chain of {source}"
    raise OptionError(f"max_length must be {least}; got {max_length}", "max_length", "length_from")


@cache
def frames_of(source: str, chain: str) -> tuple[Frame, ...]:
    """The region lengths of the chains of a file, or of the built-in corpus."""
    read = reader([source], unpaired=source != BUILTIN)
    frames = []
    for record in read():
        if record.left_out or not record.chain(chain):
            continue
        mask = record.region_mask(chain)
        if mask is None:
            try:
                [(record, _)] = number_records([record.with_chains({_other(chain): None})])
            except ValueError:
                continue
            mask = record.region_mask(chain) or ""
        frames.append(tuple(mask.count(str(number)) for number in range(1, 8)))
    if not frames:
        message = f"length_from must hold {chain} chains whose regions can be told; {source} has none"
        raise OptionError(message, "length_from")
    return tuple(frames)


def _other(chain: str) -> str:
    return "light" if chain == "heavy" else "heavy"
