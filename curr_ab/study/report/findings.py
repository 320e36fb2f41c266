"""What the cells show, in sentences that are computed from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from curr_ab.study.report.grid import Grid, Spot, digits_of, loss_of, pairing_of, written
from curr_ab.study.summary import STATES, Estimate, StudySummary


def status(summary: StudySummary) -> str:
    """How many cells are where."""
    counts = {state: sum(cell.state == state for cell in summary.cells) for state in STATES}
    told = [f"{count} {state}" for state, count in counts.items() if count]
    return f"{len(summary.cells)} cells: {', '.join(told)}."


def is_finished(summary: StudySummary) -> bool:
    return all(cell.state in ("done", "failed") for cell in summary.cells)


def findings(summary: StudySummary, grid: Grid) -> list[str]:
    """One sentence for each thing that can be said."""
    said = [_data_effect(grid), _best_sizes(grid), _against_baselines(summary, grid), _pairing(grid)]
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
    told = (
        f"More data lowered the held-out loss at every step for {falling} of {len(drops)} sizes, "
        f"for {clear} of them by more than two standard errors each time. From least to most data "
        f"{_fall(min(drops), max(drops))}."
    )
    return f"{told} It did not fall for {', '.join(exceptions)}." if exceptions else told


def _fall(least: float, most: float) -> str:
    if least > 0:
        return f"the loss fell by {least:.2g} to {most:.2g} nats"
    if most <= 0:
        return f"the loss fell for no size, and rose by up to {-least:.2g} nats"
    return f"the loss fell by up to {most:.2g} nats for some sizes and rose by up to {-least:.2g} for others"


def _apart(one: Estimate, other: Estimate) -> bool:
    return abs(one[0] - other[0]) > 2 * math.hypot(one[1], other[1])


def _best_sizes(grid: Grid) -> str | None:
    best = [(data, spot) for data in grid.data if (spot := grid.best(data))]
    if len(best) < 2:
        return None
    near = {data: _near(grid, data, spot) for data, spot in best}
    told = ", ".join(
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
    return f"Among the sizes that were trained the lowest loss is at {told}: {reading}."


def _listed(grid: Grid, sizes: Sequence[str]) -> str:
    return ", ".join(map(grid.size_label, sizes))


def _near(grid: Grid, data: str, best: Spot) -> list[str]:
    """Sizes whose loss does not differ from the lowest."""
    lowest = grid.estimate(best, loss_of)
    assert lowest is not None
    row = grid.row(data)
    return [spot.first.size for spot, found in row if spot is not best and not _apart(found, lowest)]


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
