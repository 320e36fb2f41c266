"""Variable domains by alignment (immunum): their places in a sequence, their chains, their numbering."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, NamedTuple

from curr_ab.words import REGIONS

if TYPE_CHECKING:
    from immunum import Annotator

Scheme = Literal["imgt", "kabat", "chothia", "martin", "aho"]

ANTIBODY, T_CELL_RECEPTOR = "HKL", "ABGD"  # immunum's letters for the chains
CHAIN_OF = {"H": "heavy", "K": "light", "L": "light"}
# Confidence of an alignment, 0-1. Of 40,000 simulated chains with their hypermutations the lowest has 0.40,
# of 11,000 real ones 0.47; T-cell receptors that are aligned as antibodies reach 0.38, constant domains and
# other proteins 0.25. T-cell receptors that are aligned as such have 0.37 or more in 99 of 100 chains.
MIN_CONFIDENCE = {ANTIBODY: 0.4, T_CELL_RECEPTOR: 0.35}

_REGION_ENDS = (26, 38, 55, 65, 104, 117, 128)  # IMGT's last position of FWR1, CDR1 ... FWR4
_FWR4_START = 118
_LAST = {"H": 128, "K": 127, "L": 127}  # light chains have no position 128
_NO_POSITION_10 = "HL"  # nor have heavy and lambda chains this one
_TAIL, _LONGEST_TAG = "P" * 20, 15
_FWR4, _LONGEST_CDR3 = re.compile("(?=[WF]G.G)"), 60
# Germline residues of framework 4, position by position. The end of an alignment is trusted from six of them:
# of domains that really end there 1 in 1,000 has fewer, of those that run on into a tag nearly all.
_USUAL_FWR4 = {
    "heavy": ("W", "G", "QKR", "G", "T", "LTM", "V", "T", "V", "S", "S"),
    "light": ("F", "G", "GQTP", "G", "T", "KRQ", "LV", "ET", "IV", "KL"),
}
_USUAL_ENOUGH = 6
_NOT_A_LETTER = re.compile(r"[^A-Za-z]")


class Domain(NamedTuple):
    """A variable domain, `sequence[start:end]`."""

    start: int
    end: int
    chain: str  # H, K or L
    confidence: float
    labels: tuple[str, ...]  # of the residues, such as "32" or "111A"
    region_lengths: tuple[int, ...]  # of FWR1 ... FWR4

    @property
    def region_mask(self) -> str:
        """A letter for each residue, 1-7 for FWR1 ... FWR4."""
        return "".join(str(code) * length for code, length in enumerate(self.region_lengths, 1))

    @property
    def cdr3(self) -> slice:
        """Place of the CDR3, without its anchors, in the sequence."""
        end = self.end - self.region_lengths[6]
        return slice(end - self.region_lengths[5], end)

    @property
    def is_truncated(self) -> bool:
        """True where framework 1 or framework 4 is missing altogether."""
        return not (self.region_lengths[0] and self.region_lengths[6])


@cache
def _annotator(chains: str, scheme: Scheme = "imgt") -> Annotator:
    from immunum import Annotator

    # A domain is recognised in IMGT; in another scheme it is only labelled, and must not be refused then.
    confidence = MIN_CONFIDENCE[chains] if scheme == "imgt" else 0.0
    return Annotator(list(chains), scheme, confidence)


@cache
def number_of(label: str) -> int:
    """The position of a label without its insertion: 111 of "111A"."""
    return int("".join(takewhile(str.isdigit, label)))  # 27 insertions on, no letter follows


def _region_lengths(labels: tuple[str, ...], ends: tuple[int, ...]) -> tuple[int, ...]:
    lengths, region = [0] * len(REGIONS), 0
    for label in labels:
        while region < 6 and number_of(label) > ends[region]:
            region += 1
        lengths[region] += 1
    return tuple(lengths)


def missing_before(first: int, chain: str) -> int:
    """The number of residues that a domain lacks which begins with this IMGT position."""
    return first - 1 - (first > 10 and chain in _NO_POSITION_10)


def missing_after(last: int, chain: str) -> int:
    """The number of residues that a domain lacks which ends with this IMGT position."""
    return max(0, _LAST[chain] - last)


def find_domains(sequence: str) -> list[Domain]:
    """The variable domains of antibodies in a sequence, in their order; upper or lower case.

    Characters that are not letters, such as `*`, count as unknown residues.
    """
    text = _NOT_A_LETTER.sub("X", sequence).upper()
    domains = _align(text)
    starts = [0, *(one.end for one in domains[:-1])]
    ends = [*(one.start for one in domains[1:]), len(text)]
    return [_without_tail(text, *of_one) for of_one in zip(domains, starts, ends, strict=False)]


def _without_tail(text: str, domain: Domain, start: int, end: int) -> Domain:
    """The domain, aligned anew where its framework 4 is not what it should be because of what follows it.

    So few residues as those of a tag are aligned with the end of the domain rather than left out, unless more
    follow. And behind a long CDR3 framework 4 is left out, unless the text ends with it.
    """
    num_usual = _num_usual(text, domain)
    if num_usual >= _USUAL_ENOUGH:
        return domain
    cdr3, length = domain.cdr3.start, _LAST[domain.chain] - _FWR4_START + 1
    motifs = [*_FWR4.finditer(text, cdr3, min(end, cdr3 + _LONGEST_CDR3))]
    pieces = [*((text[start : one.start() + length], "") for one in motifs), (text[start:end], _TAIL)]
    for piece, tail in pieces:
        others = [_moved(other, start) for other in _align(piece, tail)]
        better = len(others) == 1 and _num_usual(text, others[0]) > num_usual
        if better and (not tail or 0 < domain.end - others[0].end <= _LONGEST_TAG):
            return others[0]
    return _with_short_cdr3(text, domain, motifs)


def _with_short_cdr3(text: str, domain: Domain, motifs: Sequence[re.Match[str]]) -> Domain:
    """The domain with the framework 4 behind a CDR3 of so few residues that alignment takes both for one."""
    if "104" not in domain.labels:
        return domain
    anchor = domain.labels.index("104") + 1
    for motif in motifs:
        num_residues = motif.start() - domain.start - anchor
        if not 0 <= num_residues <= 13:
            continue
        left = (num_residues + 1) // 2
        positions = [*range(105, 105 + left), *range(118 - num_residues + left, 118)]
        labels = [*domain.labels[:anchor], *map(str, positions), str(_FWR4_START)]
        named = tuple(_finish(labels, domain.chain, len(text) - domain.start))
        lengths = _region_lengths(named, _REGION_ENDS)
        longer = domain._replace(end=domain.start + len(named), labels=named, region_lengths=lengths)
        if _num_usual(text, longer) >= _USUAL_ENOUGH:
            return longer
    return domain


def _moved(domain: Domain, by: int) -> Domain:
    return domain._replace(start=domain.start + by, end=domain.end + by)


def _num_usual(text: str, domain: Domain) -> int:
    """The number of residues of framework 4 that are usual at their place."""
    begin = domain.end - domain.region_lengths[6]
    found = zip(text[begin : domain.end], _USUAL_FWR4[CHAIN_OF[domain.chain]], strict=False)
    return sum(residue in usual for residue, usual in found)


def _align(text: str, tail: str = "") -> list[Domain]:
    results = [one for one in _annotator(ANTIBODY).number_domains(text + tail) if one.numbering]
    domains: list[Domain] = []
    for place, result in enumerate(results):
        chain, confidence = str(result.chain), float(result.confidence or 0.0)
        start, labels = _begin(result.query_start or 0, list(result.numbering or ()), chain)
        after = results[place + 1].query_start if place + 1 < len(results) else None
        labels = _finish(labels, chain, (len(text) if after is None else after) - start)
        named = tuple(labels)
        lengths = _region_lengths(named, _REGION_ENDS)
        domains.append(Domain(start, start + len(named), chain, confidence, named, lengths))
    return domains


def _begin(start: int, labels: list[str], chain: str) -> tuple[int, list[str]]:
    """The start and the labels of a domain, with its own first residues.

    Those that are unlike the consensus are left out by the alignment; nothing else can stand there.
    """
    first = number_of(labels[0])
    if 0 < start <= missing_before(first, chain):
        own = [one for one in range(1, first) if not (one == 10 and chain in _NO_POSITION_10)]
        return 0, [*map(str, own[-start:]), *labels]
    return start, labels


def _finish(labels: list[str], chain: str, room: int) -> list[str]:
    """The labels with those of the whole of framework 4, or of as much of it as there is room for.

    It has no insertions: 11 residues in heavy chains, 10 in light ones. The alignment ends too early where
    the last residues are mutated, and runs on into what follows where that is short.
    """
    begin = next((place for place, label in enumerate(labels) if number_of(label) >= _FWR4_START), None)
    if begin is None:
        return labels[:room]
    rest = range(number_of(labels[begin]), _LAST[chain] + 1)[: room - begin]
    return [*labels[:begin], *map(str, rest)]


def t_cell_receptor(sequence: str) -> str | None:
    """The letter of the T-cell receptor's chain, A, B, G or D, if the sequence has its variable domain."""
    text = _NOT_A_LETTER.sub("X", sequence)
    return next(
        (str(one.chain) for one in _annotator(T_CELL_RECEPTOR).number_domains(text) if one.chain), None
    )


def in_scheme(domain: Domain, sequence: str, scheme: Scheme) -> Domain:
    """The domain with the labels and the regions of another scheme."""
    if scheme == "imgt":
        return domain
    from immunum import regions_for

    result = _annotator(ANTIBODY, scheme).number(_NOT_A_LETTER.sub("X", sequence[domain.start : domain.end]))
    labels = list(result.numbering or ())
    before, length = result.query_start or 0, domain.end - domain.start
    first, last = number_of(labels[0]), number_of(labels[-1])
    labels = [*(str(max(1, first - before + place)) for place in range(before)), *labels]
    labels += [str(last + place) for place in range(1, length - len(labels) + 1)]
    ends = tuple(end for _, end in regions_for(scheme, domain.chain).values())
    return domain._replace(labels=tuple(labels), region_lengths=_region_lengths(tuple(labels), ends))
