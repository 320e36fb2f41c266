"""What the report finds in the cells, and how sure it is of it."""

import math
import re
from dataclasses import replace
from statistics import fmean

import pytest
from support import studies
from support.report_words import both

from curr_ab.quantities import format_quantity
from curr_ab.scaling.runs import make_runs, seed_noise
from curr_ab.study.report.findings import findings
from curr_ab.study.report.grid import Grid, loss_of, make_grid, pairing_of, region_of, throughput_of
from curr_ab.study.report.page import render_markdown, render_page


def _runs(study, measure):
    """The measure in the place of the loss, so that the law's own noise can be asked."""
    return make_runs(
        {"parameters": c.parameters, "sequences": c.pairs, "loss": measure(c)[0], "seed": str(c.seed)}
        for c in study.cells
    )


@pytest.mark.parametrize("measure", [loss_of, pairing_of, region_of("heavy CDR3")])
def test_seeds_are_averaged_and_their_pooled_scatter_is_the_error(measure):
    """Two seeds alone may agree by luck: their own scatter is no standard error."""
    study = studies.small()
    equal = {3: study.cells[4].loss, 4: study.cells[4].loss, 5: study.cells[4].loss}
    cells = tuple(replace(cell, loss=equal.get(at, cell.loss)) for at, cell in enumerate(study.cells))
    study = replace(study, cells=cells)
    grid = make_grid(study)
    noise = seed_noise(_runs(study, measure))
    assert grid.noise(measure) == pytest.approx(noise)
    for spot in grid.spots.values():
        mean = fmean(measure(cell)[0] for cell in spot.cells)
        assert len(spot.cells) == 3
        assert grid.estimate(spot, measure) == pytest.approx((mean, noise / math.sqrt(3)))
    assert "± 0.000" not in render_markdown(study)


def test_seeds_of_a_draw_count_as_one():
    """The error of a mean is of the draws: to run one draw again makes it no surer."""
    study = studies.drawn()
    again = tuple(replace(cell, seed=-cell.seed, loss=cell.loss + 1e-3) for cell in study.cells)
    once, twice = make_grid(study), make_grid(replace(study, cells=(*study.cells, *again)))
    for name, spot in once.spots.items():
        (loss, error), (more, same) = once.estimate(spot, loss_of), twice.estimate(twice.spots[name], loss_of)
        assert more == pytest.approx(loss + 5e-4) and same == pytest.approx(error)
    assert (once.repeats, twice.repeats) == ("3 draws", "3 draws, 2 seeds")


def test_one_seed_keeps_its_own_error():
    study = studies.mini()
    grid = make_grid(study)
    for cell in study.cells:
        spot = grid.spots[cell.size, cell.data]
        assert grid.estimate(spot, loss_of) == (cell.loss, cell.standard_error)
        assert grid.estimate(spot, pairing_of) == cell.pairing
    assert grid.noise(loss_of) is None


def test_the_noise_of_a_measure_is_pooled_once_for_a_report(monkeypatch):
    """Each of some thousand numbers of a page asks for it."""
    pooled = []
    real = Grid._pooled
    monkeypatch.setattr(Grid, "_pooled", lambda grid, measure: pooled.append(measure) or real(grid, measure))
    grid = make_grid(studies.small())
    for _ in range(3):
        for spot in grid.spots.values():
            grid.estimate(spot, loss_of)
            grid.estimate(spot, region_of("heavy CDR3"))
    assert pooled == [loss_of, region_of("heavy CDR3")]


def test_a_rate_has_no_pooled_error():
    grid = make_grid(studies.small())
    assert {grid.estimate(spot, throughput_of)[1] for spot in grid.spots.values()} == {0.0}


def test_findings_use_the_pooled_errors_and_name_the_choice():
    """Cells whose two seeds agree are not surer than others; the best of many is called so."""
    study = studies.small()
    cells = tuple(
        replace(cell, pairing=(0.51 if cell.data == "S12" else 0.5 + (cell.seed - 2) * 0.03, 0.001))
        for cell in study.cells
    )
    said = findings(study := replace(study, cells=cells), make_grid(study))
    assert "the best of 28 cells (means over seeds), w32-S12, is right in 51.0% ± 1.5%" in said[-1]
    assert "0 of them are more than two standard errors above chance" in said[-1]
    assert "The lowest loss of 28 cells (means over seeds), 1.4" in said[-2]
    assert "lowest held-out loss of 28 cells (means over seeds), by" in both(study)[0]
    said = findings(studies.mini(), make_grid(studies.mini()))
    assert "the best of 15 cells, " in said[-1] and "The lowest loss of 15 cells, " in said[-2]


def test_seeds_that_are_missing_are_told():
    study = studies.small()
    page, text = both(study)
    error = "standard error of the scatter between seeds, pooled over all cells"
    assert error in page and error in text
    cells = tuple(
        replace(cell, state="waiting", loss=None)
        if (cell.size, cell.data, cell.seed) == ("w96", "S40", 3)
        else cell
        for cell in study.cells
    )
    assert "(2 of 3 seeds)" in both(replace(study, cells=cells))[0]


