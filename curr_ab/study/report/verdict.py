"""What the fitted law is worth, in words: identifiable or not, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curr_ab.scaling.iso_data import optimum_name
from curr_ab.scaling.quantities import format_quantity

_MOST_LOST = 0.05  # share of draws without an optimum, above which an interval describes too few of them


@dataclass(frozen=True)
class Verdict:
    """`headline` says it in one sentence, `reasons` why; `identifiable` is None before there is a fit."""

    identifiable: bool | None
    headline: str
    reasons: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        names = {None: "No law yet", True: "Identifiable, within its band", False: "Not identifiable"}
        return names[self.identifiable]


def interval(law: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """The 95% interval of an estimate, by the last way in which its doubt was measured."""
    found = law["spreads"][-1]["intervals"].get(name)
    if found is None or found["low"] is None or found["high"] is None:
        return None
    return float(found["low"]), float(found["high"])


def optimum_interval(law: Mapping[str, Any], pairs: int) -> tuple[float, float] | None:
    return interval(law, optimum_name(pairs))


def is_fitted(law: Mapping[str, Any]) -> bool:
    return "estimates" in law


def judge(law: Mapping[str, Any]) -> Verdict:
    """The fit is doubted before it is quoted."""
    if not law:
        return Verdict(None, "The law is fitted when the cells are done.")
    if not is_fitted(law):
        return Verdict(False, "These cells do not determine a law.", (str(law.get("problem", "no fit")),))
    reasons = tuple(_doubts(law))
    exponent = law["estimates"]["exponent"]
    if not reasons:
        low, high = interval(law, "exponent") or (exponent, exponent)
        growth, least, most = (2 ** (1 / e) for e in (exponent, high, low))
        return Verdict(
            True,
            f"Twice the data asks for about {growth:.3g} times the parameters "
            f"(95% of draws: {least:.3g} to {most:.3g} times).",
        )
    return Verdict(
        False, "A law can be drawn through the optima, but these cells do not determine it.", reasons
    )


def remarks(law: Mapping[str, Any]) -> Sequence[str]:
    """What those who fitted it say of the fit; the fit's own warnings where they say nothing."""
    found: Sequence[str] = law.get("remarks") or law.get("warnings") or ()
    return found


def _doubts(law: Mapping[str, Any]) -> list[str]:
    reasons = []
    spread = law["spreads"][-1]
    for pairs, parabola in law["parabolas"].items():
        if not parabola["smallest"] <= parabola["optimum"] <= parabola["largest"]:
            reasons.append(
                f"With {int(pairs):,} pairs the optimum ({format_quantity(parabola['optimum'])} "
                "parameters) lies outside the sizes that were trained: it is an extrapolation."
            )
    if law["estimates"]["exponent"] <= 0:
        reasons.append("The best size does not grow with the data.")
    elif (found := interval(law, "exponent")) is None:
        reasons.append("No draw of the uncertainty gave a law.")
    elif found[0] <= 0:
        reasons.append("By the band, the best size may as well shrink as grow with the data.")
    if (lost := spread["share_without_optimum"]) > _MOST_LOST:
        reasons.append(
            f"{lost:.0%} of the draws ({spread['method']}) have no optimum; the band shows only the others."
        )
    return reasons


def worth(num_data: int) -> str:
    """What a power law through so few points can say at all."""
    left = num_data - 2
    tested = {0: "none is left to test it", 1: "one point is left to test it"}.get(
        left, f"{left} points are left to test it"
    )
    return (
        f"A power law has two unknowns, and {num_data} data sets give it {num_data} optima, so {tested}. "
        "Each optimum is itself an estimate: the lowest point of a parabola through a few losses. Read "
        "such a law as a direction (does more data want bigger models, and roughly how fast), not as a "
        "number to plan a budget by. More sizes around each optimum, more data sets and more seeds make "
        "it firmer."
    )


def law_rows(law: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, value, 95% interval) of every estimate."""
    names = {"coefficient": "coefficient", "exponent": "exponent of the size"}
    names["projected_sequences"] = (
        f"pairs for which {format_quantity(law['project_to'])} parameters are the best size"
    )
    for pairs in law["parabolas"]:
        names[optimum_name(int(pairs))] = f"best size for {int(pairs):,} pairs"
    rows = []
    for name, label in names.items():
        found = interval(law, name)
        band = "not determined" if found is None else " to ".join(map(format_quantity, found))
        rows.append((label, format_quantity(law["estimates"][name]), band))
    return rows
