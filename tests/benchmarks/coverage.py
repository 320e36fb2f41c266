"""Coverage of the intervals of a study's law: how often each holds what was simulated, at nominal 95 %.

python -m benchmarks.coverage [--studies 400] [--draws 400]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from support.simulated_runs import best_of_drawn, drawn_runs

from curr_ab.scaling import Doubt, Runs, fit_iso_data
from curr_ab.scaling.iso_data import estimate
from curr_ab.scaling.joint import BEST_SIZE, joint_fits
from curr_ab.scaling.uncertainty import NoOptimum


@dataclass(frozen=True)
class Design:
    """A study, and the noise of its cells in nats."""

    data: Sequence[int] = (8, 12, 18, 27, 40)
    num_sizes: int = 6
    draws: int = 3
    seeds: int = 1
    draw_sd: float = 0.07  # as in docs/study/report.md, where the next two are 0.12 together
    own_sd: float = 0.09
    seed_sd: float = 0.08

    @property
    def sizes(self) -> list[float]:
        """Sizes around the best ones, a factor of 2.5 apart."""
        middle = np.sqrt(best_of_drawn(self.data[0]) * best_of_drawn(self.data[-1]))
        return [float(middle * 2.5 ** (step - (self.num_sizes - 1) / 2)) for step in range(self.num_sizes)]

    def runs(self, seed: int) -> Runs:
        return drawn_runs(
            self.draws,
            self.seeds,
            self.draw_sd,
            self.own_sd,
            self.seed_sd,
            data=self.data,
            sizes=self.sizes,
            seed=seed,
        )

    def __str__(self) -> str:
        cells = self.num_sizes * len(self.data) * self.draws * self.seeds
        return (
            f"{cells} cells: {self.num_sizes} sizes, {len(self.data)} data sizes, {self.draws} draws, "
            f"{self.seeds} seeds; noise of draws {self.draw_sd}, sizes {self.own_sd}, seeds {self.seed_sd}"
        )


DESIGNS = (
    Design(data=(8, 18, 40), num_sizes=5, draws=1),
    Design(draws=1, seeds=2),
    Design(draws=2),
    Design(data=(8, 14, 24, 40), num_sizes=5, draws=3),
    Design(draws=5),
    Design(draws=3, seeds=2),
    Design(data=(12, 14, 17, 20), draws=5),  # much as the preset `small`
    Design(draws=3, own_sd=0.0, seed_sd=0.01),
)


def coverage(design: Design, num_studies: int, doubt: Doubt, joint: bool = True) -> Mapping[str, float]:
    """The share of laws whose interval holds the truth, by method and estimate; and of studies without."""
    sizes = [size for size in design.sizes for _ in design.data]
    truth = estimate(max(sizes), drawn_runs(draws=1, data=design.data, sizes=design.sizes))
    held: Counter[str] = Counter()
    for seed in range(num_studies):
        runs = design.runs(seed)
        try:
            fit = fit_iso_data(runs, doubt, project_to=max(sizes))
        except NoOptimum:
            held["no law"] += 1
            continue
        for spread in fit.spreads:
            method = spread.method.partition(" of sd")[0]
            for name, true in truth.items():
                interval = spread.interval(name)
                kind = "best size" if name.startswith("optimal") else name
                held[f"{method}: {kind}"] += interval.low <= true <= interval.high  # never, without one
        for one in joint_fits(runs) if joint else ():
            if one.law == BEST_SIZE:
                interval = one.intervals["growth"]
                held["joint fit: growth"] += interval.low <= 0.63 <= interval.high
    lost = held.pop("no law", 0)
    counts = {name: len(design.data) if name.endswith("best size") else 1 for name in held}
    shares = {name: count / counts[name] / (num_studies - lost) for name, count in held.items()}
    return {**shares, "no law": lost / num_studies} if lost else shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--draws", type=int, default=400)
    options = parser.parse_args()
    doubt = Doubt(draws=options.draws)
    for design in DESIGNS:
        print(f"{design}; {options.studies} studies", flush=True)
        for name, share in coverage(design, options.studies, doubt).items():
            error = (share * (1 - share) / options.studies) ** 0.5
            print(f"  {name:<50} {share:6.1%} +- {error:.1%}", flush=True)


if __name__ == "__main__":
    main()
