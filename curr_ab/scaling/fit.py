"""Result of every fit: estimates, residuals, uncertainty, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from curr_ab.scaling.runs import Array, Runs
from curr_ab.scaling.uncertainty import Influence, Spread


@dataclass(frozen=True)
class Profile:
    """Profile likelihood of one parameter: its deviance when all others are fitted again.

    The 95 % interval is where the deviance stays under 3.84; an end at infinity means that the runs do not
    bound the parameter on that side.
    """

    parameter: str
    values: Array
    deviance: Array
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """Law fitted to a table of runs."""

    law: str
    runs: Runs
    estimates: Mapping[str, float]
    residuals: Array  # measured minus fitted; in the unit that `residual_unit` names
    residual_unit: str
    spreads: tuple[Spread, ...]
    influences: tuple[Influence, ...]
    profiles: tuple[Profile, ...]
    warnings: tuple[str, ...]
