"""Sentences about the cells and their law, computed from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from curr_ab.benchmark import ladder
from curr_ab.quantities import format_quantity
from curr_ab.scaling.iso_data import IsoDataRecord, SpreadRecord, optimum_name
from curr_ab.scaling.uncertainty import Interval
from curr_ab.study.law import StudyLaw
from curr_ab.study.report.grid import (
    Grid,
    Spot,
    digits_of,
    loss_of,
    pairing_curves,
    pairing_of,
    rungs,
    written,
)
from curr_ab.study.summary import STATES, CellSummary, Estimate, StudySummary

_PROBE = "accuracy of telling native from shuffled pairs"
_MOST_LOST = 0.05  # share of draws without an optimum, above which an interval describes too few of them


def every_cell(summary: StudySummary) -> tuple[CellSummary, ...]:
    """Those of the grid, and those beside it."""
    return (*summary.cells, *summary.further_cells)


def status(summary: StudySummary) -> str:
    """Counts of cells by their state."""
    cells = every_cell(summary)
    counts = {state: sum(cell.state == state for cell in cells) for state in STATES}
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{len(cells)} cells: {words}."


def is_finished(summary: StudySummary) -> bool:
    return all(cell.state in ("done", "failed") for cell in every_cell(summary))


def findings(summary: StudySummary, grid: Grid) -> list[str]:
    """One sentence for each thing that can be said."""
    said = [
        _data_effect(grid),
        _best_sizes(grid),
        _together(grid),
        _best_on_the_way(summary),
        *(curve.sentence(_PROBE) for curve in pairing_curves(grid).values()),
        _against_baselines(summary, grid),
        _pairing(grid),
    ]
    return [sentence for sentence in said if sentence]


def _data_effect(grid: Grid) -> str | None:
    falling, clear, drops, exceptions = 0, 0, [], []
    for size in grid.sizes:
        found = [
            (data, estimate)
            for data in grid.data
            if (size, data) in grid.spots and (estimate := grid.estimate(grid.spots[size, data], loss_of))
        ]
        if len(found) < 2:
            continue
        rises = [f"{a} to {b}" for (a, less), (b, more) in pairwise(found) if more[0] >= less[0]]
        exceptions += [f"{grid.size_label(size)} from {rise}" for rise in rises]
        falling += not rises
        clear += all(_apart(less, more) for (_, less), (_, more) in pairwise(found)) and not rises
        drops.append(found[0][1][0] - found[-1][1][0])
    if not drops:
        return None
    effect = (
        f"More data lowered the held-out loss at every step for {falling} of {len(drops)} sizes, "
        f"for {clear} of them by more than two standard errors each time. From least to most data "
        f"{_fall(min(drops), max(drops))}."
    )
    return f"{effect} It did not fall for {', '.join(exceptions)}." if exceptions else effect


def _fall(least: float, most: float) -> str:
    if least > 0:
        return f"the loss fell by {least:.2g} to {most:.2g} nats"
    if most <= 0:
        return f"the loss fell for no size, and rose by up to {-least:.2g} nats"
    return f"the loss fell by up to {most:.2g} nats for some sizes and rose by up to {-least:.2g} for others"


def _apart(one: Estimate, other: Estimate) -> bool:
    return abs(one[0] - other[0]) > 2 * math.hypot(one[1], other[1])


def _best_on_the_way(summary: StudySummary) -> str | None:
    """How much lower the validation loss was at its best than at the last step."""
    curves = [[loss for _, loss in cell.held_out_curve] for cell in summary.cells if cell.state == "done"]
    gains = [curve[-1] - min(curve) for curve in curves if len(curve) > 1]
    if not gains:
        return None
    if not (better := [gain for gain in gains if gain > 0]):
        return f"On the validation pairs each of {len(gains)} cells was best at its last step."
    return (
        f"On the validation pairs {len(better)} of {len(gains)} cells were better on the way than at their "
        f"last step, which law and tables take: by {fmean(better):.2g} nats in the mean and "
        f"{max(better):.2g} at most."
    )


def _best_sizes(grid: Grid) -> str | None:
    best = [(data, spot) for data in grid.data if (spot := grid.best(data))]
    if len(best) < 2:
        return None
    near = {data: _near(grid, data, spot) for data, spot in best}
    sizes_by_data = ", ".join(
        grid.size_label(spot.first.size)
        + f" for {data}"
        + (f" ({_listed(grid, near[data])} within two standard errors)" if near[data] else "")
        for data, spot in best
    )
    sizes = [spot.first.parameters for _, spot in best]
    if all(small <= large for small, large in pairwise(sizes)) and sizes[0] < sizes[-1]:
        reading = "the best size grows with the data, as in the paper"
    elif len(set(sizes)) == 1:
        reading = "it is the same for all data, so these cells do not show it growing"
    else:
        reading = "it does not grow steadily with the data here"
    shared = [
        size for size in grid.sizes if all(size in {spot.first.size, *near[data]} for data, spot in best)
    ]
    if shared and len(set(sizes)) > 1:
        reading += f". But {_listed(grid, shared)} is as good within two standard errors with all data"
    return f"Among the sizes that were trained the lowest loss is at {sizes_by_data}: {reading}."


def _listed(grid: Grid, sizes: Sequence[str]) -> str:
    return ", ".join(map(grid.size_label, sizes))


def _near(grid: Grid, data: str, best: Spot) -> list[str]:
    """Sizes whose loss does not differ from the lowest."""
    lowest = grid.estimate(best, loss_of)
    assert lowest is not None
    row = grid.row(data)
    return [spot.first.size for spot, found in row if spot is not best and not _apart(found, lowest)]


def _together(grid: Grid) -> str | None:
    """Whether gains take size and data together, by the pairing accuracy, or else by the loss."""
    measures = (
        (rungs(grid, pairing_of), f"the {_PROBE}"),
        (rungs(grid, loss_of, -1.0), "minus the held-out loss"),
    )
    for own, what in measures:
        try:
            return f"{ladder.judge(own).sentence} The score is {what}."
        except ValueError:  # too few cells are measured
            continue
    return None


def _against_baselines(summary: StudySummary, grid: Grid) -> str | None:
    best = [(spot, found) for _, row in grid.rows() for spot, found in row]
    if not best or not summary.baselines:
        return None
    spot, (loss, error) = min(best, key=lambda found: found[1][0])
    lowest = written((loss, error), digits_of([(loss, error)]))
    name, floor = min(summary.baselines.items(), key=lambda item: item[1])
    where = "below" if loss < floor else "above"
    return (
        f"The lowest loss of {grid.counted(len(best))}, {lowest} nats "
        f"({spot.first.member}), is as unsure as a choice among {math.exp(loss):.1f} residues. The best "
        f"guess without a model, {name} frequencies, has {floor:.3f} ({math.exp(floor):.1f} residues): the "
        f"cell is {abs(floor - loss):.2f} nats {where} it."
    )


def _pairing(grid: Grid) -> str | None:
    found = [(spot, estimate) for _, row in grid.rows(pairing_of) for spot, estimate in row]
    if not found:
        return None
    spot, best = max(found, key=lambda item: item[1][0])
    clear = sum(value - 2 * error > 0.5 for _, (value, error) in found)
    return (
        f"Telling native from shuffled pairs, the best of {grid.counted(len(found))}, {spot.first.member}, "
        f"is right in {best[0]:.1%} ± {best[1]:.1%} of cases where chance is 50%; {clear} of them are more "
        "than two standard errors above chance."
    )


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


def judge(law: StudyLaw) -> Verdict:
    """Doubt the fit before it is quoted."""
    if law == StudyLaw():
        return Verdict(None, "The law is fitted when the cells are done.")
    if law.fit is None:
        return Verdict(False, "These cells do not determine a law.", (law.problem or "no fit",))
    if reasons := tuple(_doubts(law.fit)):
        return Verdict(
            False, "A law can be drawn through the optima, but these cells do not determine it.", reasons
        )
    bands = [f"{spread.method}: {_growth_band(spread)}" for spread in law.fit.spreads]
    return Verdict(
        True,
        f"Twice the data asks for about {_growth(law.fit.estimates['exponent'])} times the parameters "
        f"(95% of draws, {'; '.join(bands)}).",
    )


def _growth(exponent: float) -> str:
    """The factor by which twice the data multiply the parameters."""
    return f"{2 ** (1 / exponent):.3g}" if exponent > 0.001 else "unbounded"


def _growth_band(spread: SpreadRecord) -> str:
    found = spread.interval("exponent")
    assert found is not None  # else it would be doubted
    return f"{_growth(found.high)} to {_growth(found.low)} times"


def remarks(law: StudyLaw) -> tuple[str, ...]:
    """The sentences that belong to the fit; its own warnings where there are none."""
    return law.remarks or (() if law.fit is None else law.fit.warnings)


def _doubts(fit: IsoDataRecord) -> Iterator[str]:
    """Reasons in the fit itself, then by every way in which its uncertainty was measured."""
    parabolas = sorted(fit.parabolas.items())
    for pairs, parabola in parabolas:
        if not parabola.inside:
            yield (
                f"With {pairs:,} pairs the optimum ({format_quantity(parabola.optimum)} "
                "parameters) lies outside the sizes that were trained: it is an extrapolation."
            )
    for (less, before), (more, after) in pairwise(parabolas):
        if after.optimum < before.optimum:
            yield (
                f"The best size falls from {format_quantity(before.optimum)} with {less:,} pairs to "
                f"{format_quantity(after.optimum)} with {more:,}."
            )
    if fit.estimates["exponent"] <= 0:
        yield "The best size does not grow with the data."
    for spread in fit.spreads:
        yield from _doubts_of_draws(fit, spread)


def _doubts_of_draws(fit: IsoDataRecord, spread: SpreadRecord) -> Iterator[str]:
    how = f"({spread.method})"
    if (found := spread.interval("exponent")) is None:
        yield f"No draw of the uncertainty {how} gave a law."
        return
    if found.low <= 0 < fit.estimates["exponent"]:
        yield f"By the band {how}, the best size may as well shrink as grow with the data."
    if (lost := spread.share_without_optimum) > _MOST_LOST:
        yield f"{lost:.0%} of the draws {how} have no optimum: too many for an interval."
    beyond = []
    for pairs, parabola in fit.parabolas.items():
        between = spread.interval(optimum_name(pairs))
        if between and not parabola.smallest <= between.low <= between.high <= parabola.largest:
            beyond.append(f"{pairs:,}")
    if beyond:
        yield (
            f"With {', '.join(beyond)} pairs the interval of the best size {how} reaches outside the sizes "
            "that were trained."
        )


def worth(num_data: int) -> str:
    """Say how much a power law through so few points is worth."""
    left = {2: "none is", 3: "one point is"}.get(num_data, f"{num_data - 2} points are")
    return (
        f"A power law has two unknowns, and {num_data} data sets give it {num_data} optima, so {left} left "
        "to test it. Each optimum is itself an estimate: the lowest point of a parabola through a few "
        "losses. Read such a law as a direction (does more data want bigger models, and roughly how fast), "
        "not as a number to plan a budget by. More sizes around each optimum, more data sets and more seeds "
        "make it firmer."
    )


def law_rows(fit: IsoDataRecord) -> list[tuple[str, ...]]:
    """The name, the value and the 95% intervals of each estimate; last, the share of draws without any."""
    names = {"coefficient": "coefficient", "exponent": "exponent of the size"}
    size = format_quantity(fit.project_to)
    names["projected_sequences"] = f"pairs for which {size} parameters are the best size"
    names |= {optimum_name(pairs): f"best size for {pairs:,} pairs" for pairs in fit.parabolas}
    rows = [
        (
            label,
            format_quantity(fit.estimates[name]),
            *(_band(spread.interval(name)) for spread in fit.spreads),
        )
        for name, label in names.items()
    ]
    lost = [f"{spread.share_without_optimum:.1%}" for spread in fit.spreads]
    return [*rows, ("draws without an optimum", "", *lost)]


def _band(found: Interval | None) -> str:
    if found is None:
        return "not determined"
    return f"{format_quantity(found.low)} to {format_quantity(found.high)}"
