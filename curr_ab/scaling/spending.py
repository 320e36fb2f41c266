"""Where money goes furthest: new pairs, a larger model or more passes, by a law fitted to own runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_BUDGETS = 41  # of the curve of what money buys
_BEYOND = 1.05  # times beyond the runs, from which on a purchase is extrapolated
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
    flops: float
    for_pairs: float
    for_training: float

    @property
    def cost(self) -> float:
        return self.for_pairs + self.for_training


Buyer = Callable[[RepeatedDataLaw], Purchase]


@dataclass(frozen=True)
class Outlook:
    """A purchase, the 95 % interval of its loss, and whether it lies beyond the runs."""

    purchase: Purchase
    loss: Interval
    is_extrapolated: bool


@dataclass(frozen=True)
class Spending:
    """The best purchase with its 95 % intervals and notes, and what stands beside it.

    `by_size` is the same money at each size of the family, `alone` the same money for one thing only, all
    else as in the run of the lowest loss (`now`), and `curve` is what less and more money buys.
    """

    best: Purchase
    intervals: Mapping[str, Interval]
    by_size: Mapping[str, Purchase]
    now: Purchase
    alone: Mapping[str, Outlook]
    curve: tuple[Outlook, ...]
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
        if fit.law != "repeated-data":
            raise ValueError(
                f"money needs the law repeated-data, which knows passes and pairs; got {fit.law}"
            )
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
        flops = training_flops(parameters, sequences * self.tokens_per_pair * passes)
        return Purchase(
            parameters,
            sequences,
            passes,
            float(self.loss(law, np.array(parameters), np.array(sequences), np.array(passes))),
            flops,
            self.prices.per_pair * max(0.0, sequences - self.prices.owned),
            self.prices.per_flop * flops,
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

    def buyer(self, budget: float | None, loss: float | None) -> Buyer:
        """What is bought by a law: the least loss for the budget, or the cheapest way to the loss."""
        if (budget is None) == (loss is None):
            raise ValueError("exactly one of budget and loss must be given")
        if budget is None:
            return lambda law: self.cheapest(law, loss or 0.0)
        if budget < self.least_cost:
            raise ValueError(
                f"budget must be {self.least_cost:.4g} or more, the price of the smallest training within "
                f"{FARTHEST:g} times the runs; got {budget:g}"
            )
        return lambda law: self.best(law, budget)

    def alone(self, law: RepeatedDataLaw, budget: float, now: Purchase) -> dict[str, Purchase]:
        """The budget for more pairs, more parameters or more passes only, all else as `now`.

        The pairs of `now` are there only where they are owned. What the money is too little for is left out.
        """
        pairs = float(self.sequences(budget, np.array(now.parameters), np.array(now.passes)))
        found = {"pairs": (now.parameters, pairs, now.passes)} if pairs >= self.pairs[0] else {}
        pairs = max(now.sequences, min(self.prices.owned, self.pairs[1]))
        for_training = budget - self.prices.per_pair * max(0.0, pairs - self.prices.owned)
        tokens = pairs * self.tokens_per_pair
        if self.prices.per_flop > 0 and for_training > 0:
            flops = for_training / self.prices.per_flop
            parameters = flops / training_flops(1, tokens * now.passes)
            passes = flops / training_flops(now.parameters, tokens)
            if parameters >= self.parameters[0]:
                found["parameters"] = (min(parameters, self.parameters[1]), pairs, now.passes)
            if passes >= self.passes[0]:
                found["passes"] = (now.parameters, pairs, min(passes, self.passes[1]))
        return {name: self.purchase(law, *amounts) for name, amounts in found.items()}

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
    market = Market.of(fit, prices, max_sequences)
    choose = market.buyer(budget, loss)
    law, drawn = law_of(fit, fit.estimates), drawn_laws(fit)
    best, now = choose(law), _lowest(fit, market, law)

    def outlook(bought: Purchase) -> Outlook:
        is_extrapolated = max(_times_beyond(fit, bought, market).values()) > _BEYOND
        return Outlook(bought, _loss_interval(market, drawn, bought), is_extrapolated)

    by_size = {
        size.name: bought
        for size in SIZES
        if market.parameters[0] <= size.nominal_parameters <= market.parameters[1]
        if math.isfinite((bought := market.best(law, best.cost, float(size.nominal_parameters))).loss)
    }
    intervals, lost = _intervals(drawn, choose)
    intervals["loss"] = _loss_interval(market, drawn, best)
    alone = {name: outlook(bought) for name, bought in market.alone(law, best.cost, now).items()}
    curve = [outlook(market.best(law, money)) for money in _budgets(best.cost, market, law)]
    notes = [*_extrapolated(fit, best, market), *fit.warnings]
    if lost:
        notes.append(f"{lost:.1%} of the draws cannot reach that loss: the intervals are of the others")
    return Spending(best, intervals, by_size, now, alone, tuple(curve), tuple(notes))


def law_of(fit: Fit, estimates: Mapping[str, float]) -> RepeatedDataLaw:
    """The law with these estimates of a fit."""
    runs = fit.runs
    trained = Trained(
        (float(runs.parameters.min()), float(runs.parameters.max())),
        (float(runs.unique_tokens.min()), float(runs.unique_tokens.max())),
    )
    constants = {name: float(estimates[name]) for name in _CONSTANTS}
    return RepeatedDataLaw(fit.law, "the given runs", trained, **constants)


def drawn_laws(fit: Fit) -> list[RepeatedDataLaw]:
    """The laws of the fit's last spread, to which its questions are put again."""
    samples = fit.spreads[-1].samples
    drawn = [samples.get(name, np.array([]))[:_MOST_DRAWS].tolist() for name in _CONSTANTS]
    return [law_of(fit, dict(zip(_CONSTANTS, values, strict=True))) for values in zip(*drawn, strict=True)]


