"""Cards: nothing in them that has no source, nothing left unsaid that is missing, and code that runs."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import yaml
from huggingface_hub import ModelCard
from support.tiny_models import shake, tiny_config

from curr_ab import MEMBERS, CurrAbForMaskedLM, CurrAbTokenizer, member, members
from curr_ab.checkpoint_files import DEMO_FOLDERS
from curr_ab.family import DEMO
from curr_ab.hub import render_card, verify, write_card
from curr_ab.hub.card import stale_parts
from curr_ab.hub.manifest import read_manifest
from curr_ab.hub_results import EVAL_RESULTS
from curr_ab.results import Result, read_results, write_results
from curr_ab.training_record import TrainingRecord
from curr_ab.words import EXAMPLE_PAIR, STANDARD_RESIDUES

CARDS = Path(__file__).parents[2] / "model_cards"


def result(**changes) -> Result:
    fields = {
        "model": "350M-F",
        "task": "specificity-binary",
        "metric": "accuracy",
        "value": 0.71234,
        "standard_error": 0.01,
        "num_items": 4321,
        "dataset": "hf://datasets/lab/HD-vs-CoV",
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
    assert [box["example_title"] for box in card.data.widget] == ["trastuzumab"]
    assert card.data.base_model is None and "sentence-transformers" in card.data.tags
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
    measured = "| 0.7123 | 0.01 | 4,321 | hf://datasets/lab/HD-vs-CoV | test | method lora |"
    assert f"| specificity-binary | accuracy {measured}" in text
    assert "| test-loss-2025-09 | loss | 0.2500 |  | 4,321 | hf://datasets/lab/HD-vs-CoV | test |  |" in text
    assert "Source: a test (curr-ab 0.1.0)." in text
    missing = re.search(r"not measured on this checkpoint: (.*)\.", text)[1]
    assert "pairing (accuracy)" in missing and "specificity-binary (accuracy)" not in missing
    header = {(row.task_name, row.metric_type): row for row in ModelCard(text).data.eval_results}
    accuracy = header["specificity-binary", "accuracy"]
    assert accuracy.dataset_type == "lab/HD-vs-CoV" and accuracy.task_type == "text-classification"
    assert accuracy.metric_value == 0.71234 and accuracy.dataset_name == "lab/HD-vs-CoV method=lora"
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
    assert len(blocks) == 5  # the last embeds: tests/hub/test_serving.py compares its numbers
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda name: SimpleNamespace(sha="0" * 40))
    names: dict = {}
    classes, logits = [], []
    for block in blocks[:4]:
        exec(block, names)
        model = names.get("adapted", names["model"]).eval()
        classes.append(type(model).__name__)
        inputs = names["inputs"].to(model.device)
        with names["torch"].no_grad():
            logits.append(model(**inputs).logits.cpu())
    assert classes == ["EsmForMaskedLM", "CurrAbForMaskedLM", "CurrAbForMaskedLM", "PeftModel"]
    assert all((one - logits[0]).abs().max() < 2e-5 for one in logits)  # as the card says


@pytest.mark.heavy
def test_the_embedding_of_a_card_runs(family, tmp_path, monkeypatch) -> None:
    pytest.importorskip("sentence_transformers")
    (tmp_path / "brineylab").symlink_to(family)
    text = (family / "CurrAb-350M-F" / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(blocks[0], names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries of the library
        exec(blocks[4], names)
    assert names["embeddings"].shape == (2, 80)  # of the tiny model under the member's name


def test_the_widget_is_what_the_model_takes() -> None:
    """As the fill-mask pipeline of stock transformers reads it, which is what answers on the Hub."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

    [box] = ModelCard((CARDS / "8M-F.md").read_text()).data.widget
    heavy, light = EXAMPLE_PAIR
    masked = heavy.replace("CSRWGG", "CSR<mask>GG")
    for trust in (False, True):
        tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDERS[DEMO], trust_remote_code=trust)
        assert tokenizer(box["text"])["input_ids"] == tokenizer(masked, light)["input_ids"]
    filled = pipeline(
        "fill-mask", AutoModelForMaskedLM.from_pretrained(DEMO_FOLDERS[DEMO]), tokenizer=tokenizer
    )
    assert {guess["token_str"] for guess in filled(box["text"], top_k=3)} <= set(STANDARD_RESIDUES)


