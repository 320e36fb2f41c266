"""Transfer CLM to MLM: transferred tokens, their power law, the best share."""

from __future__ import annotations

import numpy as np
import pytest

from curr_ab.quantities import format_quantity
from curr_ab.scaling import Doubt, Runs, fit_transfer, make_runs
from curr_ab.scaling.laws import REPLICATION_LAW as SCRATCH
from curr_ab.scaling.report import describe_fit
from curr_ab.scaling.transfer import effectively_transferred, transferred_intervals

FAST = Doubt(draws=30, noise_sd=1e-5)
SIZES = (3e7, 1e8, 3e8, 1e9)


def _saved(size: float, clm: float, seen: float) -> float:
    return size**0.3 * clm**0.6 * seen**0.2


def _runs() -> Runs:
    rows = [
        {"parameters": n, "seen_tokens": d, "clm_tokens": 0, "loss": SCRATCH.loss(n, d)}
        for n in SIZES
        for d in np.geomspace(1e9, 1e12, 60)
    ]
    rows += [
        {"parameters": n, "seen_tokens": d, "clm_tokens": c, "loss": SCRATCH.loss(n, d + _saved(n, c, d))}
        for n in SIZES
        for d in (3e9, 1e10, 3e10)
        for c in (1e9, 1e10)
    ]
    return make_runs({**row, "objective": "mlm"} for row in rows)


@pytest.mark.heavy
def test_a_known_transfer_law_is_recovered() -> None:
    fit = fit_transfer(_runs(), FAST)
    assert fit.estimates["parameters_exponent"] == pytest.approx(0.3, abs=0.02)
    assert fit.estimates["clm_tokens_exponent"] == pytest.approx(0.6, abs=0.02)
    assert fit.estimates["seen_tokens_exponent"] == pytest.approx(0.2, abs=0.02)
    assert len(fit.transferred) == 24
    assert max(spread.share_without_optimum for spread in fit.spreads) < 0.1
    first = fit.runs.take(np.array([240]))
    expected = _saved(first.parameters[0], first.clm_tokens[0], first.seen_tokens[0])
    assert fit.transferred["row 241"] == pytest.approx(expected, rel=0.02)
    assert np.abs(fit.residuals).max() < 0.02


@pytest.mark.heavy
def test_the_best_share_is_the_minimum_between_none_and_all() -> None:
    total, best = 2.5e10, 0.17
    rows = [
        {
            "parameters": 1e8,
            "seen_tokens": total * (1 - share),
            "clm_tokens": total * share,
            "loss": SCRATCH.loss(1e8, total) - 0.002 + (share - best) ** 2 / 10,
        }
        for share in (0.0, 0.1, 0.2, 0.3)
    ]
    both = [*_rows(_runs()), *rows]
    fit = fit_transfer(make_runs(both), FAST)
    assert fit.estimates["best_clm_share"] == pytest.approx(best, abs=1e-6)


def _rows(runs: Runs) -> list[dict[str, str | float]]:
    names = ("parameters", "seen_tokens", "clm_tokens", "loss")
    return [{name: getattr(runs, name)[row] for name in names} for row in range(len(runs))]


@pytest.mark.heavy
def test_runs_that_no_scratch_run_brackets_are_left_out_in_words() -> None:
    runs = _runs()
    losses = runs.loss.copy()
    losses[-1] = 1.0
    fit = fit_transfer(runs.with_losses(losses), FAST)
    assert any("1 of 24 runs after CLM left out" in warning for warning in fit.warnings)
    assert np.isnan(fit.transferred[f"row {len(runs)}"])
    assert len(fit.residuals) == 23


@pytest.mark.heavy
def test_noise_that_makes_a_scratch_curve_rise_does_not_break_its_inversion() -> None:
    runs = _runs()
    scratch = runs.clm_tokens == 0
    noise = np.random.default_rng(0).normal(0, 0.01, len(runs))
    noisy = np.where(scratch, runs.loss + noise, runs.loss)
    first = noisy[:60]
    assert (np.diff(first) > 0).any()
    fit = fit_transfer(runs.with_losses(noisy), FAST)
    assert not any("left out" in warning for warning in fit.warnings)
    assert fit.estimates["clm_tokens_exponent"] == pytest.approx(0.6, abs=0.1)


