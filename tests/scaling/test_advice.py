"""Advice, plans, reproductions: what is said, and what is left unsaid."""

from __future__ import annotations

import pytest

from curr_ab.scaling import (
    Doubt,
    Question,
    advise,
    fit_isoflop,
    make_runs,
    plan_iso_data,
    published_runs,
    reproduce,
)
from curr_ab.scaling.compute import gpu_flops
from curr_ab.scaling.laws import CHENG_MLM, REPLICATION_LAW

FAST = Doubt(draws=200)


def test_the_paper_says_five_and_a_half_million_pairs_for_650m() -> None:
    paper = advise(Question(parameters=6.5e8), doubt=FAST)[0]
    assert paper.sequences == pytest.approx(5_523_212.43, abs=0.01)
    assert paper.sequences_interval is not None
    assert 1e6 < paper.sequences_interval.low < 5.5e6 < paper.sequences_interval.high < 3e7
    assert "noise of sd 0.0003" in paper.note and "extrapolated" in paper.note


@pytest.mark.heavy
def test_size_and_data_are_each_others_answer() -> None:
    data = advise(Question(parameters=1e8), doubt=FAST)[0].sequences
    assert data is not None
    assert advise(Question(sequences=data), doubt=FAST)[0].parameters == pytest.approx(1e8)


@pytest.mark.heavy
def test_a_law_is_silent_outside_its_runs() -> None:
    mlm = next(a for a in advise(Question(sequences=2e6), doubt=FAST) if a.law == CHENG_MLM.name)
    assert mlm.parameters is None and mlm.sequences is None
    assert "too far from its runs of 3.5M to 10.7B parameters" in mlm.note
    inside = next(a for a in advise(Question(flops=1e20), doubt=FAST) if a.law == CHENG_MLM.name)
    assert inside.parameters == pytest.approx(6.19e-8 * 1e20**0.776)
    assert inside.sequences == pytest.approx(2.02e6 * 1e20**0.230 / 240)


@pytest.mark.heavy
def test_no_law_is_stretched_beyond_ten_times_its_runs() -> None:
    for question in (Question(parameters=1e13), Question(sequences=3), Question(flops=1e27)):
        assert {answer.sequences for answer in advise(question, doubt=FAST)} == {None}


@pytest.mark.heavy
def test_given_noise_is_the_papers_noise_too() -> None:
    narrow, wide = (
        advise(Question(parameters=6.5e8), doubt=Doubt(draws=200, noise_sd=noise_sd))[0].sequences_interval
        for noise_sd in (1e-4, 5e-4)
    )
    assert narrow is not None and wide is not None
    assert wide.high / wide.low > 3 * narrow.high / narrow.low


def test_a_fit_of_ones_own_runs_answers_with_its_interval() -> None:
    best = REPLICATION_LAW.compute_law()
    rows = []
    for flops in (1e19, 1e20, 1e21):
        for factor in (0.3, 0.6, 1, 2, 3):
            size = factor * best.parameters(flops)
            tokens = flops / 6 / size
            loss = REPLICATION_LAW.loss(size, tokens)
            rows.append({"parameters": size, "seen_tokens": tokens, "flops": flops, "loss": loss})
    fit = fit_isoflop(make_runs(rows), Doubt(draws=50, noise_sd=1e-3))
    own = advise(Question(flops=3e20), (fit,), FAST)[-1]
    assert own.law == "isoflop"
    assert own.parameters == pytest.approx(best.parameters(3e20), rel=0.1)
    assert own.parameters_interval is not None
    assert own.parameters_interval.low < best.parameters(3e20) < own.parameters_interval.high


@pytest.mark.parametrize("bad", [{}, {"parameters": 1e6, "flops": 1e18}, {"sequences": 0.0}, {"flops": -1.0}])
def test_a_question_gives_one_positive_amount(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"one of|positive"):
        Question(**bad)


def test_gpu_hours_are_flops() -> None:
    assert gpu_flops(100, "H100", 0.5) == pytest.approx(100 * 3600 * 989e12 * 0.5)
    with pytest.raises(ValueError, match=r"gpu must be one of A100, .* got 'abacus'"):
        gpu_flops(1, "abacus")
    with pytest.raises(ValueError, match="share of the peak"):
        gpu_flops(1, "h100", 40)


@pytest.mark.heavy
def test_a_plan_narrows_the_interval_within_its_budget() -> None:
    runs = published_runs("test-loss-2025-09")
    plan = plan_iso_data(runs, budget_flops=3e20, noise_sd=3e-4, doubt=FAST)
    assert 0 < plan.flops <= 3e20
    assert plan.flops == pytest.approx(sum(run.flops for run in plan.runs))
    assert plan.after.high / plan.after.low < 0.5 * plan.before.high / plan.before.low
    assert plan.lost_after <= plan.lost_before
    assert max(run.num_seeds for run in plan.runs) <= 5
    assert {run.sequences for run in plan.runs} <= {412_182, 824_363, 1_648_726, 206_091, 103_045}
    wider = plan_iso_data(runs, budget_flops=6e21, noise_sd=3e-4, max_sequences=4e6, doubt=FAST)
    assert max(run.sequences for run in wider.runs) == 2 * 1_648_726


@pytest.mark.heavy
def test_a_plan_beats_the_same_budget_spent_on_repeating_everything() -> None:
    runs = published_runs("test-loss-2025-09")
    once_more = sum(6 * float(size) * 500_000 * 128 * 240 for size in runs.parameters)
    plan = plan_iso_data(runs, budget_flops=once_more, noise_sd=3e-4, doubt=Doubt(draws=400))
    twice = plan_iso_data(runs, budget_flops=once_more, noise_sd=3e-4 / 2**0.5, doubt=Doubt(draws=400)).before
    assert plan.after.high / plan.after.low < twice.high / twice.low


def test_a_budget_that_buys_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="buys no useful run; the cheapest costs"):
        plan_iso_data(published_runs("test-loss-2025-09"), budget_flops=1e10, noise_sd=3e-4)


def test_the_reproduction_is_close_where_it_can_be() -> None:
    rows = {row.figure: row for row in reproduce(Doubt(draws=200))}
    assert rows["sequences for 650M parameters, from the published optima"].difference == 0
    for name, row in rows.items():
        if "best size" in name:
            assert abs(row.difference) < 0.015
        if "MLM, ten times" in name and "CLM" not in name:
            assert abs(row.difference) < 0.01
    assert abs(rows["sequences for 650M parameters, from 11 losses"].difference) < 0.03
