"""Repeated data: the published formula, its gradient, and its constants recovered from runs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from curr_ab.scaling import Doubt, Runs, fit_repeated_data, make_runs
from curr_ab.scaling.laws import DATA_CONSTRAINED_LAW
from curr_ab.scaling.repeated_data import model_of, starting_grid

Simulate = Callable[..., Runs]
LAW = DATA_CONSTRAINED_LAW
THETA = np.log([520.8, 1487.7, 1.8691, math.e**0.35266, 15.3878, 5.3097])
FAST = Doubt(draws=20)


def _published(parameters: float, unique: float, seen: float) -> float:
    """arXiv 2305.16264, written out once more, term by term, with its published constants."""
    a, b, e, alpha, data_star, size_star = 520.8, 1487.7, 1.8691, 0.35266, 15.3878, 5.3097
    # N_opt(U_D): where dL/dN = dL/dD * D/N, the least loss at fixed 6 N D for single-epoch data
    usable = (alpha * a / (alpha * b)) ** (1 / alpha) * unique
    size_unique = min(parameters, usable)
    size_repeated = parameters / size_unique - 1
    data_repeated = seen / unique - 1
    size = size_unique + size_unique * size_star * (1 - math.exp(-size_repeated / size_star))
    data = unique + unique * data_star * (1 - math.exp(-data_repeated / data_star))
    return e + a / size**alpha + b / data**alpha


@pytest.mark.parametrize(
    ("parameters", "unique", "seen"),
    [(1e8, 1e10, 1e10), (1e8, 1e10, 4e10), (4.2e9, 1e9, 1e9), (2.8e9, 5e8, 2e10), (8.7e9, 1e8, 155e8)],
)
def test_the_published_constants_give_the_published_formulas_loss(
    parameters: float, unique: float, seen: float
) -> None:
    expected = _published(parameters, unique, seen)
    assert LAW.loss(parameters, unique, seen) == pytest.approx(expected, rel=1e-12)
    runs = make_runs(
        [{"parameters": parameters, "unique_tokens": unique, "seen_tokens": seen, "loss": expected}]
    )
    assert np.exp(model_of(runs).log_loss(THETA)[0][0]) == pytest.approx(expected, rel=1e-12)


def test_without_repetition_the_law_is_the_parametric_one() -> None:
    assert LAW.loss(1e8, 1e10, 1e10) == pytest.approx(1.8691 + 520.8 / 1e8**0.35266 + 1487.7 / 1e10**0.35266)


def test_four_epochs_are_nearly_new_data_and_endless_ones_are_bounded() -> None:
    assert LAW.effective_tokens(1.0, 4.0) / 4 == pytest.approx(0.93, abs=0.01)
    assert LAW.effective_tokens(1.0, 1e6) == pytest.approx(1 + 15.3878)


def test_the_gradient_is_the_laws(repeated_runs: Simulate) -> None:
    model = model_of(repeated_runs(40))
    for theta in (THETA, THETA * 0.9, THETA * 1.1):
        jacobian = model.log_loss(theta)[1]
        for k in range(len(theta)):
            step = np.eye(len(theta))[k] * 1e-6
            numeric = (model.log_loss(theta + step)[0] - model.log_loss(theta - step)[0]) / 2e-6
            # numpy.testing asks another process for the processor, in early releases.
            assert jacobian[k] == pytest.approx(numeric, rel=1e-7, abs=1e-6)


@pytest.mark.heavy
def test_the_constants_are_recovered_from_simulated_runs(repeated_runs: Simulate) -> None:
    fit = fit_repeated_data(repeated_runs(80), FAST, starts=starting_grid()[::40])
    assert fit.estimates["R_D_star"] == pytest.approx(15.3878, rel=0.1)
    assert fit.estimates["R_N_star"] == pytest.approx(5.3097, rel=0.2)
    assert fit.estimates["exponent"] == pytest.approx(0.35266, rel=0.1)
    profiles = {profile.parameter: profile for profile in fit.profiles}
    assert profiles["R_D_star"].low < 15.3878 < profiles["R_D_star"].high
    between = fit.spreads[0].interval("R_D_star")
    assert between.low < 15.3878 < between.high


@pytest.mark.heavy
def test_without_excess_parameters_their_constant_is_not_determined(repeated_runs: Simulate) -> None:
    runs = repeated_runs(80)
    few = runs.take(runs.parameters < 0.03 * runs.unique_tokens)  # below what the data can use
    fit = fit_repeated_data(few, FAST, starts=THETA[None])
    assert any("R_N_star is not bounded" in warning for warning in fit.warnings)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"unique_tokens": 1e9, "seen_tokens": 5e8}, "seen fewer tokens"),
        ({"unique_tokens": 1e9, "seen_tokens": 2e9}, "repeat their data equally often"),
        ({"unique_tokens": 1e9}, "needs the column 'seen_tokens'"),
    ],
)
def test_a_table_that_cannot_carry_the_law_is_refused(row: dict[str, float], message: str) -> None:
    runs = make_runs([{"parameters": n, "loss": 2.0 + n / 1e9, **row} for n in (1e6, 1e7, 1e8)])
    with pytest.raises(ValueError, match=message):
        fit_repeated_data(runs, FAST)
