"""Positions of a pair that a design may change, and the residues that may be put in at each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, get_args

from curr_ab.domains import Scheme, number_of
from curr_ab.inference.numbering import Numbering
from curr_ab.inference.records import Record, number_records
from curr_ab.inference.settings import PARTS, DesignPlan
from curr_ab.options import OptionError, unknown
from curr_ab.words import CHAIN_REGIONS, CHAINS, REGIONS, STANDARD_RESIDUES

ESSENTIAL = ("23", "41", "104", "118")  # of IMGT: both cysteines, the tryptophan of the core, and that of J
_SCHEMES = get_args(Scheme)
_PLACES = re.compile(r"(?P<chain>[HL]):(?P<wild_type>[A-Z]?)(?P<first>\d+)(?:-(?P<last>\d+))?")
_LABELS = re.compile(
    rf"(?P<chain>[HL]):(?P<scheme>{'|'.join(_SCHEMES)}):(?P<first>\d+[A-Z]*)(?:-(?P<last>\d+))?"
)
_ALLOWED_AT = re.compile(r"(?P<site>[^=]+)=(?P<residues>[^=]+)")


class Choice(NamedTuple):
    """A position that may change."""

    chain: str
    position: int  # from 1
    wild_type: str
    residues: str  # that may be put in; others than the one that stands there


def choices_of(record: Record, plan: DesignPlan) -> list[Choice]:
    """The positions of a record that may change; an error says what stands where it cannot be as asked."""
    return _Sites(record).choices(plan)


def check_positions(plan: DesignPlan) -> None:
    """Refuse what no record could have."""
    for field in ("positions", "excluded"):
        for text in getattr(plan, field):
            _check_text(text, field)
    for text in plan.allowed_at:
        if "C" in _allowed_at(text)[1] and plan.keep_cysteines:
            message = f"allowed_at must be without C while keep_cysteines adds no cysteine; got {text!r}"
            raise OptionError(message, "allowed_at", "keep_cysteines")


class _Sites:
    """Residues of a record, by chain and place from 0, in the schemes that are asked for."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.texts = {chain: text for chain in CHAINS if (text := record.chain(chain))}
        if "<mask>" in "".join(self.texts.values()):
            raise ValueError(f"{record.name} must have no <mask> to be changed; complete it with restore")
        self._numbers: dict[str, dict[str, Numbering]] = {}

    def numbering(self, chain: str, scheme: Scheme = "imgt") -> Numbering:
        if scheme not in self._numbers:
            try:
                self._numbers[scheme] = number_records([self.record], scheme)[0][1]
            except ValueError as error:
                raise OptionError(
                    f"{error}; or change it without numbering (--no-keep-essential, positions such as H:30)",
                    "keep_essential",
                ) from error
        return self._numbers[scheme][chain]

    def choices(self, plan: DesignPlan) -> list[Choice]:
        wanted = self.all_of(plan.positions, "positions") - self.all_of(plan.excluded, "excluded")
        limits: dict[tuple[str, int], str] = {}
        for text in plan.allowed_at:
            site, residues = _allowed_at(text)
            for one in self.of(site, "allowed_at"):
                reason = (
                    self.kept(*one, plan)
                    or "is not among the positions" * (one not in wanted)
                    or "has been given residues before" * (one in limits)
                )
                if reason:
                    chain, place = one
                    stands = f"{self.texts[chain][place]} at position {place + 1} of the {chain} chain"
                    raise OptionError(
                        f"{self.record.name}: {text}: {stands} {reason}; name another position",
                        "allowed_at",
                    )
                limits[one] = residues
        out = []
        for chain, text in self.texts.items():
            for place, residue in enumerate(text):
                if (chain, place) not in wanted or self.kept(chain, place, plan):
                    continue
                barred = residue + "C" * plan.keep_cysteines
                allowed = limits.get((chain, place), plan.allowed)
                if residues := "".join(
                    one for one in STANDARD_RESIDUES if one in allowed and one not in barred
                ):
                    out.append(Choice(chain, place + 1, residue, residues))
        least, _ = plan.num_mutations()
        if len(out) < least:
            raise OptionError(
                f"{self.record.name} has {len(out)} positions that may change; mutations must be no more; "
                f"got {plan.mutations}",
                "mutations",
                "positions",
            )
        if plan.n > 1 and plan.min_distance > len(out):
            message = (
                f"{self.record.name} has {len(out)} positions that may change; min_distance must be no more"
            )
            raise OptionError(f"{message}; got {plan.min_distance}", "min_distance", "positions")
        return out

    def kept(self, chain: str, place: int, plan: DesignPlan) -> str:
        """The reason why a residue stays as it is."""
        residue = self.texts[chain][place]
        if residue not in STANDARD_RESIDUES:
            return "stands for no one residue"
        if plan.keep_cysteines and residue == "C":
            return "is a cysteine, which keep_cysteines keeps"
        if plan.keep_essential and (label := self.numbering(chain).labels[place]) in ESSENTIAL:
            return f"is IMGT's {label}, which keep_essential keeps"
        return ""

    def all_of(self, texts: Iterable[str], field: str) -> set[tuple[str, int]]:
        return {one for text in texts for one in self.of(text, field)}

    def of(self, text: str, field: str) -> Sequence[tuple[str, int]]:
        """Chain and place of what a text such as H:30-35 or CDRH3 names."""
        _check_text(text, field)
        if match := _PLACES.fullmatch(text):
            return self._places(text, match, field)
        if match := _LABELS.fullmatch(text):
            return self._labels(text, match, field)
        if text in ("pair", *CHAINS):
            chains = [chain for chain in self.texts if text in ("pair", chain)]
            return [(chain, place) for chain in chains for place in range(len(self.texts[chain]))]
        out = []
        for chain, residues in self.texts.items():
            mask = self.record.region_mask(chain) or self.numbering(chain).region_mask
            if len(mask) != len(residues):
                message = f"the region mask of the {chain} chain is not as long as the chain"
                raise ValueError(f"{self.record.name}: {message}")
            for place, code in enumerate(mask):
                region = REGIONS[int(code) - 1]
                own = f"{region[:3]}{chain[0].upper()}{region[3]}"
                if text in (own, f"{region[:3]}s"):
                    out.append((chain, place))
        return out

    def _places(self, text: str, match: re.Match[str], field: str) -> Sequence[tuple[str, int]]:
        chain, residues = self._chain(match["chain"], text, field)
        first, last = int(match["first"]), int(match["last"] or match["first"])
        if not 1 <= first <= last <= len(residues):
            raise OptionError(
                f"{text}: the position must be from 1 to {len(residues)}, the end of the {chain} chain of "
                f"{self.record.name}, where {residues[-1]} stands",
                field,
            )
        if match["wild_type"] and (residue := residues[first - 1]) != match["wild_type"]:
            raise OptionError(
                f"{text}: position {first} of the {chain} chain of {self.record.name} is {residue}, not "
                f"{match['wild_type']}",
                field,
            )
        return [(chain, place) for place in range(first - 1, last)]

    def _labels(self, text: str, match: re.Match[str], field: str) -> Sequence[tuple[str, int]]:
        chain, residues = self._chain(match["chain"], text, field)
        labels = self.numbering(chain, match["scheme"]).labels  # type: ignore[arg-type]
        if match["last"] is None:
            places = [place for place, label in enumerate(labels) if label == match["first"]]
        else:
            first, last = number_of(match["first"]), int(match["last"])
            # 100A-102 begins at that very residue, 100-102 with all insertions of 100.
            inserted = not match["first"].isdigit() and match["first"] in labels
            begin = labels.index(match["first"]) if inserted else 0
            places = [
                place
                for place, label in enumerate(labels)
                if label and place >= begin and first <= number_of(label) <= last
            ]
        if not places:
            known = [place for place, label in enumerate(labels) if label]
            wanted = number_of(match["first"])
            near = min(known, key=lambda place: abs(number_of(labels[place]) - wanted))
            raise OptionError(
                f"{text}: the {chain} chain of {self.record.name} has no residue there; the nearest is "
                f"{residues[near]} at {labels[near]}",
                field,
            )
        return [(chain, place) for place in places]

    def _chain(self, letter: str, text: str, field: str) -> tuple[str, str]:
        chain = "heavy" if letter == "H" else "light"
        if chain not in self.texts:
            raise OptionError(f"{text}: {self.record.name} has no {chain} chain", field)
        return chain, self.texts[chain]


