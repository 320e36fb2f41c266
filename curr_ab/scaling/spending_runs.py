"""Plan of further runs that narrow the intervals of an advised purchase most for their cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from curr_ab.family import SIZES
from curr_ab.quantities import format_quantity
from curr_ab.scaling.compute import training_flops
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.laws import RepeatedDataLaw
from curr_ab.scaling.log_loss import estimate_from
from curr_ab.scaling.repeated_data import RepeatedDataModel, model_of
from curr_ab.scaling.runs import Array, Runs, make_runs
from curr_ab.scaling.spending import Buyer, Market, Prices, Purchase, drawn_laws, ends_of_runs, law_of
from curr_ab.scaling.uncertainty import Estimate, Fit, Interval, NoOptimum, Spread, propagate_noise

AMOUNTS = ("parameters", "sequences", "passes")
_MAX_SEEDS = 3  # of one cell; more would measure it ever better and the law no better
_LEAST_GAIN = 0.03  # share of the variance; among so few draws chance agrees with the advice as well as that
_MOST_RUNS = 16  # a run takes somebody's time: it counts as this part of the budget beside its FLOPs
_SIMULATIONS = 200


@dataclass(frozen=True)
class TrialRuns:
    """Runs of one cell, each with a seed of its own."""

    parameters: float
    sequences: float
    passes: float
    num_seeds: int
    flops: float


@dataclass(frozen=True)
class Trials:
    """Runs to make before the money is spent, and the intervals of what to buy without and with them."""

    runs: tuple[TrialRuns, ...]
    flops: float
    before: Mapping[str, Interval]
    after: Mapping[str, Interval]
    lost_before: float  # share of simulated studies that give no answer
    lost_after: float


def trial_flops(best: Purchase, prices: Prices) -> float:
    """What runs to make first may take: a tenth of the money, but no more than the advised training takes."""
    return min(best.flops, best.cost / 10 / prices.per_flop) if prices.per_flop else best.flops / 10


def plan_spending(
    fit: Fit,
    prices: Prices,
    *,
    budget_flops: float,
    budget: float | None = None,
    loss: float | None = None,
    max_sequences: float | None = None,
    doubt: Doubt | None = None,
) -> Trials:
    """Choose runs greedily by the variance of the advice that they remove; check by simulation.

    The laws that the fit drew are the possible truths. A run tells much about what to buy where the losses
    that they expect of it go with what they would buy. Runs are trained on pairs that are there.
    """
    if not (np.isfinite(budget_flops) and budget_flops > 0):
        raise ValueError(f"budget_flops must be positive and finite; got {budget_flops}")
    doubt = doubt or Doubt()
    market = Market.of(fit, prices, max_sequences)
    buy = market.buyer(budget, loss)
    scatter = _scatter(fit, doubt)
    cells = _cells(fit, market)
    flops = training_flops(1, market.tokens_per_pair) * cells.prod(axis=1)
    chosen = _choose(fit, market, buy, cells, flops, budget_flops, scatter)
    estimator = partial(
        _estimate, fit, buy, np.array([_start(fit, name) for name in RepeatedDataModel.names])
    )
    law = law_of(fit, fit.estimates)
    few = replace(doubt, draws=min(doubt.draws, _SIMULATIONS))

    def simulated(planned: Mapping[int, int]) -> Spread:
        rows = np.repeat(np.array(list(planned), dtype=int), list(planned.values()))
        expected = _expected(fit, market, law, cells[rows])
        return propagate_noise(estimator, expected, scatter * float(np.median(expected.loss)), few)

    before, after = simulated({}), simulated(chosen)
    return Trials(
        runs=tuple(
            TrialRuns(parameters, pairs, passes, chosen[cell], float(chosen[cell] * flops[cell]))
            for parameters, pairs, passes, cell in sorted((*cells[cell].tolist(), cell) for cell in chosen)
        ),
        flops=float(sum(flops[cell] * count for cell, count in chosen.items())),
        before={name: before.interval(name) for name in AMOUNTS},
        after={name: after.interval(name) for name in AMOUNTS},
        lost_before=before.share_without_optimum,
        lost_after=after.share_without_optimum,
    )


def _scatter(fit: Fit, doubt: Doubt) -> float:
    """Standard deviation of ln(loss) of a run about the law: as given, else as the runs' own."""
    if doubt.noise_sd is not None:
        return doubt.noise_sd / float(np.median(fit.runs.loss))
    freedom = len(fit.runs) - len(RepeatedDataModel.names)
    scatter = float(np.sqrt((fit.residuals**2).sum() / freedom)) if freedom > 0 else 0.0
    if scatter <= 0:
        raise ValueError("noise must be given, as the law fits these runs exactly; got none")
    return scatter


