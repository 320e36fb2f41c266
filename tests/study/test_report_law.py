"""The report doubts a law before it quotes it, and draws the bands of the fit."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from support import studies
from support.report_words import Words, both

from curr_ab.quantities import format_quantity
from curr_ab.study.law import CellLoss, fit_cells
from curr_ab.study.report.findings import judge
from curr_ab.study.report.page import render_page
from curr_ab.study.summary import StudySummary


def _law(spread=-1, **changes):
    """An identifiable law, spoiled in one way; `spread` is the one that is spoiled."""
    law = studies.small().law
    assert judge(law).identifiable
    fit = law.fit
    spoiled = fit.spreads[spread]
    intervals = dict(spoiled.intervals)
    if "low" in changes:
        intervals["exponent"] = replace(intervals["exponent"], low=changes["low"])
    if "high" in changes:
        intervals["optimal_parameters[400]"] = replace(
            intervals["optimal_parameters[400]"], high=changes["high"]
        )
    if changes.get("samples") == 0:
        intervals = {}
    spreads = list(fit.spreads)
    spreads[spread] = replace(spoiled, intervals=intervals, share_without_optimum=changes.get("lost", 0.0))
    parabola = fit.parabolas[400]
    parabolas = {**fit.parabolas, 400: replace(parabola, optimum=changes.get("optimum", parabola.optimum))}
    exponent = changes.get("exponent", fit.estimates["exponent"])
    estimates = {**fit.estimates, "exponent": exponent}
    fit = replace(fit, spreads=tuple(spreads), parabolas=parabolas, estimates=estimates)
    return replace(law, fit=fit)


@pytest.mark.parametrize("spread", [0, 1])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"optimum": 3e6}, "outside the sizes that were trained: it is an extrapolation"),
        ({"optimum": 4e5}, "The best size falls from 902K with 150 pairs to 400K with 400."),
        ({"lost": 0.4}, "40% of the draws ({method}) have no optimum"),
        ({"exponent": -0.3}, "does not grow with the data"),
        ({"low": -0.1}, "By the band ({method}), the best size may as well shrink as grow"),
        ({"high": 9e9}, "With 400 pairs the interval of the best size ({method}) reaches outside the sizes"),
        (
            {"high": math.inf},
            "With 400 pairs the interval of the best size ({method}) reaches outside the sizes",
        ),
        ({"samples": 0}, "No draw of the uncertainty ({method}) gave a law"),
    ],
)
@pytest.mark.heavy
def test_a_law_is_doubted_before_it_is_quoted_by_every_spread(changes, reason, spread):
    study = replace(studies.small(), law=_law(spread, **changes))
    reason = reason.format(method=study.law.fit.spreads[spread].method)
    verdict = judge(study.law)
    assert verdict.identifiable is False and any(reason in told for told in verdict.reasons)
    for told in both(study):
        assert "not identifiable" in told.lower() and reason in told and "Twice the data" not in told


def test_the_intervals_of_every_spread_are_shown():
    study = studies.small()
    header, *rows = Words(render_page(study)).tables[0]
    assert header == ["estimate", "value", "95% by scatter about the curves", "95% by noise of sd 0.01"]
    for name, row in (("exponent", rows[1]), ("optimal_parameters[40]", rows[4])):
        found = [spread.intervals[name] for spread in study.law.fit.spreads]
        assert row[2:] == [f"{format_quantity(i.low)} to {format_quantity(i.high)}" for i in found]
    assert rows[-1] == ["draws without an optimum", "", "0.0%", "0.0%"]
    headline = judge(study.law).headline
    assert "scatter about the curves: 1.6" in headline and "noise of sd 0.01: 1." in headline
    law = _law(0, low=0.0005)  # twice the data would ask for 2 ** 2000 times the parameters
    assert "to unbounded times; noise" in judge(law).headline


def test_states_of_the_law_are_told_apart():
    page, text = both(studies.small())
    assert "Identifiable, within its band" in page and "Twice the data asks for" in text
    assert "2 points are left to test it" in page and "2 points are left to test it" in text
    page, text = both(studies.mini())
    assert (
        "Not identifiable" in page
        and "With 12 pairs the interval of the best size (noise of sd 0.01)" in text
    )
    assert "one point is left to test it" in page and "one point is left to test it" in text
    page, text = both(studies.unidentifiable())
    for told in (page, text):
        assert "not identifiable" in told.lower() and "opens downward" in told
        assert "Twice the data" not in told
    assert "No law yet" in both(studies.under_way())[0]


def test_bands_are_those_of_the_fit():
    study = studies.mini()
    page = render_page(study)
    assert page.count('class="band law"') == 1
    assert page.count('class="span d') == 6  # three data sets in two figures
    assert page.count('class="star d') == 6
    line = study.law.fit.power_law
    boundless = replace(line, high=(math.inf,) * len(line.high))  # as where draws know no bound
    law = replace(study.law, fit=replace(study.law.fit, power_law=boundless))
    assert 'class="band law"' in render_page(replace(study, law=law))
    again = StudySummary.from_json(replace(study, law=law).to_json())
    assert again.law == law and render_page(again) == render_page(replace(study, law=law))
    page = render_page(studies.unidentifiable())
    assert 'class="band law"' not in page and page.count('class="ring d') == 6
    assert 'class="line dashed d0"' in page and 'class="line dashed d1"' not in page


@pytest.mark.heavy
def test_the_example_report_says_what_its_losses_allow():
    text = (Path(__file__).parents[2] / "docs" / "study" / "report.md").read_text()
    row = re.compile(
        r"^\| \w+-(?P<data>\w+) \| \w+ \| (?P<parameters>[\d,]+) \| (?P<pairs>\d+) \| (?P<draw>\d) "
        r"\| done \| (?P<loss>[\d.]+) ± (?P<standard_error>[\d.]+) \|",
        re.MULTILINE,
    )
    kinds = {"parameters": int, "pairs": int, "draw": int, "loss": float, "standard_error": float}
    found = [match.groupdict() for match in row.finditer(text)]
    cells = [
        CellLoss(
            seed=number, **{key: kinds.get(key, str)(value.replace(",", "")) for key, value in one.items()}
        )
        for number, one in enumerate(found)
    ]
    assert len(cells) == 130
    law = fit_cells(cells)
    assert judge(law).identifiable
    assert "## The scaling law: identifiable, within its band" in text and judge(law).headline[:55] in text
    assert all(spread.share_without_optimum < 0.01 for spread in law.fit.spreads)
    assert "| draws without an optimum |  | 0.0% |" in text
