"""What money buys: against a search that knows nothing of how the answer is found."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import differential_evolution
from support.simulated_runs import LAW_ESTIMATES as ESTIMATES
from support.simulated_runs import fitted_law

from curr_ab.scaling import Doubt, Fit, Prices, fit_iso_data, published_runs, spend
from curr_ab.scaling.laws import DATA_CONSTRAINED_LAW as LAW
from curr_ab.scaling.spending import FARTHEST, Market, ends_of_runs, law_of

# Dear pairs; dear compute; more pairs at hand than the money trains on; free pairs.
MARKETS = [
    (Prices(0.05, 2e-18, 1e6), 5e4),
    (Prices(1e-5, 1e-14), 1e6),
    (Prices(1.0, 1e-16, 1e8), 1e4),
    (Prices(0.0, 1e-17), 1e5),
]


@pytest.fixture
def fit() -> Fit:
    return fitted_law()


def searched(fit: Fit, prices: Prices, budget: float) -> np.ndarray:
    """Parameters, pairs and passes of the least loss within the budget, by an evolution over all three."""
    market = Market.of(fit, prices)

    def loss(logs: np.ndarray) -> float:
        size, pairs, passes = np.exp(logs)
        unique = pairs * 240
        cost = prices.per_pair * max(0.0, pairs - prices.owned)
        cost += prices.per_flop * 6 * size * unique * passes
        return float(LAW.loss(size, unique, unique * passes)) + max(0.0, np.log(cost / budget)) * 100

    bounds = [market.parameters, market.pairs, market.passes]
    found = differential_evolution(loss, np.log(bounds), seed=0, tol=1e-12, maxiter=600, polish=False)
    return np.exp(found.x)


@pytest.mark.parametrize(("prices", "budget"), MARKETS)
def test_the_best_purchase_is_what_a_search_over_everything_finds(fit, prices, budget) -> None:
    best = spend(fit, prices, budget=budget).best
    size, pairs, passes = searched(fit, prices, budget)
    assert [best.parameters, best.sequences, best.passes] == pytest.approx([size, pairs, passes], rel=0.01)
    assert best.loss <= float(LAW.loss(size, pairs * 240, pairs * 240 * passes)) + 1e-9
    assert best.cost == pytest.approx(budget)
    unique = best.sequences * 240
    assert best.loss == pytest.approx(LAW.loss(best.parameters, unique, unique * best.passes))


@pytest.mark.parametrize(("prices", "budget"), MARKETS)
def test_the_cheapest_way_to_a_loss_is_the_budget_that_buys_it(fit, prices, budget) -> None:
    best = spend(fit, prices, budget=budget).best
    again = spend(fit, prices, loss=best.loss)
    assert again.best.cost == pytest.approx(budget, rel=1e-3)
    assert again.best.parameters == pytest.approx(best.parameters, rel=0.01)
    assert again.intervals["cost"].low < budget < again.intervals["cost"].high


def test_intervals_sizes_and_notes_say_how_sure_the_advice_is(fit) -> None:
    prices, budget = MARKETS[0]
    spending = spend(fit, prices, budget=budget)
    for name in ("loss", "parameters", "passes"):
        between = spending.intervals[name]
        assert between.low < getattr(spending.best, name) < between.high
    assert list(spending.by_size) == ["8M", "35M", "150M", "350M", "650M"]
    for bought in spending.by_size.values():
        assert bought.loss >= spending.best.loss and bought.cost == pytest.approx(budget)
    assert spending.notes[-1] == "a doubt of the fit"


def test_advice_stays_within_reach_of_the_runs_and_says_where_it_ends(fit) -> None:
    runs = fit.runs
    spending = spend(fit, Prices(1e-9, 1e-30), budget=1e9)
    assert spending.best.parameters == pytest.approx(runs.parameters.max() * FARTHEST)
    assert spending.best.sequences == pytest.approx(runs.unique_tokens.max() / 240 * FARTHEST)
    limits = [note.split(" are at the limit")[0] for note in spending.notes if "at the limit" in note]
    assert limits == ["parameters", "pairs"]  # and more passes than these add nothing
    capped = spend(fit, Prices(1e-9, 1e-30), budget=1e9, max_sequences=2e6).best
    assert capped.sequences == pytest.approx(2e6)
    few = spend(fit, Prices(0, 1e-12), budget=1e3)
    assert any(
        re.fullmatch(r"extrapolated \d\.\d times beyond the runs' .* pairs", note) for note in few.notes
    )


def test_advice_goes_no_farther_below_the_runs_than_above_them(fit) -> None:
    prices, pairs = Prices(0.05, 1e-18), fit.runs.unique_tokens / 240
    least = Market.of(fit, prices).least_cost
    smallest = spend(fit, prices, budget=least).best
    assert smallest.sequences == pytest.approx(pairs.min() / FARTHEST, rel=1e-5)
    with pytest.raises(ValueError, match=r"budget must be .* or more, the price of the smallest training"):
        spend(fit, prices, budget=least / 2)
    with pytest.raises(ValueError, match=r"max_sequences must be .* or more"):
        spend(fit, prices, budget=1e6, max_sequences=pairs.min() / FARTHEST / 2)
    runs = replace(fit.runs, seen_tokens=fit.runs.unique_tokens * 40)
    assert Market.of(replace(fit, runs=runs), prices).passes == pytest.approx((4, 400))


def test_every_loss_within_reach_has_its_price(fit) -> None:
    law = law_of(fit, ESTIMATES)
    market = Market.of(fit, Prices(0.05, 1e-18))
    least = market.dearest(law).loss
    for loss in (
        1e3,
        least,
        least * (1 - 5e-7),
    ):  # any training; the largest; and its loss as a message says it
        best = spend(fit, market.prices, loss=loss).best
        assert best.loss <= loss * (1 + 1e-6)
    assert spend(fit, market.prices, loss=1e3).best.cost == pytest.approx(market.least_cost)
    for owned in (1e6, 1e12):  # training costs nothing, and these pairs neither
        free = Prices(0.05, 0.0, owned)
        reached = Market.of(fit, free).best(law, 0.0).loss
        assert spend(fit, free, loss=reached * 1.001).best.cost == 0.0


def test_what_cannot_be_answered_is_refused(fit) -> None:
    with pytest.raises(ValueError, match=r"loss must be 1\.\d+ or more, the least that the law expects"):
        spend(fit, MARKETS[0][0], loss=1.0)
    with pytest.raises(ValueError, match="exactly one of budget and loss"):
        spend(fit, MARKETS[0][0])
    with pytest.raises(ValueError, match="prices must not be negative, nor both 0"):
        Prices(0, 0)
    other = fit_iso_data(published_runs("test-loss-2025-09"), Doubt(draws=20, noise_sd=3e-4))
    with pytest.raises(ValueError, match="money needs the law repeated-data"):
        spend(other, MARKETS[0][0], budget=1)


def test_draws_that_cannot_reach_the_loss_are_counted(fit) -> None:
    market = Market.of(fit, MARKETS[0][0])
    least = market.dearest(law_of(fit, ESTIMATES)).loss
    floors = {**fit.spreads[0].samples, "E": np.where(np.arange(30) < 6, 3.0, 0.5)}
    doubtful = replace(fit, spreads=(replace(fit.spreads[0], samples=floors),))
    spending = spend(doubtful, MARKETS[0][0], loss=least + 0.1)
    assert any(note.startswith("20.0% of the draws cannot reach that loss") for note in spending.notes)


def test_less_and_more_money_is_shown_with_what_of_it_is_extrapolated(fit) -> None:
    prices, budget = Prices(0.0005, 5e-18, 1e6), 1e5
    spending = spend(fit, prices, budget=budget)
    costs = [one.purchase.cost for one in spending.curve]
    assert costs[0] == pytest.approx(budget / 10) and costs[-1] == pytest.approx(budget * 10)
    losses = [one.purchase.loss for one in spending.curve]
    assert losses == sorted(losses, reverse=True) and losses[20] == pytest.approx(spending.best.loss)
    assert all(one.loss.low < one.purchase.loss < one.loss.high for one in spending.curve)
    assert spending.curve[20].loss == spending.intervals["loss"]
    ends = ends_of_runs(fit, Market.of(fit, prices))
    for one in spending.curve:
        pairs, size = one.purchase.sequences, one.purchase.parameters
        beyond = max(
            pairs / ends["pairs"][1], size / ends["parameters"][1], ends["passes"][0] / one.purchase.passes
        )
        assert one.is_extrapolated is (beyond > 1.05)
    assert {one.is_extrapolated for one in spending.curve} == {False, True}


def test_the_same_money_for_one_thing_only_is_dearer_than_the_advice(fit) -> None:
    prices, budget = Prices(1e-5, 1e-16, 1e8), 1e7
    spending = spend(fit, prices, budget=budget)
    row = int(np.argmin(fit.runs.loss))
    assert spending.now.parameters == fit.runs.parameters[row]
    assert spending.now.sequences * 240 * spending.now.passes == pytest.approx(fit.runs.seen_tokens[row])
    assert set(spending.alone) == {"pairs", "parameters", "passes"}
    for thing, one in spending.alone.items():
        bought = one.purchase
        assert bought.cost == pytest.approx(budget) and bought.loss > spending.best.loss
        kept = {"parameters", "passes"} - {thing}
        assert all(getattr(bought, name) == getattr(spending.now, name) for name in kept)
        if thing != "pairs":
            assert bought.sequences == pytest.approx(max(spending.now.sequences, prices.owned))
    poor = spend(fit, Prices(1.0, 1e-18), budget=1e5)  # too little for the pairs of that run
    assert set(poor.alone) == {"pairs"}