def _intervals(drawn: Sequence[RepeatedDataLaw], choose: Buyer) -> tuple[dict[str, Interval], float]:
    """The same question to all laws that were drawn, and the share of them without an answer."""
    answers = []
    for law in drawn:
        try:
            answers.append(choose(law))
        except ValueError:  # a loss that this draw cannot reach
            continue
    intervals = {
        name: interval(np.array([getattr(answer, name) for answer in answers]))
        for name in ("parameters", "sequences", "passes", "cost")
    }
    return intervals, 1 - len(answers) / len(drawn) if drawn else 0.0


def _loss_interval(market: Market, drawn: Sequence[RepeatedDataLaw], bought: Purchase) -> Interval:
    """Of this very purchase, not of what each draw would buy."""
    amounts = bought.parameters, bought.sequences, bought.passes
    return interval(np.array([market.purchase(law, *amounts).loss for law in drawn]))


def _lowest(fit: Fit, market: Market, law: RepeatedDataLaw) -> Purchase:
    """The run of the lowest loss, as the law and the prices take it."""
    runs, row = fit.runs, int(np.argmin(fit.runs.loss))
    unique = float(runs.unique_tokens[row])
    pairs, passes = unique / market.tokens_per_pair, float(runs.seen_tokens[row]) / unique
    return market.purchase(law, float(runs.parameters[row]), pairs, passes)


def _budgets(money: float, market: Market, law: RepeatedDataLaw) -> Array:
    """A tenth of the money to ten times as much, within what is of use; none where all is free."""
    least, most = max(market.least_cost, money / FARTHEST), min(market.dearest(law).cost, money * FARTHEST)
    return np.geomspace(least, most, _BUDGETS) if 0 < least < most else np.array([])


def _times_beyond(fit: Fit, bought: Purchase, market: Market) -> dict[str, float]:
    """How many times a purchase lies beyond the largest run, or below the smallest; within them 1 or less."""
    values = {"parameters": bought.parameters, "pairs": bought.sequences, "passes": bought.passes}
    ends = ends_of_runs(fit, market)
    return {unit: max(value / ends[unit][1], ends[unit][0] / value) for unit, value in values.items()}


def ends_of_runs(fit: Fit, market: Market) -> dict[str, Ends]:
    """Least and most of what the runs had."""
    runs = fit.runs
    columns = {
        "parameters": runs.parameters,
        "pairs": runs.unique_tokens / market.tokens_per_pair,
        "passes": runs.seen_tokens / runs.unique_tokens,
    }
    return {unit: (float(column.min()), float(column.max())) for unit, column in columns.items()}


def _extrapolated(fit: Fit, best: Purchase, market: Market) -> Iterator[str]:
    """What of the advice lies beyond the runs."""
    ends = ends_of_runs(fit, market)
    for unit, beyond in _times_beyond(fit, best, market).items():
        if beyond > FARTHEST * 0.99:
            yield f"{unit} are at the limit of the advice, {FARTHEST:g} times beyond the runs"
        elif beyond > _BEYOND:
            within = " to ".join(map(format_quantity, ends[unit]))
            yield f"extrapolated {beyond:.1f} times beyond the runs' {within} {unit}"
