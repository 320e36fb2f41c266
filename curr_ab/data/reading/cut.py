"""Variable domains cut out of longer chains, by alignment: leader, constant part, tags, both chains in one.

Most chains are bare domains, which their first cysteine and their framework 4 show: those are not aligned.
Where a sample of the rows shows no other chains, none is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.schema import MASK_LETTERS
from curr_ab.domains import CHAIN_OF, Domain, find_domains, t_cell_receptor
from curr_ab.words import CHAINS

# Outcomes of alignment; a chain that was not aligned has none. All but the first two are reasons to drop.
UNCHANGED, CUT = "unchanged", "cut"
TRUNCATED, NO_DOMAIN, RECEPTOR = "truncated_domain", "not_a_variable_domain", "t_cell_receptor"
WRONG_CHAIN, SEVERAL = "wrong_chain", "several_domains"
# Columns of a batch that say what became of each chain, and where in it the domain lies, from 1.
OUTCOMES = tuple(f"domain_{chain}" for chain in CHAINS)
_SAMPLE = 500  # rows of a batch
# A chain that begins within framework 1, so that its cysteine is at position 23 or before, and ends within
# framework 4, has nothing beside its domain.
_BEGINS = {"heavy": "^[A-Z]{0,21}C[A-Z]{8,20}W", "light": "^[A-Z]{0,22}C[A-Z]{7,20}W"}
_ENDS = {"heavy": "WG[A-Z]G[A-Z]{0,7}$", "light": "FG[A-Z]G[A-Z]{0,6}$"}
_LONGEST_DOMAIN = 160
_ALIGNABLE = re.compile(r"[A-Z*_]{30,}")
_NUCLEOTIDES = re.compile("[ACGTUN]+")


class Judged(NamedTuple):
    """The outcome of a chain's alignment, and its domain where there is one."""

    outcome: str
    domain: Domain | None = None


def _is_bare(column: pa.Array, chain: str) -> pa.Array:
    """True for each chain that is surely one variable domain of this kind and nothing else."""
    short = pc.less_equal(pc.binary_length(column), _LONGEST_DOMAIN)
    begins = pc.match_substring_regex(column, _BEGINS[chain])
    return pc.and_(short, pc.and_(begins, pc.match_substring_regex(column, _ENDS[chain])))


def judge(text: str, chain: str) -> Judged | None:
    """What alignment says of a chain; None where it holds nucleotides or signs that are not residues."""
    if not _ALIGNABLE.fullmatch(text):
        return None if len(text) >= 30 or not text.isalpha() else Judged(NO_DOMAIN)
    if _NUCLEOTIDES.fullmatch(text):
        return None
    domains = find_domains(text)
    own = [one for one in domains if CHAIN_OF[one.chain] == chain]
    if not domains:
        return Judged(RECEPTOR if t_cell_receptor(text) else NO_DOMAIN)
    if len(own) != 1:
        return Judged(SEVERAL if own else WRONG_CHAIN)
    if own[0].is_truncated:
        return Judged(TRUNCATED, own[0])
    return Judged(CUT if own[0].end - own[0].start < len(text) else UNCHANGED, own[0])


def needs_cutting(heavy: pa.Array, light: pa.Array) -> bool:
    """True where a sample of these chains has any that is not a bare variable domain of its kind."""
    for chain, column in zip(CHAINS, (heavy, light), strict=True):
        rows = np.unique(np.linspace(0, max(0, len(column) - 1), min(_SAMPLE, len(column))).astype(int))
        sample = pc.drop_null(column.take(pa.array(rows)))
        unsure = sample.filter(pc.invert(_is_bare(sample, chain)))
        for text in unsure.to_pylist():
            judged = judge(text, chain)
            if judged is not None and judged.outcome != UNCHANGED:
                return True
    return False


