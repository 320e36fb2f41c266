"""Laws by all runs at once: found again, and judged by runs that they have not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.coverage import Design
from support.simulated_runs import drawn_runs

from curr_ab.scaling import Runs
from curr_ab.scaling.joint import JointFit, joint_fits

DATA = (8, 12, 18, 27, 40)


def fits(runs: Runs) -> dict[str, JointFit]:
    return {fit.law: fit for fit in joint_fits(runs)}


def without_an_optimum(seed: int = 0) -> Runs:
    """Losses by Chinchilla's form in place of parabolas, with the noise of the simulated draws."""
    noise = drawn_runs(draw_sd=0.05, own_sd=0.01, data=DATA, seed=seed)
    plain = drawn_runs(data=DATA)
    loss = 1.0 + 30 / noise.parameters**0.35 + 3 / noise.sequences**0.6
    tokens = {"unique_tokens": 240 * noise.sequences, "seen_tokens": np.full(len(noise), 1e6)}
    return replace(noise.with_losses(loss + noise.loss - plain.loss), **tokens)


def test_the_growth_of_the_best_size_is_found_and_a_shift_of_draws_costs_it_nothing() -> None:
    """The best size was simulated to grow by 0.63; plain least squares would be unsure of it."""
    widths = []
    for draw_sd in (0.01, 0.3):
        found = fits(drawn_runs(draw_sd=draw_sd, own_sd=0.02, data=DATA, seed=2))["best-size"]
        interval = found.intervals["growth"]
        assert interval.low < 0.63 < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.5) and widths[1] < 0.1


def test_the_law_that_made_the_losses_tells_best_what_it_has_not_seen() -> None:
    bowl = fits(drawn_runs(draw_sd=0.05, own_sd=0.01, data=DATA, seed=1))
    assert bowl["best-size"].size_left_out < bowl["parametric"].size_left_out / 3
    assert bowl["best-size"].data_left_out < bowl["parametric"].data_left_out
    slope = fits(without_an_optimum())
    assert slope["parametric"].size_left_out < slope["best-size"].size_left_out
    assert slope["parametric"].estimates["alpha"] == pytest.approx(0.35, abs=0.1)
    assert set(slope) == {"best-size", "parametric", "repeated-data", "iso-data"}


def test_what_is_left_out_is_not_seen() -> None:
    runs = drawn_runs(draw_sd=0.05, own_sd=0.01, data=DATA, seed=1)
    odd = np.unique(runs.parameters)[2]
    spoiled = runs.with_losses(runs.loss + 0.2 * (runs.parameters == odd))
    for law, fit in fits(spoiled).items():
        assert fit.size_left_out > 1.1 * fit.residual
        assert fit.data_left_out is None if law == "iso-data" else fit.data_left_out > fit.residual


def test_several_draws_are_needed_and_laws_that_the_runs_carry() -> None:
    assert joint_fits(drawn_runs(draws=1, own_sd=0.01)) == ()
    few = drawn_runs(draws=2, own_sd=0.01, data=(8, 24))
    assert {fit.law: fit.data_left_out for fit in joint_fits(few)}["best-size"] is None


def test_an_interval_without_an_end_is_a_number_all_the_same() -> None:
    """A constant of these runs is not determined: its upper end is beyond floating point."""
    runs = Design(data=(8, 14, 24, 40), num_sizes=5, draws=3).runs(26)
    ends = [interval.high for one in joint_fits(runs) for interval in one.intervals.values()]
    assert np.isfinite(ends).all() and max(ends) > 1e300
