"""Options of the fits, apart from the fits themselves, which load numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from curr_ab.options import check_types, option

DataColumn = Literal["sequences", "unique_tokens", "seen_tokens"]


@dataclass(frozen=True)
class Doubt:
    """Options of the uncertainty; `workers` changes the time only, never a number."""

    # 19 draws and fewer have no 2.5 % quantile.
    draws: int = option(1000, "Number of draws for the 95 % intervals", least=20)
    noise_sd: float | None = option(
        None,
        "Standard deviation of a loss between equal runs, in nats",
        shown="estimated from runs that differ in nothing but the seed",
        flag="noise",
        metavar="NATS",
        above=0,
    )
    seed: int = option(0, "Seed of the random draws", least=0)
    workers: int = option(1, "Number of processes", least=1)
    progress: bool = False

    def __post_init__(self) -> None:
        check_types(self)