def _cells(fit: Fit, market: Market) -> Array:
    """The runs on offer: own and published sizes, halved pairs, doubled passes."""
    ends = ends_of_runs(fit, market)
    low, high = market.parameters
    own = np.unique(fit.runs.parameters).tolist()
    sizes = {
        *own,
        *(float(size.nominal_parameters) for size in SIZES if low <= size.nominal_parameters <= high),
    }
    most = min(market.pairs[1], max(market.prices.owned, ends["pairs"][1]))
    halvings = int(np.log2(most / min(most, ends["pairs"][0]))) + 1
    pairs = most / 2.0 ** np.arange(halvings)
    doublings = int(np.log2(ends["passes"][1] / max(1.0, ends["passes"][0]))) + 1
    passes = max(1.0, ends["passes"][0]) * 2.0 ** np.arange(doublings)
    return np.stack(np.meshgrid(sorted(sizes), pairs, passes, indexing="ij"), axis=-1).reshape(-1, 3)


def _choose(
    fit: Fit,
    market: Market,
    buy: Buyer,
    cells: Array,
    flops: Array,
    budget_flops: float,
    scatter: float,
) -> Counter[int]:
    """Number of runs of each chosen cell.

    A run updates the draws as an ensemble square-root filter does (Whitaker and Hamill 2002), so that what
    is known already draws no second run.
    """
    answers, expected = [], []
    for law in drawn_laws(fit):
        try:
            bought = buy(law)
        except ValueError:  # a loss that this draw cannot reach
            continue
        answers.append(np.log([getattr(bought, name) for name in AMOUNTS]))
        expected.append(np.log(market.loss(law, *cells.T)))
    if len(answers) < 3:
        raise ValueError("the draws of the fit must give some answers to narrow; got fewer than three")
    advice, logs = (np.array(values) - np.mean(values, axis=0) for values in (answers, expected))
    chosen: Counter[int] = Counter()
    costs, remaining = flops + budget_flops / _MOST_RUNS, budget_flops
    least = np.inf  # of the useful runs, in FLOPs
    while chosen.total() < _MOST_RUNS:
        variance = (logs**2).mean(axis=0) + scatter**2
        shared = advice.T @ logs / len(logs)
        gains = (shared**2).sum(axis=0) / variance
        is_useful = gains > _LEAST_GAIN * (advice**2).mean(axis=0).sum()
        is_useful &= np.array([chosen[cell] < _MAX_SEEDS for cell in range(len(cells))])
        least = min(least, flops[is_useful].min(initial=np.inf))
        is_useful &= flops <= remaining
        if not is_useful.any():
            break
        best = int(np.argmax(np.where(is_useful, gains / costs, -1.0)))
        told = logs[:, best].copy()
        share = 1 / (1 + np.sqrt(scatter**2 / variance[best])) / variance[best]
        advice -= share * np.outer(told, shared[:, best])
        logs -= share * np.outer(told, told @ logs / len(logs))
        chosen[best] += 1
        remaining -= flops[best]
    if not chosen:
        more = "none does" if np.isinf(least) else f"the cheapest that does takes {least:.3g}, give as much"
        raise ValueError(f"{format_quantity(budget_flops)} FLOPs buy no run that narrows the advice; {more}")
    return chosen


def _start(fit: Fit, name: str) -> float:
    """Where the fits of simulated runs begin: at the law that made them."""
    value = fit.estimates[name.removeprefix("log_")]
    return float(np.log(value)) if name.startswith("log_") else value


def _expected(fit: Fit, market: Market, law: RepeatedDataLaw, further: Array) -> Runs:
    """The runs that there are and further ones, each with the loss that the law expects."""
    runs = fit.runs
    unique = further[:, 1] * market.tokens_per_pair
    columns = {
        "parameters": np.append(runs.parameters, further[:, 0]),
        "unique_tokens": np.append(runs.unique_tokens, unique),
        "seen_tokens": np.append(runs.seen_tokens, unique * further[:, 2]),
    }
    losses = law.loss(columns["parameters"], columns["unique_tokens"], columns["seen_tokens"])
    return make_runs(
        {name: float(values[row]) for name, values in columns.items()} | {"loss": loss, "seed": str(row)}
        for row, loss in enumerate(np.asarray(losses).tolist())
    )


def _estimate(fit: Fit, buy: Buyer, start: Array, runs: Runs) -> Estimate:
    """What the law of these runs would buy."""
    estimates = estimate_from(model_of, [start], runs)
    try:
        bought = buy(law_of(fit, estimates))
    except ValueError as error:
        raise NoOptimum(str(error)) from error
    return {name: getattr(bought, name) for name in AMOUNTS}
