"""The law of a study: fitted with its doubts where the losses allow it, and refused in words where not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from curr_ab.study.law import CellLoss, StudyLaw, fit_cells

SIZES = (60_000, 110_000, 350_000, 800_000, 1_800_000)


def cells(optima, seeds=(1,), curvature=0.5, scatter=0.0):
    """Losses on parabolas of the size with these optima, by data size; None: it falls all the way."""
    noise = np.random.default_rng(0)
    return [
        CellLoss(
            f"D{pairs}",
            size,
            pairs,
            seed,
            float(
                2
                + (
                    -0.1 * np.log10(size) ** 2 / 30
                    if best is None
                    else curvature * np.log10(size / best) ** 2
                )
                + scatter * noise.normal()
            ),
            0.01,
        )
        for pairs, best in optima.items()
        for size in SIZES
        for seed in seeds
    ]


@pytest.mark.heavy
def test_optima_and_exponent_are_found_with_intervals():
    law = fit_cells(cells({12: 1e5, 40: 2e5, 150: 6e5}))
    estimates = law.fit.estimates
    assert estimates["optimal_parameters[12]"] == pytest.approx(1e5, rel=1e-3)
    assert estimates["exponent"] == pytest.approx(
        np.polyfit(np.log([1e5, 2e5, 6e5]), np.log([12, 40, 150]), 1)[0]
    )
    assert law.fit.project_to == SIZES[-1]
    (spread,) = law.fit.spreads
    assert spread.method == "scatter about the curves"
    interval = spread.interval("optimal_parameters[150]")
    assert interval.low < interval.high and interval.low == pytest.approx(6e5, rel=0.1)
    assert law.parabolas == law.fit.parabolas and StudyLaw.from_plain(law.to_plain()) == law
    assert any("one seed" in remark and "what another seed would change" in remark for remark in law.remarks)
    assert any(remark.startswith("The power law goes through 3 optima") for remark in law.remarks)
    assert any("D12 (12 pairs): the lowest loss is that of 110K" in remark for remark in law.remarks)


def test_the_lowest_loss_is_that_of_the_means():
    table = cells({12: 1e5, 40: 2e5, 150: 6e5}, seeds=(1, 2))
    lucky = max((cell for cell in table if cell.pairs == 12), key=lambda cell: cell.parameters)
    table[table.index(lucky)] = replace(lucky, loss=min(cell.loss for cell in table) - 0.01)
    assert any("D12 (12 pairs): the lowest loss is that of 110K" in told for told in fit_cells(table).remarks)


@pytest.mark.heavy
def test_several_seeds_give_the_noise():
    law = fit_cells(cells({12: 1e5, 40: 2e5, 150: 6e5}, seeds=(1, 2, 3), scatter=0.02))
    assert "scatter of the losses between seeds" in law.remarks[0]
    assert 0.01 < law.noise_sd < 0.03
    assert "how far the means over seeds lie from the parabolas (6 degrees of freedom)" in law.remarks[0]


def test_without_a_minimum_there_is_no_law_but_words():
    law = fit_cells(cells({12: 1e5, 40: 2e5, 150: None}))
    assert law.fit is None and set(law.parabolas) == {12, 40}
    assert law.problem.startswith("The law is not identifiable from these losses: data size 150: the")
    assert law.problem in law.remarks
    assert any(r.startswith("D150 (150 pairs): the lowest loss is that of 1.8M") for r in law.remarks)
    assert StudyLaw.from_plain(json.loads(json.dumps(law.to_plain()))) == law


@pytest.mark.heavy
def test_an_optimum_outside_the_sizes_is_said_to_be_there():
    law = fit_cells(cells({12: 1e5, 40: 2e5, 150: 5e6}))
    assert any("(5M) lies above the largest size that was trained" in remark for remark in law.remarks)


def test_losses_that_no_law_takes_leave_words():
    given = cells({12: 1e5, 40: 2e5})
    law = fit_cells([*given, given[0]])
    assert law.problem.startswith("No law can be fitted to these losses: table: row 11 repeats row 1")
    assert law.remarks == (law.problem,) and len(law.table) == 11


def test_with_nothing_done_there_is_nothing_to_fit():
    assert fit_cells([]).to_plain() == {"problem": "no cell has been evaluated"}