def test_a_scratch_curve_that_rises_in_between_is_levelled() -> None:
    curve = zip((1e9, 2e9, 4e9, 8e9), (3.0, 2.5, 2.6, 2.2), strict=True)
    rows = [{"parameters": 1e8, "seen_tokens": d, "clm_tokens": 0, "loss": loss} for d, loss in curve]
    rows.append({"parameters": 1e8, "seen_tokens": 1e8, "clm_tokens": 1e9, "loss": 2.58})
    _, transferred = effectively_transferred(make_runs(rows))
    way = np.log(3.0 / 2.58) / np.log(3.0 / 2.55)  # 2.5 and 2.6 are both taken for 2.55
    assert transferred[0] == pytest.approx(1e9 * 2**way - 1e8)


@pytest.mark.heavy
def test_flat_losses_say_nothing_about_transfer() -> None:
    runs = _runs()
    with pytest.raises(ValueError, match="all losses are equal"):
        fit_transfer(runs.with_losses(np.full(len(runs), 2.0)), FAST)
    flat = np.where(runs.parameters == SIZES[0], 2.0, runs.loss)  # one size says nothing
    fit = fit_transfer(runs.with_losses(flat), FAST)
    assert any("6 of 24 runs after CLM left out" in warning for warning in fit.warnings)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (slice(0, 240), "runs from scratch .* and runs after CLM"),
        (slice(240, None), "runs from scratch .* and runs after CLM"),
        (slice(239, 242), "do not determine"),
    ],
)
def test_a_table_that_cannot_carry_the_law_is_refused(rows: slice, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_transfer(_runs().take(np.arange(264)[rows]), FAST)


def _noisy(seed: int, sd: float, scratch: int = 14) -> Runs:
    """One size, each training with two seeds, losses with noise."""
    generator = np.random.default_rng(seed)
    plan = [(d, 0.0, d) for d in np.geomspace(1e9, 1e12, scratch)]
    plan += [(d, c, d + _saved(1e8, c, d)) for d in (3e9, 1e10, 3e10) for c in (1e9, 1e10)]
    return make_runs(
        {
            "parameters": 1e8,
            "seen_tokens": seen,
            "clm_tokens": clm,
            "loss": float(SCRATCH.loss(1e8, worth)) + generator.normal(0, sd),
            "seed": str(number),
        }
        for seen, clm, worth in plan
        for number in (1, 2)
    )


def test_intervals_of_the_saved_tokens_hold_them_as_often_as_they_say() -> None:
    held, count = 0, 0
    for seed in range(40):
        runs = _noisy(seed, 0.01)
        for row, between in transferred_intervals(runs, Doubt(draws=200)).items():
            index = int(row.removeprefix("row ")) - 1
            true = _saved(1e8, runs.clm_tokens[index], runs.seen_tokens[index])
            held += between.low <= true <= between.high
            count += 1
    assert count == 480 and 0.9 < held / count < 0.99


def test_intervals_are_open_where_no_run_from_scratch_is_as_good_and_none_without_noise() -> None:
    runs = _noisy(0, 0.01)
    losses = runs.loss.copy()
    losses[-1], losses[-3] = losses[:28].min() + 0.001, losses[:28].min() - 1
    found = transferred_intervals(runs.with_losses(losses), Doubt(draws=100, noise_sd=0.01))
    last, best = found[f"row {len(runs)}"], found[f"row {len(runs) - 2}"]
    assert 0 < last.low < np.inf and last.high == np.inf
    assert best.low == best.high == np.inf
    assert transferred_intervals(runs.take(runs.seed == "1"), Doubt(draws=20)) == {}
    given = transferred_intervals(runs, Doubt(draws=200, noise_sd=0.001))
    known = transferred_intervals(runs, Doubt(draws=200))
    assert all(given[row].high - given[row].low < known[row].high - known[row].low for row in known)


def test_the_report_of_a_fit_has_the_saved_tokens() -> None:
    fit = fit_transfer(_noisy(1, 0.003), Doubt(draws=20))
    lines = list(describe_fit(fit))
    first = lines.index("  MLM tokens from scratch that CLM training stood in for, 95 %:") + 1
    for line, (row, tokens) in zip(lines[first:], fit.transferred.items(), strict=False):
        between = fit.transferred_intervals[row]
        assert row in line and format_quantity(tokens) in line
        assert f"{format_quantity(between.low)} to {format_quantity(between.high)}" in line
