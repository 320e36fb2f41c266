"""Runs to make before money is spent: they narrow the advice, by more than others of the same cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from support.simulated_runs import LAW_ESTIMATES, fitted_law, repeated_runs

from curr_ab.scaling import Doubt, Fit, Prices, fit_repeated_data, plan_spending, spend
from curr_ab.scaling import spending_runs as module
from curr_ab.scaling.repeated_data import RepeatedDataModel
from curr_ab.scaling.spending_runs import AMOUNTS, trial_flops

PRICES, MONEY = Prices(0.0005, 5e-18, 1e6), 5e4
FEW = Doubt(draws=20)


@pytest.fixture(scope="module")
def fit() -> Fit:
    start = [
        np.log(LAW_ESTIMATES[name[4:]]) if name.startswith("log_") else LAW_ESTIMATES[name]
        for name in RepeatedDataModel.names
    ]
    return fit_repeated_data(repeated_runs(20, noise_sd=0.02), Doubt(draws=60), starts=np.array([start]))


def width(intervals) -> float:
    """Of all three intervals together, on the logarithmic scale."""
    return sum(np.log(intervals[name].high / intervals[name].low) ** 2 for name in AMOUNTS) ** 0.5


@pytest.mark.heavy
def test_planned_runs_narrow_the_advice_more_than_dearer_ones_at_random(fit, monkeypatch) -> None:
    best = spend(fit, PRICES, budget=MONEY).best
    flops = trial_flops(best, PRICES)
    assert flops == pytest.approx(MONEY / 10 / PRICES.per_flop)
    plan = plan_spending(fit, PRICES, budget_flops=flops, budget=MONEY, doubt=Doubt(draws=60))
    assert 0 < plan.flops <= flops and plan.flops == pytest.approx(sum(run.flops for run in plan.runs))
    assert sum(run.num_seeds for run in plan.runs) <= 16
    known = fit.runs.unique_tokens.max() / 240
    for run in plan.runs:
        assert run.sequences <= known * 1.001 and 1 <= run.num_seeds <= 3
        expected = 6 * run.parameters * run.sequences * 240 * run.passes * run.num_seeds
        assert run.flops == pytest.approx(expected)
    assert width(plan.after) < 0.7 * width(plan.before)

    def at_random(fit, market, buy, cells, flops, budget_flops, scatter) -> Counter[int]:
        generator, chosen, spent = np.random.default_rng(0), Counter(), 0.0
        while spent < budget_flops:
            cell = int(generator.integers(len(cells)))
            chosen[cell] += 1
            spent += flops[cell]
        return chosen

    monkeypatch.setattr(module, "_choose", at_random)
    other = plan_spending(fit, PRICES, budget_flops=flops, budget=MONEY, doubt=Doubt(draws=60))
    assert other.flops >= flops and width(plan.after) < 0.9 * width(other.after)


@pytest.mark.heavy
def test_a_loss_is_a_question_too_and_the_runs_are_of_its_answer(fit) -> None:
    loss = spend(fit, PRICES, budget=MONEY).best.loss
    spread = fit.spreads[-1]
    samples = {name: values[:15] for name, values in spread.samples.items()}
    fit = replace(fit, spreads=(replace(spread, samples=samples),))
    plan = plan_spending(fit, PRICES, budget_flops=1e20, loss=loss, doubt=FEW)
    same = spend(fit, PRICES, loss=loss).best
    for name in AMOUNTS:
        assert plan.before[name].low < getattr(same, name) * 1.001
        assert plan.before[name].high > getattr(same, name) * 0.999


def test_plans_that_cannot_be_made_are_refused(fit) -> None:
    with pytest.raises(ValueError, match="budget_flops must be positive and finite"):
        plan_spending(fit, PRICES, budget_flops=0, budget=MONEY)
    with pytest.raises(
        ValueError, match=r"FLOPs buy no run .* the cheapest that does takes .*, give as much"
    ):
        plan_spending(fit, PRICES, budget_flops=1e6, budget=MONEY)
    with pytest.raises(ValueError, match="noise must be given, as the law fits these runs exactly"):
        plan_spending(fitted_law(), PRICES, budget_flops=1e20, budget=MONEY)
    with pytest.raises(ValueError, match="exactly one of budget and loss"):
        plan_spending(fit, PRICES, budget_flops=1e20)
    certain = {name: values * 0 + values[0] for name, values in fit.spreads[-1].samples.items()}
    sure = replace(fit, spreads=(replace(fit.spreads[-1], samples=certain),))
    with pytest.raises(ValueError, match="no run that narrows the advice; none does"):
        plan_spending(sure, PRICES, budget_flops=1e20, budget=MONEY)
