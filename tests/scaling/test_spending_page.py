"""The page about money: its sentences, tables and picture say what the advice says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.simulated_runs import fitted_law

from curr_ab.quantities import format_quantity
from curr_ab.scaling import Interval, Prices, Spending, Trials, spend
from curr_ab.scaling.spending_page import draw_spending, page_values, write_spending
from curr_ab.scaling.spending_runs import TrialRuns

BETWEEN = {name: Interval(1e6, 2e6, 3e6) for name in ("parameters", "sequences", "passes")}
TRIALS = Trials((TrialRuns(35e6, 2e6, 4.0, 2, 4e17),), 4e17, BETWEEN, BETWEEN, 0.0, 0.0)


@pytest.fixture(scope="module")
def spending() -> Spending:
    return spend(fitted_law(), Prices(0.0005, 5e-18, 1e6), budget=5e4)


def test_page_and_markdown_say_the_same_and_the_page_loads_nothing(spending, tmp_path: Path) -> None:
    page = write_spending(spending, TRIALS, tmp_path)
    shown, markdown = page.read_text(), (tmp_path / "spending.md").read_text()
    best = spending.best
    answer = page_values(spending, TRIALS)["answer"]
    for amount in (best.cost, best.for_pairs, best.for_training, best.parameters, best.sequences):
        assert format_quantity(amount) in answer
    assert f"{best.loss:.4g}" in answer and answer in shown and answer in markdown
    for text in (shown, markdown):
        assert "The next 50K go mostly into" in text and "only more pairs" in text
        assert "2 runs of 4e+17 FLOPs" in text and "a doubt of the fit" in text
    assert "(spending.svg)" in markdown and (tmp_path / "spending.svg").exists()
    assert not re.search(r'(src|href)="', shown) and "default-src 'none'" in shown


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"for_pairs": 9.0, "for_training": 1.0}, "new pairs"),
        ({"for_pairs": 0.0, "for_training": 10.0, "parameters": 3e99}, "a larger model"),
        ({"for_pairs": 1.0, "for_training": 9.0, "passes": 3e9}, "more passes"),
        ({"for_pairs": 1.0, "for_training": 9.0, "parameters": 1.0, "passes": 1.0}, "training"),
    ],
)
def test_the_title_names_what_takes_the_larger_part(spending, changes, where) -> None:
    changed = replace(spending, best=replace(spending.best, **changes))
    values = page_values(changed, "No runs are planned.")
    assert values["title"] == f"The next 10 go mostly into {where}"
    assert values["answer"].startswith("Buy no new pairs") is (changes["for_pairs"] == 0)


def test_the_line_is_dashed_where_it_is_extrapolated(spending) -> None:
    flags = [False] * 20 + [True] * 21
    curve = tuple(replace(one, is_extrapolated=flag) for one, flag in zip(spending.curve, flags, strict=True))
    drawn = str(draw_spending(replace(spending, curve=curve)).marks)
    lines = re.findall(r'<polyline class="(line[^"]*)" points="([^"]*)"', drawn)
    assert [style for style, _ in lines] == ["line law", "line dashed law"]
    solid, dashed = (points.split() for _, points in lines)
    assert (len(solid), len(dashed)) == (20, 22) and solid[-1] == dashed[0]
    assert draw_spending(replace(spending, curve=())) is None


def test_free_training_has_a_page_without_a_picture(tmp_path: Path) -> None:
    free = spend(fitted_law(), Prices(0.05, 0.0, 1e12), loss=3.0)
    page = write_spending(free, "No runs are planned.", tmp_path)
    assert "<figure" not in page.read_text() and "No runs are planned." in page.read_text()
    assert not (tmp_path / "spending.svg").exists()
