"""The iso-data law on tables that carry it, and on tables that do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from curr_ab import workers as parallel
from curr_ab.quantities import format_quantity
from curr_ab.scaling import Doubt, IsoDataFit, NoOptimum, Runs, fit_iso_data, make_runs, plot_fit
from curr_ab.scaling.draws import scatter_of
from curr_ab.scaling.runs import seed_noise

FAST = Doubt(draws=50)
SIZES = (8e6, 35e6, 150e6, 350e6, 650e6)


def _runs(
    losses: Mapping[int, Sequence[float]], sizes: Sequence[float] = SIZES, objective: str = "mlm"
) -> Runs:
    return make_runs(
        {"parameters": n, "sequences": data, "loss": loss, "objective": objective}
        for data, row in losses.items()
        for n, loss in zip(sizes, row, strict=True)
    )


def _bowl(optimum: float, floor: float, sizes: Sequence[float] = SIZES) -> list[float]:
    return [floor + 0.01 * float(np.log10(size / optimum)) ** 2 for size in sizes]


def test_a_known_law_is_recovered() -> None:
    data = [int(0.3 * optimum**0.8) for optimum in (3e7, 6e7, 1.2e8, 2.4e8)]
    bowls = {
        sequences: _bowl(optimum, 0.3 - 0.01 * k)
        for k, (sequences, optimum) in enumerate(zip(data, (3e7, 6e7, 1.2e8, 2.4e8), strict=True))
    }
    fit = fit_iso_data(_runs(bowls), Doubt(draws=100, noise_sd=1e-6), project_to=1e9)
    assert fit.estimates["exponent"] == pytest.approx(0.8, rel=1e-4)
    assert fit.estimates["projected_sequences"] == pytest.approx(0.3 * 1e9**0.8, rel=1e-3)
    noise = fit.spreads[1].interval("exponent")
    assert noise.low < 0.8 < noise.high
    assert np.abs(fit.residuals).max() < 1e-9
    assert len(fit.influences) == 20
    assert isinstance(fit, IsoDataFit)
    chart = plot_fit(fit)["data_by_size"].file()
    diamond = f"1B parameters: {format_quantity(fit.estimates['projected_sequences'])} pairs"
    assert chart.count(f'class="hollow law" data-tip="{diamond}"') == 1 and f">{diamond}</text>" in chart


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (_runs({10: [0.3, 0.2], 20: [0.3, 0.2]}, SIZES[:2]), "has 2 model size"),
        (_runs({10: _bowl(5e7, 0.2)}), "at least two data sizes"),
        (_runs({10: [0.2] * 5, 20: [0.2] * 5}), "no minimum"),
        (_runs({10: [0.2, 0.3, 0.31, 0.3, 0.2], 20: _bowl(5e7, 0.2)}), "data size 10: .* opens downward"),
        (make_runs([{"parameters": 1e6, "loss": 1.0}]), "needs the column 'sequences'"),
    ],
)
def test_a_table_that_cannot_carry_the_law_is_refused(runs: Runs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_iso_data(runs, FAST)


def test_losses_of_two_objectives_are_not_mixed() -> None:
    one, two = _runs({10: _bowl(5e7, 0.2)}), _runs({20: _bowl(9e7, 0.2)}, objective="clm")
    names = Runs.__dataclass_fields__
    both = Runs(**{name: np.concatenate([getattr(one, name), getattr(two, name)]) for name in names})
    with pytest.raises(ValueError, match="one objective only"):
        fit_iso_data(both, FAST)


def test_equal_optima_give_no_power_law() -> None:
    with pytest.raises(NoOptimum, match="coincide"):
        fit_iso_data(_runs({10: _bowl(5e7, 0.2), 20: _bowl(5e7, 0.2)}), FAST)


def test_warnings_name_the_limits_of_the_data() -> None:
    fit = fit_iso_data(_runs({10: _bowl(5e7, 0.2), 20: _bowl(2e9, 0.2)}), FAST)
    text = " ".join(fit.warnings)
    assert "no points left to test it" in text
    assert "data size 20: the optimum (2B) lies outside the sizes" in text


def test_without_runs_to_spare_the_noise_is_unknown() -> None:
    sizes = SIZES[1:4]
    fit = fit_iso_data(_runs({10: _bowl(5e7, 0.2, sizes), 20: _bowl(6e7, 0.2, sizes)}, sizes), FAST)
    assert [spread.method for spread in fit.spreads] == ["bootstrap over runs"]
    assert any("the noise is unknown" in warning for warning in fit.warnings)


def test_a_law_that_shrinks_with_the_data_gives_no_projection() -> None:
    fit = fit_iso_data(_runs({10: _bowl(9e7, 0.2), 20: _bowl(5e7, 0.2)}), FAST)
    assert any("projection has no meaning" in warning for warning in fit.warnings)


def test_the_noise_is_how_far_the_means_over_seeds_lie_from_the_curves() -> None:
    generator = np.random.default_rng(1)
    rows = [
        {"parameters": n, "sequences": data, "seed": seed, "loss": loss + off + generator.normal(0, 2e-5)}
        for data, optimum in ((10, 4e7), (20, 1e8), (40, 2.5e8))
        for n, loss in zip(SIZES, _bowl(optimum, 0.2), strict=True)
        for off in [generator.normal(0, 2e-3)]  # as another draw of the sequences would, for all seeds
        for seed in (1, 2, 3)
    ]
    runs = make_runs(rows)
    fit = fit_iso_data(runs, FAST)
    scatter = scatter_of(fit.residuals, 9, runs)
    assert scatter is not None and scatter.off_curves.freedom == 6
    assert scatter.off_curves.sd == pytest.approx(2e-3, rel=0.5)
    noise = scatter.sample(generator).reshape(15, 3)
    assert (noise == noise[:, :1]).all() and len(np.unique(noise)) == 15
    (spread,) = fit.spreads
    by_seeds = fit_iso_data(runs, replace(FAST, noise_sd=seed_noise(runs))).spreads[1]
    wide, narrow = (one.interval("exponent") for one in (spread, by_seeds))
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    assert not any("noise is unknown" in warning for warning in fit.warnings)


def test_influence_is_the_fit_without_the_run() -> None:
    runs = _runs({10: _bowl(5e7, 0.2), 20: _bowl(9e7, 0.2), 40: [*_bowl(2e8, 0.2)[:4], 0.21]})
    influences = fit_iso_data(runs, FAST).influences
    without = fit_iso_data(runs.take(np.arange(14)), FAST).estimates
    assert influences[14].run == "row 15"
    assert influences[14].estimates == pytest.approx(without)
    assert influences[14].estimates != pytest.approx(influences[0].estimates)


@pytest.mark.heavy
def test_workers_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_WORTH_A_POOL", 0.0)
    runs = _runs({10: _bowl(5e7, 0.2), 20: _bowl(9e7, 0.2), 40: _bowl(2e8, 0.2)})
    one, two = (
        fit_iso_data(runs, Doubt(draws=60, noise_sd=1e-4, workers=workers)).spreads for workers in (1, 2)
    )
    for alone, shared in zip(one, two, strict=True):
        assert alone.share_without_optimum == shared.share_without_optimum
        for name, samples in alone.samples.items():
            np.testing.assert_array_equal(samples, shared.samples[name])


@pytest.mark.parametrize("bad", [{"draws": 5}, {"noise_sd": 0.0}, {"noise_sd": float("nan")}, {"workers": 0}])
def test_doubt_is_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(bad))} must be"):
        Doubt(**bad)  # type: ignore[arg-type]