def test_findings_are_of_the_cells():
    study = studies.mini()
    said = findings(study, make_grid(study))
    assert "for 5 of 5 sizes" in said[0] and "did not fall" not in said[0]
    assert "the best size grows with the data" in said[1]
    reversed_data = {"Q": 150, "H": 40, "F": 12}
    cells = tuple(replace(cell, pairs=reversed_data[cell.data]) for cell in study.cells)
    worse = replace(study, cells=cells)
    said = findings(worse, make_grid(worse))
    assert "for 0 of 5 sizes" in said[0] and "105K from F to H" in said[0]
    assert "does not grow steadily" in said[1]
    assert re.search(r"the loss fell for no size, and rose by up to 1\.\d nats\.", said[0])
    mixed = replace(
        study, cells=tuple(replace(c, loss=2 + (c.parameters - 8e5) * c.pairs / 1e9) for c in study.cells)
    )
    fell = "the loss fell by up to 0.096 nats for some sizes and rose by up to 0.14 for others."
    assert fell in findings(mixed, make_grid(mixed))[0]
    assert re.search(r"the loss fell by [\d.]+ to [\d.]+ nats\.", findings(study, make_grid(study))[0])
    vague = replace(study, cells=tuple(replace(cell, standard_error=0.5) for cell in study.cells))
    said = findings(vague, make_grid(vague))
    assert "for 0 of them by more than two standard errors" in said[0]
    assert "as good within two standard errors with all data" in said[1]


def test_whether_size_and_data_help_together_is_told_with_its_test():
    study = studies.mini()

    def with_pairing(accuracy):
        return replace(study, cells=tuple(replace(one, pairing=(accuracy(one), 0.01)) for one in study.cells))

    sizes, data = ({getattr(one, name) for one in study.cells} for name in ("parameters", "pairs"))

    def gain(cell):
        steps = math.log2(cell.parameters / min(sizes)) * math.log2(cell.pairs / min(data))
        return 0.5 + 0.01 * steps + 1e-4 * math.sin(cell.parameters + cell.pairs)

    summary = with_pairing(gain)
    [told] = [one for one in findings(summary, make_grid(summary)) if "each doubling of the data" in one]
    assert told.startswith(
        "Size and data help each other, by the scatter of the models alone; other held-out pairs may say "
        "otherwise: each doubling of the data changes"
    )
    assert told.endswith("The score is the accuracy of telling native from shuffled pairs.")
    assert all("by the scatter of the models alone" in text for text in both(summary))
    # Where few cells have the accuracy, the loss tells.
    cells = [replace(one, pairing=None) for one in summary.cells]
    some = replace(summary, cells=(*summary.cells[:2], *cells[2:]))
    [told] = [one for one in findings(some, make_grid(some)) if "each doubling of the data" in one]
    assert told.endswith("The score is minus the held-out loss.")
    # With one data set nothing can be told.
    few = replace(summary, cells=tuple(one for one in summary.cells if one.data == "Q"))
    assert not [one for one in findings(few, make_grid(few)) if "each doubling" in one]


def test_a_threshold_of_the_pairing_is_told_and_drawn():
    study = studies.mini()

    def gained(cell):
        return 0.5 + 0.3 * max(0.0, 1.9 - cell.loss) + 2e-3 * math.sin(cell.parameters + cell.pairs)

    cells = tuple(replace(one, pairing=(gained(one), 0.01)) for one in study.cells)
    for text in both(replace(study, cells=cells)):
        assert (
            "The accuracy of telling native from shuffled pairs has a threshold at a loss of 1.9 nats ("
            in text
        )
        assert (
            "No threshold of the accuracy of telling native from shuffled pairs by the size is shown" in text
        )
    few = replace(study, cells=cells[:9])
    assert all("hreshold" not in text for text in both(few))
    with_curves, without = render_page(replace(study, cells=cells)), render_page(few)
    assert with_curves.count("band ink") == without.count("band ink") + 3  # by loss, its legend, by size
    for words in ("fitted curve with its 95% band", "The dark line is the curve through all cells"):
        assert with_curves.count(words) == 1 and words not in without


def test_pairing_is_drawn_against_loss_and_data():
    study = studies.mini()
    page = render_page(study)
    by_loss, by_pairs = (
        page.index(f"accuracy of the pairing probe against {x}") for x in ("held", "training")
    )
    assert by_loss < by_pairs
    for cell in study.cells:
        accuracy, _ = cell.pairing
        for x in (f"held-out loss {format_quantity(cell.loss)}", f"training pairs {cell.pairs}"):
            assert f"{cell.member}: accuracy of the pairing probe {accuracy:.3f}, {x}" in page
    cells = tuple(replace(one, pairing=None) for one in study.cells)
    assert "accuracy of the pairing probe" not in render_page(replace(study, cells=cells))


def test_the_best_state_on_the_way_is_said_beside_the_last():
    study = studies.mini()

    def told(**curves):
        cells = [
            replace(cell, held_out_curve=curves.get(cell.member, ((50, 2.0), (100, 1.5))))
            for cell in study.cells
        ]
        changed = replace(study, cells=tuple(cells))
        return [
            one for one in findings(changed, make_grid(changed)) if one.startswith("On the validation pairs")
        ]

    first, second = (cell.member for cell in study.cells[:2])
    assert told() == ["On the validation pairs each of 15 cells was best at its last step."]
    (found,) = told(**{first: ((50, 1.2), (100, 1.5)), second: ((50, 1.4), (100, 1.5))})
    assert (
        "2 of 15 cells were better on the way" in found and "by 0.2 nats in the mean and 0.3 at most" in found
    )
    assert told(**{cell.member: ((100, 1.5),) for cell in study.cells}) == []
