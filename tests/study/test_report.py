"""The report says what the summary holds, doubts what must be doubted, and cannot be broken by its words."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from statistics import fmean, stdev

import pytest
import studies

from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.scaling.quantities import format_quantity
from curr_ab.study.report import write_report
from curr_ab.study.report import writing as report_module
from curr_ab.study.report.data_report import report_data
from curr_ab.study.report.findings import findings
from curr_ab.study.report.grid import digits_of, loss_of, make_grid, written
from curr_ab.study.report.markdown import render_markdown
from curr_ab.study.report.page import _file, render_page
from curr_ab.study.report.palette import rules
from curr_ab.study.report.verdict import judge
from curr_ab.study.summary import StudySummary, read_summary


class _Words(HTMLParser):
    """The words of a page, its links, and its tables as rows of fields."""

    def __init__(self, page):
        super().__init__()
        self.words, self.addresses, self.tags, self.tables = [], [], [], []
        self._hidden, self._in_field = 0, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._hidden += tag in ("script", "style")
        self.addresses += [value for name, value in attributes if name in ("href", "src", "xlink:href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_field = True

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")
        self._in_field &= tag not in ("td", "th")

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)
            if self._in_field:
                self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def both(study):
    """The words of the page and of Markdown."""
    return _Words(render_page(study)).text, render_markdown(study).replace("\\", "")


@pytest.mark.parametrize("name", studies.ALL)
def test_three_files_hold_the_study(name, tmp_path):
    study = studies.ALL[name]()
    page = write_report(study, tmp_path / "new")
    assert {path.name for path in page.parent.iterdir()} == {"report.json", "report.md", "report.html"}
    assert page.name == "report.html" and page.stat().st_size < 1_000_000

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((page.parent / "report.json").read_text(), parse_constant=refuse)
    again = read_summary(page.parent / "report.json")
    assert again.to_json() == study.to_json()
    if name != "unidentifiable":  # a loss that is no number equals nothing, not even itself
        assert again == study
    assert render_page(again) == render_page(study) == page.read_text()


def test_a_failing_report_leaves_the_last_one(tmp_path, monkeypatch):
    write_report(studies.under_way(), tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}

    def fail(summary):
        raise RuntimeError

    monkeypatch.setattr(report_module, "render_page", fail)
    with pytest.raises(RuntimeError):
        write_report(studies.mini(), tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "lost"}, "none of done, failed, running, waiting"),
        ({"loss": None}, "it has a loss if it is done"),
        ({"log": "/home/log.txt"}, "relative"),
        ({"export": "/exports/one"}, "relative"),
    ],
)
def test_impossible_cells_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(studies.mini().cells[0], **change)


def test_files_of_something_else_are_refused():
    with pytest.raises(ValueError, match="no summary of a study"):
        StudySummary.from_json("{}")
    values = json.loads(studies.mini().to_json())
    with pytest.raises(ValueError, match="unknown key 'colour'"):
        StudySummary.from_json(json.dumps({**values, "colour": "blue"}))


@pytest.mark.parametrize("name", ["mini", "unidentifiable", "small"])
def test_page_and_markdown_say_the_same(name):
    study = studies.ALL[name]()
    grid = make_grid(study)
    digits = digits_of([found for _, row in grid.rows() for _, found in row])
    page, text = both(study)
    losses = _Words(render_page(study)).tables
    for _, row in grid.rows():
        for _, found in row:
            assert written(found, digits) in page and written(found, digits) in text
    for sentence in (*findings(study, grid), judge(study.law).headline, *judge(study.law).reasons):
        assert sentence in page and sentence in text
    shown = {cell for table in losses for row in table for cell in row[:1]}
    assert {cell.member for cell in study.cells} <= shown
    for cell in study.cells:
        assert f"| {cell.member} |" in text


def test_the_lowest_loss_of_each_data_set_is_marked_once():
    study = studies.mini()
    page, text = render_page(study), render_markdown(study)
    grid = make_grid(study)
    for data in grid.data:
        lowest = min(cell.loss for cell in study.cells if cell.data == data)
        marked = [cell.loss for cell in grid.best(data).cells]
        assert marked == [lowest]
        assert text.count(f"**{lowest:.3f}") == 1
        assert len(re.findall(rf'<td class="h\d best">{lowest:.3f}', page)) == 1
    assert len(re.findall(r'class="h\d best"', page)) == len(re.findall(r"\| \*\*\d", text)) == 3


def test_seeds_are_averaged_and_their_scatter_is_the_error():
    study = studies.small()
    losses = [cell.loss for cell in study.cells if (cell.size, cell.data) == ("w96", "S40")]
    found = make_grid(study).spots["w96", "S40"].estimate(loss_of)
    assert len(losses) == 3
    assert found == pytest.approx((fmean(losses), stdev(losses) / math.sqrt(3)))
    page, text = both(study)
    assert "standard error over seeds" in page and "standard error over seeds" in text
    cells = tuple(
        replace(cell, state="waiting", loss=None)
        if (cell.size, cell.data, cell.seed) == ("w96", "S40", 3)
        else cell
        for cell in study.cells
    )
    assert "(2 of 3 seeds)" in both(replace(study, cells=cells))[0]


def test_words_cannot_become_markup():
    study = studies.unidentifiable()
    nasty = '<img src=x onerror="alert(1)">|`*{{script}}'
    cells = (replace(study.cells[0], member=nasty, log='javascript:alert("1")'), *study.cells[1:])
    study = replace(
        study, cells=cells, title=nasty, command=nasty, notes=(nasty,), law={"problem": nasty}, hardware=nasty
    )
    page = render_page(study)
    words = _Words(page)
    assert "img" not in words.tags and words.tags.count("script") == 1
    assert words.text.count(nasty) >= 6 and 'document.title = "hacked"' in words.text
    assert page.count(_file("report.js")) == 1
    assert "javascript%3Aalert" in page and "javascript:" not in page
    text = render_markdown(study)
    assert "<img" not in text.replace("\\<img", "").replace(f"    {nasty}", "")
    table = next(line for line in text.splitlines() if line.startswith("| ") and "onerror" in line)
    assert len(re.findall(r"(?<!\\)\|", table)) == 12


@pytest.mark.parametrize("name", studies.ALL)
def test_everything_is_inside_and_links_are_relative(name):
    page = render_page(studies.ALL[name]())
    words = _Words(page)
    assert not re.search(r"https?:|//|@import|url\((?!#)", page.replace("</", "").replace("/>", ""))
    for address in words.addresses:
        assert re.fullmatch(r"#[\w-]+|[\w./-]+", address) and not address.startswith("/")
        if address.startswith("#"):
            assert f'id="{address[1:]}"' in page
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))


def _law(spread=-1, **changes):
    """An identifiable law, spoiled in one way; `spread` is the one that is spoiled."""
    law = json.loads(json.dumps(studies.small().law))
    assert judge(law).identifiable
    spread = law["spreads"][spread]
    law["parabolas"]["400"]["optimum"] = changes.get("optimum", law["parabolas"]["400"]["optimum"])
    law["estimates"]["exponent"] = changes.get("exponent", law["estimates"]["exponent"])
    spread["share_without_optimum"] = changes.get("lost", 0.0)
    if "low" in changes:
        spread["intervals"]["exponent"]["low"] = changes["low"]
    if "high" in changes:
        spread["intervals"]["optimal_parameters[400]"]["high"] = changes["high"]
    if changes.get("samples") == 0:
        spread["intervals"] = {}
    return law


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
            {"high": "inf"},
            "With 400 pairs the interval of the best size ({method}) reaches outside the sizes",
        ),
        ({"samples": 0}, "No draw of the uncertainty ({method}) gave a law"),
    ],
)
def test_a_law_is_doubted_before_it_is_quoted_by_every_spread(changes, reason, spread):
    study = replace(studies.small(), law=_law(spread, **changes))
    reason = reason.format(method=study.law["spreads"][spread]["method"])
    verdict = judge(study.law)
    assert verdict.identifiable is False and any(reason in told for told in verdict.reasons)
    for told in both(study):
        assert "not identifiable" in told.lower() and reason in told and "Twice the data" not in told


def test_the_intervals_of_every_spread_are_shown():
    study = studies.small()
    header, *rows = _Words(render_page(study)).tables[0]
    assert header == ["estimate", "value", "95% by bootstrap over runs", "95% by noise of sd 0.01"]
    for name, row in (("exponent", rows[1]), ("optimal_parameters[40]", rows[4])):
        found = [spread["intervals"][name] for spread in study.law["spreads"]]
        assert row[2:] == [f"{format_quantity(i['low'])} to {format_quantity(i['high'])}" for i in found]
    assert rows[-1] == ["draws without an optimum", "", "0.0%", "0.0%"]
    headline = judge(study.law).headline
    assert "bootstrap over runs: 1.66 to" in headline and "noise of sd 0.01: 1." in headline
    law = _law(0, low=0.0005)  # twice the data would ask for 2 ** 2000 times the parameters
    assert "to unbounded times; noise" in judge(law).headline


def test_states_of_the_law_are_told_apart():
    page, text = both(studies.small())
    assert "Identifiable, within its band" in page and "Twice the data asks for" in text
    assert "2 points are left to test it" in page and "2 points are left to test it" in text
    page, text = both(studies.mini())
    assert "Not identifiable" in page and "37% of the draws (bootstrap over runs)" in text
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
    law = json.loads(json.dumps(study.law))
    for place in range(len(law["power_law"]["high"])):  # as where draws know no bound
        law["power_law"]["high"][place] = "inf"
    assert 'class="band law"' in render_page(replace(study, law=law))
    page = render_page(studies.unidentifiable())
    assert 'class="band law"' not in page and page.count('class="ring d') == 6
    assert 'class="line dashed d0"' in page and 'class="line dashed d1"' not in page


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
    vague = replace(study, cells=tuple(replace(cell, standard_error=0.5) for cell in study.cells))
    said = findings(vague, make_grid(vague))
    assert "for 0 of them by more than two standard errors" in said[0]
    assert "as good within two standard errors with all data" in said[1]


def test_failed_cells_show_their_problem_and_log():
    page, text = both(studies.unidentifiable())
    words = _Words(render_page(studies.unidentifiable()))
    for told in (page, text):
        assert "is not a number at step 212" in told and "14 done, 1 failed" in text
    assert "cells/35M-H/log.txt" in words.addresses and "(cells/35M-H/log.txt)" in text
    assert "exports/CurrAb-35M-H/README.md" not in words.addresses
    assert "exports/CurrAb-35M-F/README.md" in words.addresses


def test_a_study_under_way_says_so():
    page, text = both(studies.under_way())
    for told in (page, text):
        assert "6 done, 1 running, 8 waiting" in told and "under way" in told
        assert "running, step 240 of 500" in told
    assert "under way" not in both(studies.mini())[0]


def test_long_training_does_not_make_a_heavy_page():
    study = studies.mini()
    curve = tuple((step, 3.0 + 1 / step) for step in range(1, 5_001))
    cells = tuple(replace(cell, training_curve=curve, steps=5_000) for cell in study.cells)
    page = render_page(replace(study, cells=cells))
    assert len(page) < 400_000


def _luminance(colour):
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one, other):
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_words_and_marks_stand_out_from_their_paper():
    sheet = _file("report.css")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", sheet, re.S)[:2]
    )
    palette = rules(6, 7).split("@media")
    for names, colours in zip((light, dark), palette, strict=True):
        for paper in ("paper", "raised"):
            for word in ("ink", "soft", "link", "good", "bad", "wait"):
                assert _contrast(names[word], names[paper]) >= 4.5, (word, paper)
            found = re.findall(r"color:(#\w{6})", colours)
            assert len(found) == 13
            for colour in found:
                assert _contrast(colour, names[paper]) >= 3, colour


def test_data_are_reported_as_they_were_prepared(tmp_path):
    prepare(
        [str(builtin_path())],
        tmp_path / "corpus",
        PreparationPlan(cluster="source", subsets={"F": 150, "H": 40}),
    )
    found = json.loads(json.dumps(report_data(tmp_path / "corpus")))
    study = replace(studies.mini(), data_report=found)
    page, text = both(study)
    for told in (f"{found['pairs']['train']:,}", f"{found['pairs']['test']:,}"):
        assert told in page and told in text
    assert sum(found["histograms"]["heavy length"].values()) == found["kept"]
    assert f"{found['kept']:,} of {found['read']:,} records" in page
