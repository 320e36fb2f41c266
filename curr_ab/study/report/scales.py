"""From values to places on paper: linear and logarithmic scales with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Values `low` to `high` lie at `start` to `end`."""

    low: float
    high: float
    start: float = 0.0
    end: float = 1.0
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(max(value, 1e-300))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def over(self, start: float, end: float) -> Scale:
        """The same values over other places."""
        return Scale(self.low, self.high, start, end, self.logarithmic)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def clamp(self, value: float) -> float:
        """The nearest value that the scale shows."""
        return min(max(value, self.low), self.high)

    def ticks(self, at_most: int = 6) -> list[float]:
        """Round values, evenly spread."""
        return self._powers(at_most) if self.logarithmic else self._steps(at_most)

    def _steps(self, at_most: int) -> list[float]:
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / at_most))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= at_most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]

    def _powers(self, at_most: int) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            found = [factor * 10.0**power for power in exponents for factor in factors]
            if len(shown := [value for value in found if self.holds(value)]) <= at_most:
                return shown if len(shown) > 2 else self._steps(at_most)
        return shown[:: math.ceil(len(shown) / at_most)]


def linear(values: Iterable[float], margin: float = 0.06, from_zero: bool = False) -> Scale:
    """A scale over the values with a margin at both ends."""
    found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = (0.0 if from_zero else min(found)), max(found)
    room = margin * ((high - low) or abs(high) or 1.0)
    return Scale(low if from_zero else low - room, high + room)


def logarithmic(values: Iterable[float], margin: float = 0.06) -> Scale:
    """The same on a logarithmic scale."""
    found = [math.log(value) for value in values if 0 < value < math.inf] or [0.0, 1.0]
    room = margin * ((max(found) - min(found)) or 1.0)
    return Scale(math.exp(min(found) - room), math.exp(max(found) + room), logarithmic=True)
