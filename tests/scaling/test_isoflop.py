"""IsoFLOP from final points and from training curves of a law whose optimum is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from curr_ab.scaling import Doubt, IsoFlopFit, Runs, fit_isoflop, make_runs
from curr_ab.scaling.laws import REPLICATION_LAW

FAST = Doubt(draws=40, noise_sd=1e-4)
OPTIMAL = REPLICATION_LAW.compute_law()
BUDGETS = (1e19, 1e20, 1e21)


def _points(budgets: tuple[float, ...] = BUDGETS, num_sizes: int = 7, width: float = 3.0) -> Runs:
    rows = []
    for flops in budgets:
        best = OPTIMAL.parameters(flops)
        for size in np.geomspace(best / width, best * width, num_sizes):
            tokens = flops / (6 * size)
            loss = REPLICATION_LAW.loss(size, tokens)
            rows.append({"parameters": size, "seen_tokens": tokens, "flops": flops, "loss": loss})
    return make_runs(rows)


def test_final_points_give_the_optima_and_exponents_of_the_law_behind_them() -> None:
    fit = fit_isoflop(_points(), FAST)
    assert isinstance(fit, IsoFlopFit)
    assert fit.estimates["parameters_exponent"] == pytest.approx(OPTIMAL.parameters_exponent, abs=0.01)
    assert fit.estimates["tokens_exponent"] == pytest.approx(OPTIMAL.tokens_exponent, abs=0.01)
    assert fit.estimates["raw_parameters_exponent"] == pytest.approx(OPTIMAL.parameters_exponent, abs=0.01)
    assert fit.estimates["loss_exponent"] < 0
    for budget in fit.budgets:
        assert budget.parabola.optimum == pytest.approx(OPTIMAL.parameters(budget.flops), rel=0.1)
        assert budget.tokens == pytest.approx(OPTIMAL.tokens(budget.flops), rel=0.1)
        assert 6 * budget.parabola.optimum * budget.tokens == pytest.approx(budget.flops, rel=1e-6)
    between = fit.spreads[1].interval("parameters_exponent")
    assert between.low < fit.estimates["parameters_exponent"] < between.high


def _curves(sizes: np.ndarray, loss_of: Callable[[float, float], float] = REPLICATION_LAW.loss) -> Runs:
    return make_runs(
        {
            "parameters": size,
            "seen_tokens": tokens,
            "loss": loss_of(size, tokens),
            "run": f"{size:.0f}",
        }
        for size in sizes
        for tokens in np.geomspace(1e9, 1e12, 40)
    )


def test_training_curves_give_the_same_law() -> None:
    fit = fit_isoflop(_curves(np.geomspace(2e8, 2e10, 9)), FAST)
    assert fit.estimates["parameters_exponent"] == pytest.approx(OPTIMAL.parameters_exponent, abs=0.06)
    assert any("learning rate had decayed" in warning for warning in fit.warnings)
    # A curve is one piece of evidence, however many checkpoints it has.
    assert len(fit.influences) == 9


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (_points((1e20,)), "at least two compute budgets"),
        (_points(num_sizes=2), "has 2 model size"),
        (_curves(np.array([1e8, 1e9])), "crossed by three training curves"),
        (make_runs([{"parameters": 1e6, "loss": 1.0}]), "needs the column 'flops'"),
        (_points().with_losses(np.full(21, 2.0)), "no minimum"),
    ],
)
def test_a_table_that_cannot_carry_the_law_is_refused(runs: Runs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_isoflop(runs, FAST)


def test_an_optimum_at_the_edge_is_said_in_words() -> None:
    all_points = _points(width=6.0)
    small = np.concatenate([np.arange(7 * k, 7 * k + 4) for k in range(3)])  # optimum and below
    fit = fit_isoflop(all_points.take(small[small % 7 != 3]), FAST)
    text = " ".join(fit.warnings)
    assert "lies outside the sizes" in text
    assert "the smallest or largest size; the raw minimum is only a bound" in text


def test_curves_and_points_are_not_mixed() -> None:
    cells = ((1e6, "a"), (2e6, ""))
    rows = [{"parameters": n, "seen_tokens": 1e9, "loss": 3.0, "run": name} for n, name in cells]
    with pytest.raises(ValueError, match="not both"):
        fit_isoflop(make_runs(rows), FAST)
