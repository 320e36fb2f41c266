"""Published figures beside our own, for all that can be computed from data in the package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from curr_ab.published import PAPER, REPOSITORY
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.iso_data import estimate, fit_parabolas, optimum_name, power_law, project
from curr_ab.scaling.laws import (
    CHENG,
    CHENG_CLM,
    CHENG_CLM_JOINT,
    CHENG_MLM,
    CHENG_MLM_JOINT,
    DATA_CONSTRAINED,
    DATA_CONSTRAINED_LAW,
    PAPER_LAW,
    SERRANO,
    SERRANO_PERPLEXITY,
    SERRANO_PLATEAU_LOSS,
)
from curr_ab.scaling.runs import Array, Runs, published_runs
from curr_ab.scaling.uncertainty import Spread, propagate_noise

_READ_OFF = f"{PAPER}; losses read off its figure"
_NOISE = f"noise on the 11 losses of {PAPER}"
DRAWS = 10_000  # the ends of the paper's intervals need many: at 1,000 draws they move by 10 %


@dataclass(frozen=True)
class Reproduced:
    """Published figure beside ours."""

    figure: str
    source: str
    published: float
    ours: float

    @property
    def difference(self) -> float:
        """Relative to the published figure."""
        return self.ours / self.published - 1


def reproduce(doubt: Doubt | None = None) -> list[Reproduced]:
    """Compute the whole table; `doubt` sets draws, seed and workers of the noise propagation."""
    doubt = doubt or Doubt(draws=DRAWS)
    return [*_paper(), *_paper_noise(doubt), *_other_papers()]


def _paper() -> Iterator[Reproduced]:
    coefficient, exponent = power_law(
        np.array(list(PAPER_LAW.optima.values())), np.array(list(PAPER_LAW.optima), dtype=float)
    )
    at = PAPER_LAW.projected_parameters
    name = "sequences for 650M parameters"
    projected = PAPER_LAW.projected_sequences
    yield Reproduced(
        f"{name}, from the published optima", PAPER, projected, round(project(coefficient, exponent, at), 2)
    )
    yield Reproduced("coefficient of the law", PAPER, PAPER_LAW.coefficient, coefficient)
    yield Reproduced("exponent of the law", PAPER, PAPER_LAW.exponent, exponent)
    ours = estimate(at, published_runs("test-loss-2025-09"))
    for sequences, published in PAPER_LAW.optima.items():
        yield Reproduced(
            f"best size for {sequences:,} pairs", _READ_OFF, published, ours[optimum_name(sequences)]
        )
    yield Reproduced(f"{name}, from 11 losses", _READ_OFF, projected, ours["projected_sequences"])
    may = estimate(at, published_runs("test-loss-2025-05"))
    yield Reproduced(f"{name}, from all 15 May losses", REPOSITORY, 3.9e6, may["projected_sequences"])


def _paper_noise(doubt: Doubt) -> Iterator[Reproduced]:
    runs = published_runs("test-loss-2025-09")
    estimator = partial(estimate, PAPER_LAW.projected_parameters)
    for noise_sd, lost, low, median, high in (
        (5e-4, 0.165, 0.6e6, 4.8e6, 27.5e6),
        (2e-4, 0.002, 3.2e6, None, 10.2e6),
    ):
        spread = propagate_noise(estimator, runs, noise_sd, doubt)
        ours = spread.interval("projected_sequences")
        name = f"projection, noise sd {noise_sd:g}"
        yield Reproduced(f"{name}: 2.5 %", _NOISE, low, ours.low)
        if median is not None:
            yield Reproduced(f"{name}: median", _NOISE, median, ours.median)
        yield Reproduced(f"{name}: 97.5 %", _NOISE, high, ours.high)
        yield Reproduced(f"{name}: share without optimum", _NOISE, lost, spread.share_without_optimum)
        if median is not None:
            projections, lost_inside = projections_inside(spread, runs)
            low_inside, high_inside = np.percentile(projections, [2.5, 97.5])
            yield Reproduced(f"{name}, optima inside: 2.5 %", _NOISE, 2.2e6, float(low_inside))
            yield Reproduced(f"{name}, optima inside: 97.5 %", _NOISE, 29e6, float(high_inside))
            yield Reproduced(f"{name}, optima inside: share lost", _NOISE, 0.25, lost_inside)


def projections_inside(spread: Spread, runs: Runs) -> tuple[Array, float]:
    """Projections of draws in which each optimum lies inside its own sizes, and the share of other draws."""
    projections = spread.samples["projected_sequences"]
    inside = np.full(len(projections), True)
    for sequences, parabola in fit_parabolas(runs).items():
        optima = spread.samples[optimum_name(sequences)]
        inside &= (parabola.smallest <= optima) & (optima <= parabola.largest)
    return projections[inside], float(1 - inside.sum() / spread.draws)


def _other_papers() -> Iterator[Reproduced]:
    tenfold = "ten times the compute"
    yield Reproduced(f"MLM, {tenfold}: parameters x", CHENG, 6, 10**CHENG_MLM.parameters_exponent)
    yield Reproduced(f"MLM, {tenfold}: tokens x", CHENG, 1.7, 10**CHENG_MLM.tokens_exponent)
    yield Reproduced(f"CLM, {tenfold}: parameters x", CHENG, 4, 10**CHENG_CLM.parameters_exponent)
    yield Reproduced(f"CLM, {tenfold}: tokens x", CHENG, 3, 10**CHENG_CLM.tokens_exponent)
    for name, law, joint in (("MLM", CHENG_MLM, CHENG_MLM_JOINT), ("CLM", CHENG_CLM, CHENG_CLM_JOINT)):
        figure = f"{name}: exponent of the size, from the joint form"
        yield Reproduced(figure, CHENG, law.parameters_exponent, joint.compute_law().parameters_exponent)
        product = 6 * law.parameters(1e20) * law.tokens(1e20)
        yield Reproduced(f"{name}: 6 N D over C at C = 1e20", CHENG, 1.0, product / 1e20)
    yield Reproduced("plateau: perplexity as loss", SERRANO, SERRANO_PLATEAU_LOSS, np.log(SERRANO_PERPLEXITY))
    repeated = DATA_CONSTRAINED_LAW
    # The definition of R_D*: after so many repetitions, 1 - 1/e of what they can ever be worth is reached.
    worth = (repeated.effective_tokens(1, 1 + repeated.R_D_star) - 1) / repeated.R_D_star
    yield Reproduced("worth of R_D* repetitions", DATA_CONSTRAINED, 1 - np.exp(-1), worth)
