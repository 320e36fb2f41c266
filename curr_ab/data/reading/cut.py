"""Variable domains cut out of longer chains, by alignment: leader, constant part, tags, both chains in one.

Most chains are bare domains, which their first cysteine and their framework 4 show: those are not aligned.
Where a sample of the rows shows no other chains, none is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.table import Recognised
from curr_ab.data.schema import MASK_LETTERS
from curr_ab.domains import CHAIN_OF, Domain, find_domains, t_cell_receptor
from curr_ab.words import CHAINS

# Outcomes of alignment; a chain that was not aligned has none. All but the first two are reasons to drop.
UNCHANGED, CUT = "unchanged", "cut"
TRUNCATED, NO_DOMAIN, RECEPTOR = "truncated_domain", "not_a_variable_domain", "t_cell_receptor"
WRONG_CHAIN, SEVERAL = "wrong_chain", "several_domains"
# Columns of a batch that say what became of each chain. Beside them stand `domain_start_*` and
# `domain_end_*`, where in it the domain lies, from 1, and `num_residues_*`, its length before it was cut.
OUTCOMES = tuple(f"domain_{chain}" for chain in CHAINS)
# A chain is bare where it shows the beginning and the end of a domain, each in one of several ways, for any
# one may be mutated: what surrounds the first tryptophan, or the first residues of the germline; the motif of
# framework 4, whole or cut off, or the residues beside it. Where a cysteine before a tryptophan
# is all that speaks for the beginning, it may be a leader's: then the chain must not be long. Of real domains
# 1 in 200 is not bare by this, of the built-in corpus with its hypermutations 1 in 25; of 10,000 chains with
# a leader and of as many with five or more residues of a constant part or a tag, none is.
_BEGINS = {
    "heavy": "^[A-Z]{0,21}C[A-Z]{8,20}W[VIFLA][RKH][QKR]|^[EQDVAX]?[VIL][QKHRTN][LVMFI]",
    "light": "^[A-Z]{0,22}C[A-Z]{7,20}W[YFHL][QLH][QHRLK]|^[A-Z]{1,2}[VILMAEQ][LMVE]T[QH]",
}
_MAY_BEGIN = {"heavy": "^[A-Z]{0,21}C[A-Z]{8,20}W[^YF]", "light": "^[A-Z]{0,22}C[A-Z]{7,20}W[A-Z][^RK]"}
_STARTS = "^M[^T]"  # a start codon's residue, before the domain
_ENDS = {
    "heavy": "WG[A-Z]G[A-Z]{0,7}$|V[TSI][VAI]S[SALP]$|G[A-Z]GT[A-Z]VT[A-Z]{3}$",
    "light": "FG[A-Z]G[A-Z]{0,6}$|[LVI][EDTAQ][VIFLM][KLTNRQ]$|G[A-Z]GT[A-Z]{5}$",
}
# Residues beyond which a chain that is not bare is aligned whatever the sample shows: of real domains 1 in
# 10,000, of the built-in corpus 1 in 700; of domains with a leader 999 in 1,000.
_LONG = {"heavy": 134, "light": 116}
_SHORT = {"heavy": 105, "light": 98}  # nearly all are longer
_LONGEST_DOMAIN = 160
# Regions of the source that are neither a leader's nor a constant part's: such a chain is long by its CDR3.
_USUAL_REGIONS = "^1{20,26}2+3+4*5+6+7{8,11}$"
_FIRST_SAMPLE = 500  # rows of a source; of those that follow in other batches ...
_EVERY = 64  # ... one in so many
_ALIGNABLE = re.compile(r"[A-Z*_]{30,}")
_NUCLEOTIDES = re.compile("[ACGTUN]+")


class Judged(NamedTuple):
    """The outcome of a chain's alignment, and its domain where there is one."""

    outcome: str
    domain: Domain | None = None


def _shown(column: pa.Array, chain: str) -> tuple[pa.Array, pa.Array]:
    """True for each chain that shows the beginning of a domain of this kind; and the same of its end."""
    short = pc.less_equal(pc.binary_length(column), _LONG[chain])
    may_begin = pc.and_(short, pc.match_substring_regex(column, _MAY_BEGIN[chain]))
    begins = pc.or_(may_begin, pc.match_substring_regex(column, _BEGINS[chain]))
    begins = pc.and_not(begins, pc.match_substring_regex(column, _STARTS))
    return begins, pc.match_substring_regex(column, _ENDS[chain])


def _is_bare(column: pa.Array, chain: str) -> pa.Array:
    """True for each chain that is surely one variable domain of this kind and nothing else."""
    short = pc.less_equal(pc.binary_length(column), _LONGEST_DOMAIN)
    return pc.and_(short, pc.and_(*_shown(column, chain)))


def _is_odd(column: pa.Array, masks: pa.Array, chain: str) -> pa.Array:
    """True for each chain that shows neither beginning nor end, or lacks one and is not usual.

    Usual is a length, or regions that the source gives.
    """
    lengths = pc.binary_length(column)
    usual = pc.and_(pc.greater_equal(lengths, _SHORT[chain]), pc.less_equal(lengths, _LONG[chain]))
    usual = pc.or_(usual, pc.fill_null(pc.match_substring_regex(masks, _USUAL_REGIONS), False))
    begins, ends = _shown(column, chain)
    bare = pc.and_(pc.less_equal(lengths, _LONGEST_DOMAIN), pc.and_(begins, ends))
    return pc.invert(pc.or_(bare, pc.and_(usual, pc.or_(begins, ends))))


