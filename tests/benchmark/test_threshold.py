"""Curves of a score by loss and size: a planted threshold is found and no other, and intervals hold."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from curr_ab.benchmark import threshold as threshold_module
from curr_ab.benchmark.ladder import Rung
from curr_ab.benchmark.ladder_figures import ladder_figures
from curr_ab.benchmark.statistics import Estimate
from curr_ab.benchmark.threshold import TooFewCells, fit_curve, fit_curves
from curr_ab.family import DATA_SIZES, SIZES

GRID = [(size.num_parameters, data.num_pairs) for size, data in product(SIZES, DATA_SIZES)]
LARGE_GRID = [(10**6 * 2**size, 10**5 * 2**data) for size, data in product(range(10), range(6))]
LOSSES = np.random.default_rng(0).permutation(np.linspace(1.5, 2.3, 15))
BREAK = 1.85


def line(losses):
    return 0.5 + 0.3 * (2.3 - losses)


def hinge(losses, slope=0.3):
    return 0.5 + slope * np.maximum(BREAK - losses, 0)


def rungs(scores, losses=LOSSES, grid=GRID):
    return [
        Rung(name=f"{size}-{data}", parameters=size, pairs=data, score=float(score), loss=float(loss))
        for (size, data), score, loss in zip(grid, scores, losses, strict=True)
    ]


@pytest.fixture
def quick(monkeypatch):
    """Fewer draws: the test is exact with any number of them, and intervals are a little less even."""
    for name, number in (("_DRAWS", 199), ("_DRAWS_OF_INTERVALS", 199), ("_PLACES", 7), ("_BREAKS", 41)):
        monkeypatch.setattr(threshold_module, name, number)


def holds(found, truth):
    return found.low - 1e-9 <= truth <= found.high + 1e-9


def covered(curves, truth):
    """The share of places at which the band holds the curve, over all curves."""
    return np.mean([holds(height, truth(at)) for curve in curves for at, height in curve.points])


@pytest.mark.heavy
def test_lines_have_no_threshold(quick, monkeypatch):
    """Of tests at the level 5 % so many are wrong, though the best of many breaks is tested."""
    monkeypatch.setattr(threshold_module, "_DRAWS_OF_INTERVALS", 9)
    random = np.random.default_rng(1)
    found = [fit_curve(rungs(line(LOSSES) + 0.01 * random.normal(size=15))) for _ in range(400)]
    assert 0.025 * 400 <= sum(one.is_clear for one in found) <= 0.075 * 400


@pytest.mark.heavy
def test_a_planted_threshold_is_found(quick):
    random = np.random.default_rng(2)
    found = [fit_curve(rungs(hinge(LOSSES) + 0.01 * random.normal(size=15))) for _ in range(200)]
    assert sum(one.is_clear for one in found) >= 180
    for name, truth in (("threshold", BREAK), ("slope_before", 0.0), ("slope_after", 0.03)):
        assert 180 <= sum(holds(getattr(one, name), truth) for one in found) <= 198, name
    assert 0.9 <= covered(found, hinge) <= 0.98


@pytest.mark.heavy
def test_the_band_of_a_line_holds_it(quick):
    random = np.random.default_rng(3)
    found = [fit_curve(rungs(line(LOSSES) + 0.01 * random.normal(size=15))) for _ in range(200)]
    assert 0.9 <= covered(found, line) <= 0.98
    assert 180 <= sum(holds(one.slope, 0.03) for one in found) <= 198


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("grid", [GRID, LARGE_GRID])
def test_intervals_hold_whatever_the_threshold_and_the_cells(quick, grid, slope):
    """None at all, one too weak to be found, a strong one; losses of each study their own."""
    random = np.random.default_rng(4)
    found = []
    for _ in range(200):
        losses = random.uniform(1.5, 2.3, len(grid))
        noise = 0.01 * random.normal(size=len(grid))
        found.append(fit_curve(rungs(hinge(losses, slope) + noise, losses, grid)))
    assert 0.9 <= covered(found, lambda at: hinge(at, slope)) <= 0.98
    clear = sum(one.is_clear for one in found)
    if slope == 0:
        assert 5 <= clear <= 15
        return
    for name, truth in (("threshold", BREAK), ("slope_before", 0.0), ("slope_after", slope / 10)):
        assert 180 <= sum(holds(getattr(one, name), truth) for one in found) <= 198, name
    if slope == 0.3:
        assert clear >= 190


def test_the_test_knows_neither_the_line_nor_the_size_of_the_noise(quick):
    scores = hinge(LOSSES, 0.04) + 0.01 * np.random.default_rng(5).normal(size=15)
    one, other = (fit_curve(rungs(values)) for values in (scores, 3 * scores - 2 * LOSSES + 7))
    assert 0.005 < one.p == other.p < 0.995
    assert one.p_parabola == other.p_parabola
    assert one.threshold == other.threshold


def test_runs_of_one_cell_count_as_one(quick):
    """Else to run a cell again would make its own whim a finding."""
    once = rungs(hinge(LOSSES) + 0.02 * np.random.default_rng(6).normal(size=15))
    apart = [
        replace(one, score=one.score + sign * 0.01, loss=one.loss + sign * 0.02)
        for one in once
        for sign in (-1, 1)
    ]
    one, other = fit_curve(once), fit_curve(apart)
    assert other.num_cells == 15 and other.p == one.p
    assert other.threshold.value == pytest.approx(one.threshold.value)
    assert other.slope.low == pytest.approx(one.slope.low)


@pytest.mark.heavy
def test_what_is_peculiar_to_the_examples_is_no_threshold(quick, monkeypatch):
    """Examples differ in what models of a small loss gain on them; on average these gain nothing."""
    monkeypatch.setattr(threshold_module, "_DRAWS_OF_INTERVALS", 9)
    random = np.random.default_rng(7)
    units, wrong, blind = 40, 0, 0
    for _ in range(200):
        of_unit = line(LOSSES)[:, None] + (hinge(LOSSES) - 0.5)[:, None] * random.normal(size=units)
        of_unit += 0.01 * random.normal(size=(15, units))
        scores = of_unit.mean(axis=1)
        without = (units * scores[:, None] - of_unit) / (units - 1)
        strata = np.zeros(units, int)
        found = [
            Estimate(float(score), row, strata, np.array([score]))
            for score, row in zip(scores, without, strict=True)
        ]
        wrong += fit_curve(rungs(scores), found).is_clear
        blind += fit_curve(rungs(scores)).is_clear
    assert wrong <= 0.075 * 200
    assert blind > 0.5 * 200  # the scatter of the models alone would mislead


@pytest.mark.heavy
def test_scores_that_are_known_to_be_noisier_show_less(quick, monkeypatch):
    """Noise that grows fifteenfold with the loss: without the errors many lines would have a threshold."""
    monkeypatch.setattr(threshold_module, "_DRAWS_OF_INTERVALS", 9)
    random = np.random.default_rng(8)
    errors = 0.002 * 15 ** ((LOSSES - 1.5) / 0.8)
    wrong, blind = 0, 0
    for _ in range(300):
        lines = rungs(line(LOSSES) + errors * random.normal(size=15))
        blind += fit_curve(lines).is_clear
        known = [replace(one, error=float(error)) for one, error in zip(lines, errors, strict=True)]
        wrong += fit_curve(known).is_clear
    assert 0.025 * 300 <= wrong <= 0.075 * 300
    assert blind > 0.1 * 300


def test_a_threshold_by_size_is_found_on_any_level_of_the_data(quick):
    sizes, data = (np.log2([cell[place] for cell in GRID]) for place in (0, 1))
    middle = math.log2(SIZES[2].num_parameters)
    scores = 0.5 + 0.05 * np.maximum(sizes - middle, 0) + 0.003 * np.random.default_rng(9).normal(size=15)
    found = fit_curve(rungs(scores), against="parameters")
    assert found.is_clear and holds(found.threshold, SIZES[2].num_parameters)
    assert found.threshold.low < found.threshold.value < found.threshold.high
    assert holds(found.slope_before, 0) and holds(found.slope_after, 0.05)
    assert found.sentence("AUROC").startswith("The AUROC has a threshold at ")
    assert " parameters (95% interval " in found.sentence("AUROC")
    raised = fit_curve(rungs(scores + 0.1 * (data - data.mean())), against="parameters")
    assert raised.p == found.p
    assert [height.value for _, height in raised.points] == pytest.approx(
        [height.value for _, height in found.points]
    )


def test_the_sentence_says_what_was_found(quick):
    noise = 0.002 * np.random.default_rng(10).normal(size=15)
    found = fit_curve(rungs(hinge(LOSSES) + noise))
    assert found.sentence("accuracy") == (
        f"The accuracy has a threshold at a loss of {found.threshold.value:.3g} nats (95% interval "
        f"{found.threshold.low:.3g} to {found.threshold.high:.3g}), p against no threshold = 0.005, 15 cells "
        f"by their scatter alone: with each 0.1 nats less it changes by {found.slope_before.value:+.2g} "
        f"({found.slope_before.low:+.2g} to {found.slope_before.high:+.2g}) above, and by "
        f"{found.slope_after.value:+.2g} ({found.slope_after.low:+.2g} to {found.slope_after.high:+.2g}) "
        f"below. A parabola does not explain that (p = {found.p_parabola:.2g})."
    )
    flat = fit_curve(rungs(line(LOSSES) + noise)).sentence("accuracy")
    assert flat.startswith("No threshold of the accuracy by the loss is shown (p against no threshold = 0.")
    assert "with each 0.1 nats less it changes by +0.03" in flat
    more = fit_curve(rungs(line(LOSSES) + hinge(LOSSES) + noise)).sentence("accuracy")
    assert more.startswith("The accuracy improves more below a loss of 1.8")
    less = fit_curve(rungs(line(LOSSES) - hinge(LOSSES) + noise)).sentence("accuracy")
    assert less.startswith("The accuracy improves less below a loss of 1.8")
    error = fit_curve(rungs(1 - hinge(LOSSES) + noise), lower_is_better=True).sentence("rmse")
    assert error.startswith("The rmse has a threshold at a loss of 1.8")


def test_what_is_no_ladder_is_refused(quick):
    cells = rungs(hinge(LOSSES))
    with pytest.raises(
        TooFewCells, match="10 cells with 5 values of the loss at least; got 9 with 9; measure"
    ):
        fit_curve(cells[:9])
    with pytest.raises(TooFewCells, match="got 15 with 1; measure"):
        fit_curve([replace(one, loss=2.0) for one in cells])
    sizes = [10**6 * 2**size for size in range(5)]
    apart = [*product(sizes[:2], range(1, 7)), *zip(sizes[2:], (7, 8, 9), strict=True)]
    with pytest.raises(TooFewCells, match="data sets that share sizes"):
        fit_curve(rungs(LOSSES, grid=apart), against="parameters")
    shared = [*product(sizes, (1, 2)), *((2**size * sizes[-1], size) for size in range(3, 8))]
    assert fit_curve(rungs(LOSSES, grid=shared), against="parameters").num_cells == 15
    with pytest.raises(
        ValueError, match=f"the score of {cells[1].name} must be a number; leave the model out"
    ):
        fit_curve([cells[0], replace(cells[1], score=math.nan), *cells[2:]])
    with pytest.raises(ValueError, match=f"the loss of {cells[1].name} must be known"):
        fit_curve([cells[0], replace(cells[1], loss=None), *cells[2:]])


def test_curves_are_fitted_where_cells_are_enough(quick):
    scores = hinge(LOSSES) + 0.01 * np.random.default_rng(11).normal(size=15)
    cells = [replace(one, loss=None if at < 3 else one.loss) for at, one in enumerate(rungs(scores))]
    found = fit_curves(cells)
    assert {name: one.num_cells for name, one in found.items()} == {"loss": 12, "parameters": 15}
    assert list(fit_curves([replace(one, loss=None) for one in cells])) == ["parameters"]
    assert fit_curves(cells[:9]) == {}


def test_scores_without_noise_are_taken(quick):
    assert fit_curve(rungs(np.full(15, 0.5))).p == 1
    found = fit_curve(rungs(hinge(LOSSES)))
    assert found.p == 0.005 and found.threshold.value == pytest.approx(BREAK, abs=0.02)


def test_the_curve_is_drawn_with_its_band(quick):
    noise = 0.005 * np.random.default_rng(12).normal(size=15)
    cells = rungs(hinge(LOSSES) + noise)
    by_loss, by_size, by_pairs = ladder_figures(cells, "AUROC", curves=fit_curves(cells))
    for drawing in (by_loss, by_size):
        assert 'class="band ink"' in drawing.marks and 'class="line ink"' in drawing.marks
        assert drawing.keys[0].words == "fitted curve with its 95% band"
    assert "band ink" not in by_pairs.marks
    assert by_loss.description.startswith("The AUROC has a threshold at a loss of 1.8")
    assert 'data-tip="break at a loss of 1.8' in by_loss.marks and "break at" not in by_size.marks
    assert "line thin" not in by_loss.marks  # the curve joins what lines would
