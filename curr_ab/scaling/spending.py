"""Where money goes furthest: new pairs, a larger model or more passes, by a law fitted to own runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from curr_ab.family import SIZES
from curr_ab.quantities import format_quantity
from curr_ab.scaling.compute import TOKENS_PER_PAIR, training_flops
from curr_ab.scaling.laws import RepeatedDataLaw, Trained
from curr_ab.scaling.runs import Array
from curr_ab.scaling.uncertainty import Fit, Interval, interval

FARTHEST = 10.0  # times beyond the runs, in size, pairs or passes: no advice goes farther
_CONSTANTS = ("A", "B", "E", "exponent", "R_D_star", "R_N_star")
_MOST_DRAWS = 200  # fits of the spread that are asked again, for the intervals
_GRID, _ZOOMS, _CLOSER = 33, 7, 5.0  # the last grid's step is 1e-5 of the first one's
_ROUNDING = 1e-6
Ends = tuple[float, float]


@dataclass(frozen=True)
class Prices:
    """What a new pair and an operation of training cost, in one currency; `owned` pairs cost nothing more."""

    per_pair: float
    per_flop: float
    owned: float = 0.0

    def __post_init__(self) -> None:
        if not (self.per_pair >= 0 and self.per_flop >= 0 and self.per_pair + self.per_flop > 0):
            raise ValueError(
                f"prices must not be negative, nor both 0; got {self.per_pair} for a pair and "
                f"{self.per_flop} for an operation"
            )


@dataclass(frozen=True)
class Purchase:
    """A training, what it costs and the loss that the law expects of it."""

    parameters: float
    sequences: float
    passes: float
    loss: float
    for_pairs: float
    for_training: float

    @property
    def cost(self) -> float:
        return self.for_pairs + self.for_training


@dataclass(frozen=True)
class Spending:
    """The best purchase with its 95 % intervals, the same money at each size of the family, and notes."""

    best: Purchase
    intervals: Mapping[str, Interval]
    by_size: Mapping[str, Purchase]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Market:
    """Prices, and the trainings that may be bought: those within reach of the runs of a law."""

    prices: Prices
    tokens_per_pair: float
    parameters: Ends
    pairs: Ends
    passes: Ends

    @classmethod
    def of(cls, fit: Fit, prices: Prices, max_sequences: float | None = None) -> Market:
        runs = fit.runs
        known = runs.unique_tokens / runs.sequences
        tokens_per_pair = TOKENS_PER_PAIR if np.isnan(known).all() else float(np.nanmedian(known))
        fewest, most = _within_reach(runs.unique_tokens / tokens_per_pair)
        if max_sequences is not None and max_sequences < fewest:
            raise ValueError(
                f"max_sequences must be {fewest:,.0f} or more, as the law of these runs says nothing of "
                f"fewer pairs; got {max_sequences:,.0f}"
            )
        fewest_passes, most_passes = _within_reach(runs.seen_tokens / runs.unique_tokens)
        return cls(
            prices,
            tokens_per_pair,
            _within_reach(runs.parameters),
            (fewest, min(most, max_sequences or most)),
            (max(1.0, fewest_passes), most_passes),
        )

    def sequences(self, budget: float, parameters: Array, passes: Array) -> Array:
        """As many pairs as the budget buys and trains on."""
        per_pair = self.prices.per_flop * training_flops(1, self.tokens_per_pair) * parameters * passes
        owned = self.prices.owned
        with np.errstate(divide="ignore", invalid="ignore"):
            beyond = (budget + self.prices.per_pair * owned) / (self.prices.per_pair + per_pair)
            within = np.where(per_pair > 0, budget / per_pair, np.inf)
        return np.minimum(np.where(within < owned, within, np.maximum(beyond, owned)), self.pairs[1])

    def loss(self, law: RepeatedDataLaw, parameters: Array, sequences: Array, passes: Array) -> Array:
        unique = sequences * self.tokens_per_pair
        return np.asarray(law.loss(parameters, unique, unique * passes))

    def purchase(self, law: RepeatedDataLaw, parameters: float, sequences: float, passes: float) -> Purchase:
        return Purchase(
            parameters,
            sequences,
            passes,
            float(self.loss(law, np.array(parameters), np.array(sequences), np.array(passes))),
            self.prices.per_pair * max(0.0, sequences - self.prices.owned),
            self.prices.per_flop * training_flops(parameters, sequences * self.tokens_per_pair * passes),
        )

    def best(self, law: RepeatedDataLaw, budget: float, parameters: float | None = None) -> Purchase:
        """The least loss for this money, of all sizes or of one: a grid that closes in on it.

        Its loss is infinite where the money buys too few pairs.
        """
        sizes_within = (parameters, parameters) if parameters else self.parameters
        lows, highs = np.log([sizes_within, self.passes]).T
        low, high = lows, highs
        for _ in range(_ZOOMS):
            axes = [np.unique(np.linspace(*ends, _GRID)) for ends in zip(low, high, strict=True)]
            sizes, passes = np.exp(np.meshgrid(*axes, indexing="ij"))
            sequences = self.sequences(budget, sizes, passes)
            is_enough = sequences > self.pairs[0] * (1 - _ROUNDING)
            losses = np.where(is_enough, self.loss(law, sizes, sequences, passes), np.inf)
            chosen = np.unravel_index(np.argmin(losses), losses.shape)
            center = np.log([sizes[chosen], passes[chosen]])
            reach = (high - low) / 2 / _CLOSER
            low, high = np.maximum(lows, center - reach), np.minimum(highs, center + reach)
        found = self.purchase(law, *(float(values[chosen]) for values in (sizes, sequences, passes)))
        return replace(found, loss=float(losses[chosen]))

    def cheapest(self, law: RepeatedDataLaw, loss: float) -> Purchase:
        """The least money for this loss; raises ValueError where nothing within reach of the runs has it."""
        dearest = self.dearest(law)
        if dearest.loss > loss * (1 + _ROUNDING):
            raise ValueError(
                f"loss must be {dearest.loss:.7g} or more, the least that the law expects within "
                f"{FARTHEST:g} times its runs; got {loss:.7g}"
            )
        least = self.best(law, self.least_cost)
        if least.loss <= loss:
            return least
        too_little, enough = max(self.least_cost, dearest.cost * 1e-15), dearest.cost
        while enough > too_little * 1.0001:
            between = math.sqrt(too_little * enough)
            is_enough = self.best(law, between).loss <= loss
            too_little, enough = (too_little, between) if is_enough else (between, enough)
        return self.best(law, enough)

    def dearest(self, law: RepeatedDataLaw) -> Purchase:
        """The largest training within reach."""
        return self.purchase(law, self.parameters[1], self.pairs[1], self.passes[1])

    @property
    def least_cost(self) -> float:
        """Of the smallest training within reach."""
        for_pairs = self.prices.per_pair * max(0.0, self.pairs[0] - self.prices.owned)
        tokens = self.pairs[0] * self.tokens_per_pair * self.passes[0]
        return for_pairs + self.prices.per_flop * training_flops(self.parameters[0], tokens)


def _within_reach(values: Array) -> Ends:
    return float(values.min()) / FARTHEST, float(values.max()) * FARTHEST


def spend(
    fit: Fit,
    prices: Prices,
    *,
    budget: float | None = None,
    loss: float | None = None,
    max_sequences: float | None = None,
) -> Spending:
    """The least loss for a budget, or the cheapest way to a loss, by a repeated-data law of own runs."""
    if fit.law != "repeated-data":
        raise ValueError(f"money needs the law repeated-data, which knows passes and pairs; got {fit.law}")
    if (budget is None) == (loss is None):
        raise ValueError("exactly one of budget and loss must be given")
    market = Market.of(fit, prices, max_sequences)
    if budget is not None and budget < market.least_cost:
        raise ValueError(
            f"budget must be {market.least_cost:.4g} or more, the price of the smallest training within "
            f"{FARTHEST:g} times the runs; got {budget:g}"
        )

    def choose(law: RepeatedDataLaw) -> Purchase:
        return market.best(law, budget) if budget is not None else market.cheapest(law, loss or 0.0)

    law = law_of(fit, fit.estimates)
    best = choose(law)
    by_size = {
        size.name: bought
        for size in SIZES
        if market.parameters[0] <= size.nominal_parameters <= market.parameters[1]
        if math.isfinite((bought := market.best(law, best.cost, float(size.nominal_parameters))).loss)
    }
    intervals, lost = _intervals(fit, market, best, choose)
    notes = [*_extrapolated(fit, best, market), *fit.warnings]
    if lost:
        notes.append(f"{lost:.1%} of the draws cannot reach that loss: the intervals are of the others")
    return Spending(best, intervals, by_size, tuple(notes))


def law_of(fit: Fit, estimates: Mapping[str, float]) -> RepeatedDataLaw:
    """The law with these estimates of a fit."""
    runs = fit.runs
    trained = Trained(
        (float(runs.parameters.min()), float(runs.parameters.max())),
        (float(runs.unique_tokens.min()), float(runs.unique_tokens.max())),
    )
    constants = {name: float(estimates[name]) for name in _CONSTANTS}
    return RepeatedDataLaw(fit.law, "the given runs", trained, **constants)


def _intervals(
    fit: Fit, market: Market, best: Purchase, choose: Callable[[RepeatedDataLaw], Purchase]
) -> tuple[dict[str, Interval], float]:
    """The same question to the draws of the fit's last spread, and the share of them without an answer.

    The loss is that of the purchase itself, not of each draw's own best.
    """
    samples = fit.spreads[-1].samples
    drawn = [samples.get(name, np.array([]))[:_MOST_DRAWS].tolist() for name in _CONSTANTS]
    answers, losses = [], []
    for values in zip(*drawn, strict=True):
        law = law_of(fit, dict(zip(_CONSTANTS, values, strict=True)))
        losses.append(market.purchase(law, best.parameters, best.sequences, best.passes).loss)
        try:
            answers.append(choose(law))
        except ValueError:  # a loss that this draw cannot reach
            continue
    intervals = {
        name: interval(np.array([getattr(answer, name) for answer in answers]))
        for name in ("parameters", "sequences", "passes", "cost")
    }
    intervals["loss"] = interval(np.array(losses))
    return intervals, 1 - len(answers) / len(losses) if losses else 0.0


def _extrapolated(fit: Fit, best: Purchase, market: Market) -> Iterator[str]:
    """What of the advice lies beyond the runs."""
    runs = fit.runs
    pairs, passes = runs.unique_tokens / market.tokens_per_pair, runs.seen_tokens / runs.unique_tokens
    for value, known, unit in (
        (best.parameters, runs.parameters, "parameters"),
        (best.sequences, pairs, "pairs"),
        (best.passes, passes, "passes"),
    ):
        beyond = max(value / known.max(), known.min() / value)
        if beyond > FARTHEST * 0.99:
            yield f"{unit} are at the limit of the advice, {FARTHEST:g} times beyond the runs"
        elif beyond > 1.05:
            ends = " to ".join(map(format_quantity, (float(known.min()), float(known.max()))))
            yield f"extrapolated {beyond:.1f} times beyond the runs' {ends} {unit}"