def _is_long(column: pa.Array, masks: pa.Array, chain: str) -> pa.Array:
    """True for each odd chain that is longer than nearly all domains."""
    wanted = pc.fill_null(pc.greater(pc.binary_length(column), _LONG[chain]), False)
    if not pc.any(wanted).as_py():
        return wanted
    return pc.replace_with_mask(wanted, wanted, _is_odd(column.filter(wanted), masks.filter(wanted), chain))


def judge(text: str, chain: str) -> Judged | None:
    """Judge a chain by alignment; None where it holds nucleotides or signs that are not residues."""
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


class DomainCutter:
    """Cuts the chains of one source to their variable domains, batch by batch, and counts the outcomes.

    Chains that are not bare are aligned from the first batch on whose sample shows one that is not a variable
    domain of its kind and nothing else; before that, only the long ones.
    """

    def __init__(self, recognised: Recognised, *, annotate: bool = False) -> None:
        """`annotate` aligns all chains without a region mask as well."""
        self.recognised = recognised
        self.annotate = annotate
        self.needs_cutting = False
        self._is_first = True

    def cut(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with each chain cut to its domain, its masks too, and columns of the outcomes.

        Where alignment shows no domain of the column's kind, the chain stays as it is.
        """
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        of_chains = {chain: (columns[chain], columns[f"region_mask_{chain}"]) for chain in CHAINS}
        self.needs_cutting = self.needs_cutting or self._sample_shows_more(of_chains)
        self._is_first = False
        for chain, (column, masks) in of_chains.items():
            wanted = (
                pc.invert(_is_bare(column, chain)) if self.needs_cutting else _is_long(column, masks, chain)
            )
            wanted = pc.fill_null(wanted, False)
            if self.annotate:
                wanted = pc.or_(wanted, pc.and_(column.is_valid(), masks.is_null()))
            outcomes = _cut_chain(columns, chain, wanted, self.annotate)
            self.recognised.chains += len(column) - column.null_count
            for outcome, number in outcomes.items():
                self.recognised.count(self.recognised.aligned, outcome, number)
        return pa.record_batch(columns)

    def _sample_shows_more(self, of_chains: Mapping[str, tuple[pa.Array, pa.Array]]) -> bool:
        for chain, (column, masks) in of_chains.items():
            number = min(len(column), _FIRST_SAMPLE) if self._is_first else -(-len(column) // _EVERY)
            rows = pa.array(np.unique(np.linspace(0, max(0, len(column) - 1), number).astype(int)))
            sample = column.take(rows)
            for text in sample.filter(_is_odd(sample, masks.take(rows), chain)).to_pylist():
                judged = judge(text, chain)
                if judged is not None and judged.outcome != UNCHANGED:
                    return True
        return False


def _cut_chain(columns: dict[str, pa.Array], chain: str, wanted: pa.Array, annotate: bool) -> Counter[str]:
    """Cut the wanted rows of one chain, in the columns that belong to it, and add those of the outcome."""
    columns[f"domain_{chain}"] = pa.nulls(len(wanted), pa.string())
    for number in ("domain_start", "domain_end", "num_residues"):
        columns[f"{number}_{chain}"] = pa.nulls(len(wanted), pa.int32())
    if not pc.any(wanted).as_py():
        return Counter()
    rows = pc.indices_nonzero(wanted)
    texts = columns[chain].take(rows).to_pylist()
    judged = [judge(text, chain) for text in texts]
    # Masks of those few chains that were aligned and are bare would be all that a source without masks has.
    keep = (None,) if annotate else (None, UNCHANGED)
    domains = [None if (one and one.outcome) in keep else one and one.domain for one in judged]

    def put(name: str, values: list[str | int | None]) -> None:
        columns[name] = pc.replace_with_mask(columns[name], wanted, pa.array(values, columns[name].type))

    for mask in MASK_LETTERS:
        name = f"{mask}_{chain}"
        old = columns[name].take(rows).to_pylist()
        put(name, [_cut_mask(mask, *one) for one in zip(old, texts, domains, strict=True)])
    cdr3s = columns[f"cdr3_{chain}"].take(rows).to_pylist()
    known = zip(cdr3s, texts, domains, strict=True)
    put(f"cdr3_{chain}", [c if c or not d else t[d.cdr3] for c, t, d in known])
    cut = [t if d is None else t[d.start : d.end] for t, d in zip(texts, domains, strict=True)]
    put(chain, cut)
    put(f"domain_{chain}", [one and one.outcome for one in judged])
    put(f"domain_start_{chain}", [one and one.start + 1 for one in domains])
    put(f"domain_end_{chain}", [one and one.end for one in domains])
    put(f"num_residues_{chain}", [one and len(text) for one, text in zip(domains, texts, strict=True)])
    return Counter(one.outcome for one in judged if one is not None)


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