def cut_domains(batch: pa.RecordBatch, *, annotate: bool = False) -> pa.RecordBatch:
    """The batch with each chain cut to its variable domain, its masks too, and columns of the outcomes.

    `annotate` aligns all chains without a region mask, and the batch need not be one that needs cutting.
    Where alignment shows no domain of the column's kind, the chain stays as it is.
    """
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    cutting = needs_cutting(*(columns[chain] for chain in CHAINS))
    for chain in CHAINS:
        texts = columns[chain]
        wanted = pa.repeat(pa.scalar(False), len(texts))
        if cutting:
            wanted = pc.invert(pc.fill_null(_is_bare(texts, chain), True))
        if annotate:
            wanted = pc.or_(wanted, pc.and_(texts.is_valid(), columns[f"region_mask_{chain}"].is_null()))
        _cut_chain(columns, chain, wanted)
    return pa.record_batch(columns)


def _cut_chain(columns: dict[str, pa.Array], chain: str, wanted: pa.Array) -> None:
    """Cut the wanted rows of one chain, in the columns that belong to it, and add those of the outcome."""
    outcome = {f"domain_{chain}": pa.string()}
    outcome |= {f"domain_{end}_{chain}": pa.int32() for end in ("start", "end")}
    if not pc.any(wanted).as_py():
        columns.update({name: pa.nulls(len(wanted), kind) for name, kind in outcome.items()})
        return
    chosen = pa.array(np.flatnonzero(wanted.to_numpy(zero_copy_only=False)))
    texts = columns[chain].take(chosen).to_pylist()
    judged = [judge(text, chain) for text in texts]
    domains = [None if one is None else one.domain for one in judged]

    def put(name: str, values: list[str | int | None]) -> None:
        kind = outcome.get(name, pa.string())
        whole = columns.get(name, pa.nulls(len(wanted), kind))
        columns[name] = pc.replace_with_mask(whole, wanted, pa.array(values, kind))

    for mask in MASK_LETTERS:
        name = f"{mask}_{chain}"
        old = columns[name].take(chosen).to_pylist()
        put(name, [_cut_mask(mask, *one) for one in zip(old, texts, domains, strict=True)])
    cdr3s = columns[f"cdr3_{chain}"].take(chosen).to_pylist()
    known = zip(cdr3s, texts, domains, strict=True)
    put(f"cdr3_{chain}", [c if c or not d else t[d.cdr3] for c, t, d in known])
    cut = [t if d is None else t[d.start : d.end] for t, d in zip(texts, domains, strict=True)]
    put(chain, cut)
    put(f"domain_{chain}", [one and one.outcome for one in judged])
    put(f"domain_start_{chain}", [one and one.start + 1 for one in domains])
    put(f"domain_end_{chain}", [one and one.end for one in domains])


def _cut_mask(mask: str, old: str | None, text: str, domain: Domain | None) -> str | None:
    """The domain's part of a mask that fits the uncut chain; else a region mask is made anew."""
    if domain is None:
        return old
    if old is not None and len(old) == len(text):
        return old[domain.start : domain.end]
    return domain.region_mask if mask == "region_mask" else None


def split_domains(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Heavy and light chains of a column that holds both, as an scFv does, in either order.

    Where there are several of one kind, which one belongs to the pair is not known, and it is null.
    """
    halves: dict[str, list[str | None]] = {chain: [] for chain in CHAINS}
    for text in column.to_pylist():
        domains = find_domains(text) if text else []
        for chain in CHAINS:
            own = [one for one in domains if CHAIN_OF[one.chain] == chain]
            halves[chain].append(text[own[0].start : own[0].end] if len(own) == 1 else None)
    return pa.array(halves["heavy"], pa.string()), pa.array(halves["light"], pa.string())


def chain_kinds(column: pa.Array) -> pa.Array:
    """ "heavy" or "light" for each chain by its content; null where it is neither, or both."""
    kinds = pa.nulls(len(column), pa.string())
    for chain in CHAINS:
        kinds = pc.if_else(pc.fill_null(_is_bare(column, chain), False), chain, kinds)
    unsure = pc.and_(kinds.is_null(), column.is_valid())
    found = [
        {CHAIN_OF[one.chain] for one in find_domains(text)} for text in column.filter(unsure).to_pylist()
    ]
    values = pa.array([one.pop() if len(one) == 1 else None for one in found], pa.string())
    return pc.replace_with_mask(kinds, unsure, values)
