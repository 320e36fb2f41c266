"""The cells of a study by size and data, with the mean over draws and seeds where there are several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from statistics import fmean, median, variance

from curr_ab.benchmark.ladder import Rung
from curr_ab.benchmark.threshold import Against, ScoreCurve, fit_curves
from curr_ab.quantities import format_quantity, format_value
from curr_ab.study.summary import CellSummary, Estimate, StudySummary

Measure = Callable[[CellSummary], Estimate | None]


def loss_of(cell: CellSummary) -> Estimate | None:
    """Held-out loss; an error that nobody measured is no error bar."""
    return None if cell.loss is None else (cell.loss, cell.standard_error or 0.0)


@cache  # one measure for each region, by which its noise is kept
def region_of(region: str) -> Measure:
    return lambda cell: cell.region_losses.get(region)


def pairing_of(cell: CellSummary) -> Estimate | None:
    return cell.pairing


def throughput_of(cell: CellSummary) -> Estimate | None:
    return None if cell.tokens_per_second is None else (cell.tokens_per_second, 0.0)


def minutes_of(cell: CellSummary) -> Estimate | None:
    return None if cell.seconds is None else (cell.seconds / 60, 0.0)


_RATES = (throughput_of, minutes_of)


@dataclass(frozen=True)
class Spot:
    """All cells of one size and one data set: one for each draw and seed."""

    cells: tuple[CellSummary, ...]

    @property
    def first(self) -> CellSummary:
        return self.cells[0]

    @property
    def done(self) -> tuple[CellSummary, ...]:
        return tuple(cell for cell in self.cells if cell.state == "done")

    def measured(self, measure: Measure) -> list[Estimate]:
        """Values of the draws that are done, each the mean over its seeds; with one draw, of the seeds."""
        found = [(cell.draw, value) for cell in self.done if (value := measure(cell)) is not None]
        if not any(draw for draw, _ in found):
            return [value for _, value in found]
        draws = [[value for other, value in found if other == draw] for draw in dict(found)]
        return [(fmean(value for value, _ in values), values[0][1]) for values in draws]

    @property
    def label(self) -> str:
        """The cell in a few words, for those who point at it."""
        cell = self.first
        return f"{cell.member} ({cell.shape}, {format_quantity(cell.parameters)} parameters)"


@dataclass(frozen=True)
class Grid:
    """Sizes and data sets, each small to large."""

    spots: dict[tuple[str, str], Spot]
    # Every number of the report asks for the noise of its measure.
    _noises: dict[Measure, float | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def sizes(self) -> tuple[str, ...]:
        return self._ordered(lambda cell: (cell.size, cell.parameters))

    @cached_property
    def data(self) -> tuple[str, ...]:
        return self._ordered(lambda cell: (cell.data, cell.pairs))

    def _ordered(self, key: Callable[[CellSummary], tuple[str, int]]) -> tuple[str, ...]:
        found = dict(key(spot.first) for spot in self.spots.values())
        return tuple(sorted(found, key=found.__getitem__))

    def _example(self, size: str) -> CellSummary:
        return next(spot.first for (name, _), spot in self.spots.items() if name == size)

    def parameters(self, size: str) -> int:
        return self._example(size).parameters

    def size_label(self, size: str) -> str:
        """The true number of parameters: in a rehearsal a member's name is not its size."""
        return format_quantity(self.parameters(size))

    def long_size_label(self, size: str) -> str:
        cell = self._example(size)
        return " · ".join(dict.fromkeys((self.size_label(size), cell.shape, size)))

    def pairs(self, data: str) -> int:
        return next(spot.first.pairs for (_, name), spot in self.spots.items() if name == data)

    def data_label(self, data: str) -> str:
        return f"{data} · {self.pairs(data):,} pairs"

    def noise(self, measure: Measure) -> float | None:
        """Standard deviation between draws, or seeds, pooled over cells; None of rates and without repeats.

        Two repeats of one cell do not know their own scatter: by luck it may be 0.
        """
        if measure not in self._noises:
            self._noises[measure] = self._pooled(measure)
        return self._noises[measure]

    def _pooled(self, measure: Measure) -> float | None:
        if measure in _RATES:  # the noise of a rate grows with it
            return None
        repeats = [[value for value, _ in spot.measured(measure)] for spot in self.spots.values()]
        repeats = [values for values in repeats if len(values) > 1 and all(map(math.isfinite, values))]
        freedom = sum(len(values) - 1 for values in repeats)
        squares = sum(variance(values) * (len(values) - 1) for values in repeats)
        return math.sqrt(squares / freedom) if freedom else None

    def estimate(self, spot: Spot, measure: Measure) -> Estimate | None:
        """The mean over draws and seeds; its standard error is of their noise, without repeats its own."""
        estimates = spot.measured(measure)
        if not estimates:
            return None
        noise, count = self.noise(measure), len(estimates)
        error = noise / math.sqrt(count) if noise else 0.0 if count > 1 else estimates[0][1]
        return fmean(value for value, _ in estimates), error

    @property
    def kind_of_error(self) -> str:
        """The source of the standard errors of losses, in words."""
        if self.noise(loss_of) is None:
            return "over held-out pairs"
        return f"of the scatter between {'draws' if self.draws > 1 else 'seeds'}, pooled over all cells"

    def row(self, data: str, measure: Measure = loss_of) -> list[tuple[Spot, Estimate]]:
        """Values that were measured with one data set, small sizes first."""
        spots = [self.spots[size, data] for size in self.sizes if (size, data) in self.spots]
        return [(spot, found) for spot in spots if (found := self.estimate(spot, measure)) is not None]

    def rows(self, measure: Measure = loss_of) -> Iterator[tuple[str, list[tuple[Spot, Estimate]]]]:
        return ((data, self.row(data, measure)) for data in self.data)

    def best(self, data: str) -> Spot | None:
        """The size with the lowest loss among those that are done."""
        row = self.row(data)
        return min(row, key=lambda found: found[1][0])[0] if row else None

    @property
    def draws(self) -> int:
        """The most draws of the pairs that any cell has."""
        return max(len({cell.draw for cell in spot.cells}) for spot in self.spots.values())

    @property
    def repeats(self) -> str:
        """The repeats of a cell in words, such as "3 draws, 2 seeds"; empty where there are none."""
        most = max(len(spot.cells) for spot in self.spots.values())
        counts = {"draws": self.draws, "seeds": -(-most // self.draws)}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count > 1)

    @property
    def repeated_over(self) -> str:
        """The names of the repeats, such as "draws and seeds"."""
        return " and ".join(word.split()[1] for word in self.repeats.split(", ") if word)

    def counted(self, number: int) -> str:
        """`number` sizes with their data, in words."""
        return f"{number} cells" + f" (means over {self.repeated_over})" * bool(self.repeats)


def make_grid(summary: StudySummary) -> Grid:
    """The cells of a summary by (size, data)."""
    spots: dict[tuple[str, str], tuple[CellSummary, ...]] = {}
    for cell in sorted(summary.cells, key=lambda cell: (cell.draw, cell.seed)):
        spots[cell.size, cell.data] = (*spots.get((cell.size, cell.data), ()), cell)
    return Grid({name: Spot(cells) for name, cells in spots.items()})


def rungs(grid: Grid, measure: Measure, sign: float = 1.0) -> list[Rung]:
    """The measured cells, each seed by itself, as a ladder of size and data takes them."""
    return [
        Rung(
            name=cell.member,
            parameters=cell.parameters,
            pairs=cell.pairs,
            score=sign * found[0],
            error=found[1],
            loss=cell.loss,
        )
        for spot in grid.spots.values()
        for cell in spot.done
        if (found := measure(cell)) is not None and math.isfinite(found[0])
    ]


def pairing_curves(grid: Grid) -> Mapping[Against, ScoreCurve]:
    """The accuracy of the pairing probe as curves of loss and size."""
    return _curves(tuple(rungs(grid, pairing_of)))


@lru_cache(maxsize=4)  # findings and pictures, of the page and of its twin, ask for the same ones
def _curves(measured: tuple[Rung, ...]) -> Mapping[Against, ScoreCurve]:
    return fit_curves(measured)


def written(estimate: Estimate, digits: int) -> str:
    """A value with its standard error, where it has one."""
    value, error = estimate
    return format_value(value, error or None, digits=digits)


def digits_of(estimates: Sequence[Estimate]) -> int:
    """Number of decimals that a usual standard error is worth: two of its digits."""
    errors = [error for _, error in estimates if error > 0]
    return min(max(math.ceil(-math.log10(median(errors))) + 1, 3), 5) if errors else 3
