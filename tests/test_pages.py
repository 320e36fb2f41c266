"""Pages, cards and pictures: nothing that is put in breaks out, and one code draws what is shown twice."""

import json
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure
from support import studies
from test_packaging import PYPROJECT, ROOT

from curr_ab import member, pages, scaling
from curr_ab.charts import Drawing
from curr_ab.data.description import Description, _by_name, _page
from curr_ab.finetuning import adapter_record
from curr_ab.hub import render_card
from curr_ab.hub_results import eval_results
from curr_ab.inference.heat_maps import Saturation, Site
from curr_ab.inference.records import Record
from curr_ab.inference.residue_charts import residue_chart
from curr_ab.measures.fold_figures import confusion_figure
from curr_ab.pictures import COLOURS, add_legend, new_figure, save_pictures, set_title
from curr_ab.results import Result, write_results
from curr_ab.scaling import law_figures
from curr_ab.study.report.page import render_page, write_law_figures
from curr_ab.training_record import TrainingRecord

NASTY = '</script><img src=x onerror="alert(1)">|`{{ 7 * 7 }}`\n- yaml: "x'


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.policy = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if ("http-equiv", "Content-Security-Policy") in attributes:
            self.policy = dict(attributes)["content"]


def result(**changes):
    values = {"model": "350M-F", "task": NASTY, "metric": "accuracy", "value": 0.5, "num_items": 9}
    values |= {"dataset": NASTY, "split": NASTY, "checkpoint": "a" * 64, "source": "a test"}
    return Result(**{**values, "code_version": "0.1.0", "details": {NASTY: NASTY}, **changes})


def heat_map(tmp_path):
    site = Site("heavy", 1, "E")
    return Saturation(Record(NASTY, "E", None), [site], torch.zeros(1, 20)).heat_map().page


def chart_of_residues(tmp_path):
    return residue_chart(Record(NASTY, "E", None), {"heavy": [-1.0], "light": []}, 2.0).page


def data_report(tmp_path):
    report = {"kept": 1, "read": 1, "dropped": {}, "set_aside": [NASTY], "clusters_in_several_splits": 0}
    report |= {name: {"train": 1, "validation": 0, "test": 0} for name in ("pairs", "clusters")}
    index = {"report": report | {"cluster_sizes": {"1": 1}}, "fingerprint": NASTY, "subsets": {NASTY: 1}}
    return _page(Description(Path(NASTY.replace("/", "")), index, {}, {}, {}, {}, "residues"), {})


def study_report(tmp_path):
    return render_page(replace(studies.mini(), title=NASTY, preset=NASTY, hardware=NASTY))


@pytest.mark.parametrize("make", [heat_map, chart_of_residues, data_report, study_report])
def test_words_become_no_markup_and_only_the_page_s_own_scripts_may_run(make, tmp_path):
    page = make(tmp_path)
    seen = Tags(page)
    assert "img" not in seen.tags and "onerror=&#34;" in page and "{{ 7 * 7 }}" in page
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert pages.packaged_text("pages.js") in scripts
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    allowed = dict(re.findall(r"([\w-]+) ('[^;]*')", seen.policy))
    assert allowed["default-src"] == allowed["base-uri"] == allowed["form-action"] == "'none'"
    assert allowed["script-src"] == " ".join(f"'{pages.digest(script)}'" for script in scripts)
    assert allowed["style-src"] == f"'{pages.digest(style)}'"
    assert not re.search(r"https?:", page)


def rows_of(card):
    """Fields of all rows of tables; a bar that is escaped ends none."""
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in card.splitlines() if line.startswith("|")]


def front_of(card):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])


def of_the_hub():
    """A number that stands in the header, too."""
    return replace(result(), dataset=f"CurrAb-pairs {NASTY}")


def test_words_break_neither_header_nor_tables_of_a_model_card():
    training = TrainingRecord(plan={"note": NASTY}, devices=NASTY)
    card = render_card(member("350M-F"), results=[of_the_hub()], training=training)
    (measured,) = front_of(card)["model-index"][0]["results"]
    assert measured["task"]["name"] == NASTY and measured["dataset"]["type"] == "brineylab/CurrAb-pairs"
    (entry,) = yaml.safe_load(eval_results([of_the_hub()], "brineylab"))
    assert set(entry) == {"dataset", "value", "notes"} and set(entry["dataset"]) == {"id", "task_id"}
    rows = [row for row in rows_of(card) if any("onerror" in text for text in row)]
    assert [len(row) for row in rows] == [2, 8, 2]
    assert "\n- yaml" not in card.split("---\n", 2)[2]