_NAMES = (*PARTS, "CDRs", "FWRs")
assert set(CHAIN_REGIONS) < set(_NAMES)


def _check_text(text: str, field: str) -> None:
    places = _PLACES.fullmatch(text)
    if places and places["wild_type"] and places["last"]:
        raise OptionError(f"{field} must name a residue at one position only; got {text!r}", field)
    match = places or _LABELS.fullmatch(text)
    if match and match["last"] and int(match["last"]) < number_of(match["first"]):
        raise OptionError(f"{field} must name the smaller position of a range first; got {text!r}", field)
    if match is None and text not in _NAMES:
        if ":" in text:
            example = "H:30-35, H:Y32, L:50 or H:imgt:105-117"
            raise OptionError(f"{field} must be like {example}; got {text!r}", field)
        raise OptionError(unknown("part of a pair", text, _NAMES), field)


def _allowed_at(text: str) -> tuple[str, str]:
    match = _ALLOWED_AT.fullmatch(text)
    if match is None or ":" not in match["site"] or set(match["residues"]) - set(STANDARD_RESIDUES):
        example = f"H:101=AVL, with residues of {STANDARD_RESIDUES}"
        raise OptionError(f"allowed_at must be like {example}; got {text!r}", "allowed_at")
    _check_text(match["site"], "allowed_at")
    return match["site"], match["residues"]
