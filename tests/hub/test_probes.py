"""Probes on their way to the Hub: verified on disk, published, and read back by their names alone."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.finetuned_models import mean_rows
from support.tiny_models import PAIRS

import curr_ab
from curr_ab.files import file_digest
from curr_ab.finetuning import load_finetuned, predict, resolve_recipe, save_adapter
from curr_ab.finetuning.adapter_manifest import file_table, read_manifest
from curr_ab.finetuning.adapter_record import MANIFEST
from curr_ab.finetuning.probe_file import read_probe, write_probe
from curr_ab.finetuning.probe_model import ProbeModel
from curr_ab.hub.card import write_card
from curr_ab.hub.repositories import describe_folder
from curr_ab.hub.verification import verify
from curr_ab.probes.member_features import member_features
from curr_ab.probes.regression import Regression, fit_regression

BASE = "brineylab/CurrAb-8M-F"
pytestmark = pytest.mark.heavy


@pytest.fixture
def probe(family, tmp_path):
    """A probe of an export on disk."""
    base = family / "CurrAb-8M-F"
    model, tokenizer = curr_ab.load(base, device="cpu")
    values = member_features(model, tokenizer, PAIRS, ["cdrs"])["cdrs"]
    regression = fit_regression(values, [0, 1, 0, 1], target="classes", num_classes=2, strength=1.0)
    recipe = resolve_recipe("specificity-binary", {"method": "probe"})
    save_adapter(
        ProbeModel(model, regression, "cdrs", "classes", recipe.labels),
        tmp_path / "probe",
        tokenizer=tokenizer,
        recipe=recipe,
        base_model=str(base),
        label_names=recipe.labels,
        results=mean_rows(accuracy=0.71),
        data={"fingerprint": "f" * 64, "examples": 4},
        folds={"scheme": "grouped"},
    )
    return tmp_path / "probe"


def recomputed(folder):
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**content, "files": file_table(folder)}))


def test_it_is_verified_on_disk_and_what_was_changed_is_found(probe, family, tmp_path):
    said = []
    assert verify(probe, say=said.append) == [] and "predictions within" in said[0]
    manifest = read_manifest(probe)
    assert manifest.base_weights == file_digest(family / "CurrAb-8M-F" / "model.safetensors")
    regression, facts = read_probe(probe / "probe.safetensors")
    other = Regression(regression.weights * 2, regression.bias, 2)
    write_probe(probe / "probe.safetensors", other, facts)
    assert any("probe.safetensors is not what was saved" in line for line in verify(probe, say=said.append))
    recomputed(probe)
    assert any("predictions differ from those recorded" in line for line in verify(probe, say=said.append))


def test_a_base_with_other_weights_is_found(probe, family, tmp_path):
    base = shutil.copytree(family / "CurrAb-8M-F", tmp_path / "CurrAb-8M-F")
    weights = {name: 1.01 * tensor for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    for name in ("finetuning.json", MANIFEST):
        content = json.loads((probe / name).read_text()) | {"base_model": str(base)}
        (probe / name).write_text(json.dumps(content))
    recomputed(probe)
    write_card(probe)
    assert any("has other weights than those that were tuned" in line for line in verify(probe, say=print))


def test_it_is_published_and_read_back(hub, family, probe):
    expected = list(predict(*load_finetuned(probe, device="cpu"), PAIRS))
    refused = hub.run("publish", probe, "--namespace", "brineylab", code=2)
    assert "its base must be a repository on the Hub" in refused
    hub.run("publish", family / "CurrAb-8M-F", "--namespace", "brineylab")
    hub.run("card", probe, "--base", BASE, "--name", "binders")
    assert describe_folder(probe, "brineylab").note == f"probe of {BASE}"
    hub.run("publish", probe, "--namespace", "brineylab")
    hub.run("verify", "brineylab/binders")
    pairs = probe.parent / "pairs.csv"
    pairs.write_text("heavy,light\n" + "".join(f"{heavy},{light}\n" for heavy, light in PAIRS))
    hub.run("predict", "brineylab/binders", pairs, "--out", probe.parent / "out.csv", "--quiet")
    rows = [line.split(",") for line in (probe.parent / "out.csv").read_text().splitlines()]
    shown = np.array([row[2:] for row in rows[1:]], float)
    assert shown == pytest.approx(np.stack(expected), abs=1e-5)
