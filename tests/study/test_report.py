"""The report says what the summary holds, and cannot be broken by its words."""

import json
import re
from dataclasses import replace

import pytest
from support import studies
from support.report_words import Words, both

from curr_ab.charts import rules
from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.pages import packaged_text
from curr_ab.study.collect import report_data
from curr_ab.study.law import StudyLaw
from curr_ab.study.report import page as report_module
from curr_ab.study.report import write_report
from curr_ab.study.report.findings import findings, judge
from curr_ab.study.report.grid import digits_of, make_grid, written
from curr_ab.study.report.page import render_markdown, render_page
from curr_ab.study.summary import StudySummary, read_summary


@pytest.mark.parametrize("name", studies.ALL)
@pytest.mark.heavy
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
        ({"state": "lost"}, "state must be one of done, failed, running, waiting; got 'lost'"),
        ({"loss": None}, "it has a loss if it is done"),
        ({"log": "/home/log.txt"}, "relative"),
        ({"export": "/exports/one"}, "relative"),
    ],
)
def test_impossible_cells_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(studies.mini().cells[0], **change)


def test_files_of_something_else_are_refused():
    with pytest.raises(ValueError, match="a summary of a study must have the `format`"):
        StudySummary.from_json("{}")
    values = json.loads(studies.mini().to_json())
    with pytest.raises(ValueError, match="unknown key 'colour'"):
        StudySummary.from_json(json.dumps({**values, "colour": "blue"}))


@pytest.mark.parametrize("name", ["mini", "unidentifiable", "small"])
@pytest.mark.heavy
def test_page_and_markdown_say_the_same(name):
    study = studies.ALL[name]()
    grid = make_grid(study)
    digits = digits_of([found for _, row in grid.rows() for _, found in row])
    page, text = both(study)
    losses = Words(render_page(study)).tables
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


def test_words_cannot_become_markup():
    study = studies.unidentifiable()
    nasty = '<img src=x onerror="alert(1)">|`*{{script}}'
    cells = (replace(study.cells[0], member=nasty, log='javascript:alert("1")'), *study.cells[1:])
    study = replace(
        study,
        cells=cells,
        title=nasty,
        command=nasty,
        notes=(nasty,),
        law=StudyLaw(problem=nasty, remarks=(nasty,)),
        hardware=nasty,
    )
    page = render_page(study)
    words = Words(page)
    assert "img" not in words.tags and words.tags.count("script") == 1
    assert words.text.count(nasty) >= 6 and 'document.title = "hacked"' in words.text
    assert page.count(packaged_text("pages.js")) == 1
    assert "javascript%3Aalert" in page and "javascript:" not in page
    text = render_markdown(study)
    assert "<img" not in text.replace("\\<img", "").replace(f"    {nasty}", "")
    table = next(line for line in text.splitlines() if line.startswith("| ") and "onerror" in line)
    assert len(re.findall(r"(?<!\\)\|", table)) == 12


@pytest.mark.parametrize("name", studies.ALL)
@pytest.mark.heavy
def test_everything_is_inside_and_links_are_relative(name):
    page = render_page(studies.ALL[name]())
    words = Words(page)
    assert not re.search(r"https?:|//|@import|url\((?!#)", page.replace("</", "").replace("/>", ""))
    for address in words.addresses:
        assert re.fullmatch(r"#[\w-]+|[\w./-]+", address) and not address.startswith("/")
        if address.startswith("#"):
            assert f'id="{address[1:]}"' in page
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))


def test_failed_cells_show_their_problem_and_log():
    page, text = both(studies.unidentifiable())
    words = Words(render_page(studies.unidentifiable()))
    for told in (page, text):
        assert "is not a number at step 212" in told and "14 done, 1 failed" in text
    assert "cells/35M-H/log.txt" in words.addresses and "(cells/35M-H/log.txt)" in text
    assert "exports/CurrAb-35M-H/README.md" not in words.addresses
    assert "exports/CurrAb-35M-F/README.md" in words.addresses


def test_points_are_called_what_they_are():
    single, several = (both(study)[0] for study in (studies.mini(), studies.small()))
    assert "Each point is a trained model" in single and "The mean over seeds" not in single
    assert "Each point is the mean over the seeds of a cell" in several
    assert "The mean over seeds of every cell, one line for each data set" in several
    assert "a trained model" not in several


def test_files_are_spoken_of_where_there_are_any():
    study = studies.mini()
    page, text = both(study)
    assert "An exported cell is a checkpoint folder" in page and "| files |" in text
    bare = replace(study, cells=tuple(replace(cell, export=None, log="") for cell in study.cells))
    page, text = both(bare)
    assert "checkpoint folder" not in page and "| files |" not in text
    table = Words(render_page(bare)).tables[-2]
    assert table[0][-1] == "time" and {len(row) for row in table} == {10}
    logs = replace(study, cells=tuple(replace(cell, export=None) for cell in study.cells))
    page, text = both(logs)
    assert "checkpoint folder" not in page and "| files |" in text


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
    sheet = packaged_text("pages.css")
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


@pytest.mark.heavy
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


def test_draws_are_told_with_the_noise_that_they_show():
    study = studies.drawn()
    page, text = both(study)
    for told in (page, text):
        assert "(means over draws)" in told and "up to 2" not in told
        assert "Noise of a cell's loss, by its source" in told
        assert "Training sets, 3 draws of each that share no pair" in told
        assert "of the scatter between draws, pooled over all cells" in told
    assert "7 sizes by 4 data sets, up to 3 draws" in page and "nested" not in page
    table = next(rows for rows in Words(render_page(study)).tables if rows[0][0] == "source")
    assert table[0][:2] == ["source", "all data"] and table[0][2].startswith("S12")
    assert [row[0] for row in table[1:]] == [
        "draw of the pairs",
        "seed, and draw otherwise for each size",
        "held-out pairs, the same for all cells",
    ]
    found = study.law.noise["all"]
    assert table[1][1] == f"{found[0].sd:.3f} (8)" and 0.05 < found[0].sd < 0.2
    assert table[2][1] == f"{found[1].sd:.3f} (48)" and 0.007 < found[1].sd < 0.013
    cells = next(rows for rows in Words(render_page(study)).tables if rows[0][:2] == ["cell", "shape"])
    assert cells[0][4] == "draw" and [row[4] for row in cells[1:4]] == ["1", "2", "3"]
    assert "Laws by all cells at once" in page and "| best-size | 6 |" in text
    joint = next(rows for rows in Words(render_page(study)).tables if rows[0][0] == "law")
    assert {row[0] for row in joint[1:]} == {"iso-data", "best-size", "parametric"}
    (best,) = [row for row in joint[1:] if row[0] == "best-size"]
    fit = next(fit for fit in study.law.joint if fit.law == "best-size")
    assert best[2:5] == [f"{one:.3f}" for one in (fit.residual, fit.size_left_out, fit.data_left_out)]
    assert 1.5 < fit.intervals["growth"].low * 2 < 1.8 and best[5].startswith(
        f"{2 ** fit.estimates['growth']:.2f} ("
    )
    plain = both(studies.mini())
    assert not any("by its source" in told for told in plain)
    assert "seed, and draw" not in both(studies.small())[0]