def test_words_break_neither_header_nor_tables_of_an_adapter_card(tmp_path, monkeypatch):
    record = SimpleNamespace(name=NASTY, base_model=NASTY, code_version=NASTY, data={NASTY: NASTY}, folds={})
    monkeypatch.setattr(adapter_record, "read_record", lambda folder: record)
    recipe = {"target": "classes", "method": "lora", "name": NASTY, "pooling": NASTY, "group_by": NASTY}
    (tmp_path / adapter_record.RECIPE).write_text(yaml.safe_dump(recipe))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": NASTY}}))
    write_results(tmp_path / adapter_record.RESULTS, [of_the_hub()])
    card = adapter_record.render_adapter_card(tmp_path, "me")
    (index,) = front_of(card)["model-index"]
    assert index["name"] == NASTY and index["results"][0]["task"]["name"] == NASTY
    body = card.split("---\n", 2)[2]
    rows = [row for row in rows_of(body) if any("onerror" in text for text in row)]
    assert [len(row) for row in rows] == [2, 2, 2, 2, 2, 4]
    assert "\n- yaml" not in body and "``" not in body.replace("```", "")


def test_a_name_that_nobody_gave_is_an_error():
    with pytest.raises(Exception, match="undefined"):
        pages.render("study/report/report.md", summary=studies.mini())


def marks(svg):
    """The marks of a chart without what stands around it."""
    return re.findall(r"<(?:circle|polygon|polyline|rect) [^>]*data-tip[^>]*>", svg)


@pytest.mark.heavy
def test_one_code_draws_the_figures_of_page_and_files(tmp_path, monkeypatch):
    """Another star changes the page, the SVG, the PNG and what `scaling fit --plot` writes."""
    study = studies.mini()
    fit = scaling.fit_iso_data(scaling.published_runs("test-loss-2025-09"), scaling.Doubt(draws=20))

    def draw(folder):
        write_law_figures(study, folder)
        scaling.save_plots(
            {k: v for k, v in scaling.plot_fit(fit).items() if k != "residuals"}, folder / "fit"
        )
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*g")}

    before, page = draw(tmp_path / "before"), render_page(study)
    assert len(before) == 8
    for name in ("loss_by_size", "data_by_size"):
        drawn = marks(before[f"{name}.svg"].decode())
        assert len(drawn) >= 6 and all(mark in page for mark in drawn)
        width, height = struct.unpack(">II", before[f"{name}.png"][16:24])
        assert width == 1040 and height > 900
    assert draw(tmp_path / "again") == before  # the same bytes
    monkeypatch.setattr(law_figures, "STAR", 3)
    after = draw(tmp_path / "after")
    assert {name for name in before if after[name] == before[name]} == set()
    assert render_page(study) != page


def test_a_picture_has_words_without_any_font_of_the_system(tmp_path):
    """The rasteriser is given matplotlib's fonts and no others."""
    drawing = next(iter(law_figures.draw_law([], {}, None).values()))
    bare = replace(drawing, label="", marks=drawing.marks[:0])
    (tmp_path / ".none.png.77.0123abcd.tmp").write_text("of a killed process")
    paths = save_pictures({"title": replace(bare, label="Words"), "none": bare}, tmp_path)
    titled, blank = (path.read_bytes() for path in paths)
    assert titled != blank
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_all_matplotlib_pictures_have_one_style():
    figure, panels = new_figure(columns=2)
    assert isinstance(figure, Figure) and len(panels) == 2
    for axes in panels:
        assert not axes.spines["top"].get_visible() and axes.get_axisbelow()
    drawing = r"Figure\(|savefig\(|subplots\(|#[0-9A-Fa-f]{6}"
    for path in (ROOT / "curr_ab").rglob("*.py"):
        text = path.read_text()
        if "matplotlib" in text and path.name not in ("pictures.py", "charts.py"):
            assert re.findall(drawing, text.replace("#777777", "")) == [], path
    assert len(set(COLOURS)) == 7 and Drawing.__module__ == "curr_ab.charts"


def test_names_are_no_formulas(tmp_path):
    """Between dollars matplotlib reads TeX, and ends with an error where it is none."""
    formula = r"$\foo{$"
    figure, (axes, *_) = new_figure(columns=2)
    axes.plot([0, 1], label=formula)
    set_title(axes, formula)
    add_legend(figure, *axes.get_legend_handles_labels())
    genes = _by_name("V genes", {"heavy": {formula: 3}})
    labels, predictions = np.array([0, 1]), np.eye(2)
    fold = SimpleNamespace(labels=labels, predictions=predictions)
    run = SimpleNamespace(
        label_names=[formula, "b"], folds=[fold], target="classes", model="m", task=formula, column=None
    )
    save_pictures({"one": figure, "genes": genes, "confusion": confusion_figure(run)}, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_files_beside_the_code_come_with_the_package():
    shipped = PYPROJECT["tool"]["setuptools"]["package-data"]
    for path in (ROOT / "curr_ab").rglob("*"):
        if path.suffix in (".html", ".css", ".js", ".md") and "modeling" not in path.parts:
            parents = [parent for parent in path.parents if parent.is_relative_to(ROOT / "curr_ab")]
            names = [".".join(parent.relative_to(ROOT).parts) for parent in parents]
            assert any(path.match(pattern) for name in names for pattern in shipped.get(name, ())), path
