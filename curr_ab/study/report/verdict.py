"""What the fitted law is worth, in words: identifiable or not, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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


def interval(spread: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """The 95% interval of an estimate, by one way in which its doubt was measured."""
    found = spread["intervals"].get(name)
    if found is None or found["low"] is None or found["high"] is None:
        return None
    return float(found["low"]), float(found["high"])


def drawn_spread(law: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spread whose intervals the figures show; the fit's own band is of the last one, too."""
    spread: Mapping[str, Any] = law["spreads"][-1]
    return spread


def optimum_interval(law: Mapping[str, Any], pairs: int) -> tuple[float, float] | None:
    return interval(drawn_spread(law), optimum_name(pairs))


def is_fitted(law: Mapping[str, Any]) -> bool:
    return "estimates" in law


def judge(law: Mapping[str, Any]) -> Verdict:
    """The fit is doubted before it is quoted."""
    if not law:
        return Verdict(None, "The law is fitted when the cells are done.")
    if not is_fitted(law):
        return Verdict(False, "These cells do not determine a law.", (str(law.get("problem", "no fit")),))
    if reasons := tuple(_doubts(law)):
        return Verdict(
            False, "A law can be drawn through the optima, but these cells do not determine it.", reasons
        )
    bands = [f"{spread['method']}: {_growth_band(spread)}" for spread in law["spreads"]]
    return Verdict(
        True,
        f"Twice the data asks for about {_growth(law['estimates']['exponent'])} times the parameters "
        f"(95% of draws, {'; '.join(bands)}).",
    )


def _growth(exponent: float) -> str:
    """How many times the parameters twice the data ask for."""
    return f"{2 ** (1 / exponent):.3g}" if exponent > 0.001 else "unbounded"


def _growth_band(spread: Mapping[str, Any]) -> str:
    found = interval(spread, "exponent")
    assert found is not None  # else it would be doubted
    least, most = (_growth(exponent) for exponent in reversed(found))
    return f"{least} to {most} times"


def remarks(law: Mapping[str, Any]) -> Sequence[str]:
    """What those who fitted it say of the fit; the fit's own warnings where they say nothing."""
    found: Sequence[str] = law.get("remarks") or law.get("warnings") or ()
    return found


def _doubts(law: Mapping[str, Any]) -> Iterator[str]:
    """Of the fit itself, then by every way in which its uncertainty was measured."""
    parabolas = sorted((int(pairs), parabola) for pairs, parabola in law["parabolas"].items())
    for pairs, parabola in parabolas:
        if not parabola["smallest"] <= parabola["optimum"] <= parabola["largest"]:
            yield (
                f"With {pairs:,} pairs the optimum ({format_quantity(parabola['optimum'])} "
                "parameters) lies outside the sizes that were trained: it is an extrapolation."
            )
    for (less, before), (more, after) in pairwise(parabolas):
        if after["optimum"] < before["optimum"]:
            yield (
                f"The best size falls from {format_quantity(before['optimum'])} with {less:,} pairs to "
                f"{format_quantity(after['optimum'])} with {more:,}."
            )
    if law["estimates"]["exponent"] <= 0:
        yield "The best size does not grow with the data."
    for spread in law["spreads"]:
        yield from _doubts_of_draws(law, spread)


def _doubts_of_draws(law: Mapping[str, Any], spread: Mapping[str, Any]) -> Iterator[str]:
    how = f"({spread['method']})"
    if (found := interval(spread, "exponent")) is None:
        yield f"No draw of the uncertainty {how} gave a law."
        return
    if found[0] <= 0 < law["estimates"]["exponent"]:
        yield f"By the band {how}, the best size may as well shrink as grow with the data."
    if (lost := spread["share_without_optimum"]) > _MOST_LOST:
        yield f"{lost:.0%} of the draws {how} have no optimum; their intervals describe only the others."
    beyond = []
    for pairs, parabola in law["parabolas"].items():
        between = interval(spread, optimum_name(int(pairs)))
        if between and not parabola["smallest"] <= between[0] <= between[1] <= parabola["largest"]:
            beyond.append(f"{int(pairs):,}")
    if beyond:
        yield (
            f"With {', '.join(beyond)} pairs the interval of the best size {how} reaches outside the sizes "
            "that were trained."
        )


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


def law_rows(law: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What, its value, and its 95% interval by each of the spreads; last, what their draws lack."""
    names = {"coefficient": "coefficient", "exponent": "exponent of the size"}
    names["projected_sequences"] = (
        f"pairs for which {format_quantity(law['project_to'])} parameters are the best size"
    )
    for pairs in law["parabolas"]:
        names[optimum_name(int(pairs))] = f"best size for {int(pairs):,} pairs"
    rows: list[tuple[str, ...]] = []
    for name, label in names.items():
        found = [interval(spread, name) for spread in law["spreads"]]
        bands = [
            "not determined" if band is None else " to ".join(map(format_quantity, band)) for band in found
        ]
        rows.append((label, format_quantity(law["estimates"][name]), *bands))
    lost = [f"{spread['share_without_optimum']:.1%}" for spread in law["spreads"]]
    return [*rows, ("draws without an optimum", "", *lost)]
