"""Cards: nothing in them that has no source, nothing left unsaid that is missing, and code that runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from support.tiny_models import shake, tiny_config

from curr_ab import MEMBERS, CurrAbForMaskedLM, CurrAbTokenizer, member, members
from curr_ab.hub import render_card, write_card
from curr_ab.hub.card import stale_parts
from curr_ab.hub.manifest import read_manifest
from curr_ab.results import Result, read_results, write_results
from curr_ab.training_record import TrainingRecord

CARDS = Path(__file__).parents[2] / "model_cards"


def result(**changes) -> Result:
    fields = {
        "model": "350M-F",
        "task": "specificity-binary",
        "metric": "accuracy",
        "value": 0.71234,
        "standard_error": 0.01,
        "num_items": 4321,
        "dataset": "HD-vs-CoV",
        "split": "test",
        "checkpoint": "a" * 64,
        "source": "a test",
        "code_version": "0.1.0",
        "details": {"method": "lora"},
    }
    return Result(**{**fields, **changes})


def test_the_rendered_cards_are_those_of_their_sources() -> None:
    assert {path.stem for path in CARDS.glob("*.md")} == set(MEMBERS)
    checked = subprocess.run(
        [sys.executable, CARDS / "render.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("one", list(members()), ids=lambda one: one.name)
def test_headers_are_what_the_hub_reads(one) -> None:
    card = ModelCard((CARDS / f"{one.name}.md").read_text())
    assert card.data.license == "mit" and card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "fill-mask" and card.data.datasets == ["brineylab/CurrAb-pairs"]
    assert "antibody" in card.data.tags and card.data.eval_results is None
    assert f"# CurrAb-{one.name}\n" in card.text and f"{one.size.num_parameters:,}" in card.text


@pytest.mark.parametrize("one", list(members()), ids=lambda one: one.name)
def test_the_paper_s_figures_stand_as_the_paper_s_and_all_else_is_missing(one) -> None:
    text = (CARDS / f"{one.name}.md").read_text()
    evaluation = text.partition("## Evaluation\n")[2].partition("\n## ")[0]
    measured, _, published = evaluation.partition(
        "Reported by the paper for its own checkpoint of this member"
    )
    assert "Nothing has been measured on this checkpoint yet." in measured and "|" not in measured
    for figure in one.published:
        row = f"| {figure.task} | {figure.metric} | {figure.value:g} | {figure.source} |"
        assert row in published
        assert f"{figure.task} ({figure.metric})" in measured  # as not measured
    assert published.count("\n| ") == 1 + len(one.published)
    assert "Not recorded: training FLOPs, hours, devices, energy, carbon." in text


def test_measured_numbers_come_with_all_that_belongs_to_them() -> None:
    loss = result(task="test-loss-2025-09", metric="loss", value=0.25, standard_error=None, details={})
    parts = [
        result(value=0.5, details={"method": "lora", "fold": 2}),
        result(task="test-loss", metric="loss", value=0.6, details={"place": "CDRH3 N"}),
        result(
            task="regions", metric="mean-loss", value=0.7, details={"place": "heavy CDR3", "group": "all"}
        ),
    ]
    text = render_card(member("350M-F"), results=[result(), loss, *parts])
    assert (
        "| specificity-binary | accuracy | 0.7123 | 0.01 | 4,321 | HD-vs-CoV | test | method lora |" in text
    )
    assert "| test-loss-2025-09 | loss | 0.2500 |  | 4,321 | HD-vs-CoV | test |  |" in text
    assert "Source: a test (curr-ab 0.1.0)." in text
    missing = re.search(r"not measured on this checkpoint: (.*)\.", text)[1]
    assert "pairing (accuracy)" in missing and "specificity-binary (accuracy)" not in missing
    header = {(row.task_name, row.metric_type): row for row in ModelCard(text).data.eval_results}
    accuracy = header["specificity-binary", "accuracy"]
    assert accuracy.metric_value == 0.71234 and accuracy.dataset_name == "HD-vs-CoV method=lora"
    assert not any(value in text for value in ("0.5000", "0.6000", "0.7000"))  # parts are in the file alone
    assert len(header) == 2  # the paper's are not among them


def test_training_and_compute_are_those_of_the_record() -> None:
    plan = {"steps": 10, "seed": 7, "data": "/home/me/corpus", "config": {"a": 1}, "init_from": None}
    training = {"plan": plan, "training_flops": 1.5e18, "hours": 2.0, "seen": {"pairs": 1_000_000}}
    text = render_card(member("8M-F"), training=TrainingRecord(**training))
    assert "| seed | 7 |\n| config | a 1 |\n\nSeen: pairs 1,000,000." in text
    assert "| warmup steps" not in text and "/home/me" not in text and "init from" not in text
    assert "| training FLOPs | 1.5e+18 |\n| hours | 2 |" in text
    assert "Not recorded: devices, energy, carbon." in text
    assert "No record of its own training is at hand." in render_card(member("8M-F"))


def test_results_of_other_weights_are_refused(family, tmp_path) -> None:
    folder = tmp_path / "CurrAb-350M-F"
    shutil.copytree(family / "CurrAb-350M-F", folder)
    before = (folder / "README.md").read_text()
    write_results(tmp_path / "other.json", [result()])
    with pytest.raises(ValueError, match="measured on weights aaaaaaaaaaaa"):
        write_card(folder, results=[tmp_path / "other.json"])
    assert (folder / "README.md").read_text() == before and not (folder / "results.json").exists()
    own = result(checkpoint=read_manifest(folder).weights, model="./exports/CurrAb-350M-F")
    write_results(tmp_path / "own.json", [own])
    write_card(folder, results=[tmp_path / "own.json"])
    text = (folder / "README.md").read_text()
    assert "| specificity-binary | accuracy | 0.7123 |" in text
    assert [row.model for row in read_results(folder / "results.json")] == ["350M-F"]
    assert (
        "A rehearsal." in text and "2 step checkpoints as revisions, from `step5000` to `step10000`" in text
    )
    assert "This is the checkpoint of step 10,000." in text and "| devices | one CPU |" in text


def test_stale_parts_are_named_and_prose_may_differ() -> None:
    text = render_card(member("350M-F"), results=[result()])
    assert stale_parts(text, text) == []
    assert stale_parts(text + "\n## Thanks\n\nTo all donors.\n", text) == []
    assert stale_parts(text.replace("value: 0.71234", "value: 0.91234"), text) == ["its header"]
    assert stale_parts(text.replace("0.7123 |", "0.9123 |"), text) == ["its section 'Evaluation'"]
    assert stale_parts(text.replace("| seed | 42 |", "| seed | 43 |"), text) == ["its section 'Training'"]
    assert stale_parts(text.replace("## Scaling law", "## Law"), text)[-1] == "its section 'Scaling law'"


def test_the_code_of_a_card_runs(tmp_path, monkeypatch) -> None:
    """As it stands, with a folder of the repository's name in the place of the Hub."""
    folder = tmp_path / "brineylab" / "CurrAb-350M-F"
    shake(CurrAbForMaskedLM(tiny_config())).save_pretrained(folder)
    CurrAbTokenizer().save_pretrained(folder)
    blocks = re.findall(r"```python\n(.*?)```", (CARDS / "350M-F.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    classes, logits = [], []
    for block in blocks:
        exec(block, names)
        model = names.get("adapted", names["model"]).eval()
        classes.append(type(model).__name__)
        inputs = names["inputs"].to(model.device)
        with names["torch"].no_grad():
            logits.append(model(**inputs).logits.cpu())
    assert classes == ["EsmForMaskedLM", "CurrAbForMaskedLM", "CurrAbForMaskedLM", "PeftModel"]
    assert all((one - logits[0]).abs().max() < 2e-5 for one in logits)  # as the card says


def test_the_example_of_a_card_is_the_probe() -> None:
    """The card's example is the probe: what a reader sees can be compared with the manifest."""
    from curr_ab.words import EXAMPLE_PAIR

    text = (CARDS / "8M-F.md").read_text().replace('"\n    "', "")
    assert json.dumps(EXAMPLE_PAIR[0]) in text and json.dumps(EXAMPLE_PAIR[1]) in text