def test_numbers_of_data_on_the_hub_lie_beside_the_card(family, tmp_path, fresh_process) -> None:
    folder = shutil.copytree(family / "CurrAb-350M-F", tmp_path / "CurrAb-350M-F")
    assert not (folder / EVAL_RESULTS).exists()  # nothing is measured yet
    own = {"checkpoint": read_manifest(folder).weights, "task": "test-loss", "metric": "loss", "details": {}}
    write_results(
        tmp_path / "own.json", [result(**own, dataset="CurrAb-pairs 0123"), result(**own, dataset="mine")]
    )
    write_card(folder, results=[tmp_path / "own.json"])
    [entry] = yaml.safe_load((folder / EVAL_RESULTS).read_text())
    assert entry["dataset"] == {"id": "brineylab/CurrAb-pairs", "task_id": "test-loss"}
    assert entry["value"] == 0.71234

    def problems():
        return verify(folder, say=lambda line: None, fresh_process=fresh_process)

    assert problems() == []
    (folder / EVAL_RESULTS).write_text((folder / EVAL_RESULTS).read_text().replace("0.71234", "0.91234"))
    stale = "main: .eval_results/curr-ab.yaml is stale: it is not what the files beside it give"
    assert problems() == [stale]
    (folder / EVAL_RESULTS).unlink()
    assert problems() == [stale]
    write_card(folder)
    assert problems() == []
    write_results(folder / "results.json", [])
    write_card(folder)
    assert not (folder / EVAL_RESULTS).exists() and problems() == []


def test_the_owner_is_that_of_the_manifest(family, tmp_path, fresh_process) -> None:
    folder = shutil.copytree(family / "CurrAb-350M-F", tmp_path / "CurrAb-350M-F")
    assert read_manifest(folder).namespace == "brineylab"
    write_card(folder, namespace="curator")
    assert read_manifest(folder).namespace == "curator"
    assert "curator/CurrAb-350M-F" in (folder / "README.md").read_text()
    # Whoever edits the card does not change whose it is.
    text = (folder / "README.md").read_text()
    (folder / "README.md").write_text(text.replace('("curator/', '("somebody/'))
    write_card(folder)
    assert (folder / "README.md").read_text() == text
    assert verify(folder, say=lambda line: None, fresh_process=fresh_process) == []


@pytest.mark.parametrize(
    ("begun", "base"),
    [
        ("CLM-350M-F", "curator/CurrAb-CLM-350M-F"),
        ("CurrAb-CLM-350M-F", "curator/CurrAb-CLM-350M-F"),
        ("facebook/esm2_t12_35M_UR50D", "facebook/esm2_t12_35M_UR50D"),
        ("step500", None),
        (None, None),
    ],
)
def test_the_base_is_that_which_training_began_from(begun, base) -> None:
    training = TrainingRecord(plan={"steps": 10, "init_from": begun})
    card = ModelCard(render_card(member("350M-F"), namespace="curator", training=training))
    assert card.data.base_model == base
    assert getattr(card.data, "base_model_relation", None) == ("finetune" if base else None)


def test_the_hub_counts_the_parameters_of_the_card() -> None:
    """By the header of the file, of which it shows the sum; the rotary frequencies are no parameters."""
    from safetensors import safe_open

    with safe_open(DEMO_FOLDERS[DEMO] / "model.safetensors", framework="np") as weights:
        assert weights.metadata() == {"format": "pt"}  # what transformers asks for
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    frequencies = sum(math.prod(shape) for name, shape in shapes.items() if name.endswith("inv_freq"))
    total = sum(map(math.prod, shapes.values()))
    assert f"| parameters | {total - frequencies:,} |" in (DEMO_FOLDERS[DEMO] / "README.md").read_text()
    assert frequencies < 0.001 * total


def test_the_example_of_a_card_is_the_probe() -> None:
    """The card's example is the probe: what a reader sees can be compared with the manifest."""
    text = (CARDS / "8M-F.md").read_text().replace('"\n    "', "")
    assert json.dumps(EXAMPLE_PAIR[0]) in text and json.dumps(EXAMPLE_PAIR[1]) in text
