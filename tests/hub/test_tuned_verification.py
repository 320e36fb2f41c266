"""What fine-tuning left, verified like a model: files, base, labels, predictions and card."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.finetuned_models import save_tuned, tune

from curr_ab.checkpoints import load
from curr_ab.files import file_digest
from curr_ab.finetuning import adapter_manifest
from curr_ab.finetuning.adapter_manifest import differences, read_manifest
from curr_ab.finetuning.adapter_record import MANIFEST
from curr_ab.hub.card import write_card
from curr_ab.hub.repositories import describe_folder
from curr_ab.hub.verification import verify
from curr_ab.quantities import largest_difference

BASE = "brineylab/CurrAb-8M-F"
CASES = [("classes", "lora"), ("residues", "frozen"), ("number", "full")]


@pytest.fixture(scope="module")
def saved(family, tmp_path_factory):
    """Adapters and a whole model, tuned on an export on disk; nobody changes them."""
    root = tmp_path_factory.mktemp("tuned")
    base = family / "CurrAb-8M-F"
    return [save_tuned(tune(base, *case), root / case[0], base, *case) for case in CASES]


@pytest.fixture
def tuned(saved, tmp_path):
    """The first of them, to change."""
    return shutil.copytree(saved[0], tmp_path / "adapter")


@pytest.mark.heavy
def test_what_was_tuned_is_verified_on_disk(saved) -> None:
    for folder in saved:
        said: list[str] = []
        assert verify(folder, say=said.append) == []
        assert "predictions within" in said[0] and said[0].startswith(f"{folder} main: ")
        manifest = read_manifest(folder)
        rows = 1 if folder.name != "residues" else len(manifest.heavy + manifest.light)
        assert len(manifest.prediction) == rows


def recomputed(folder) -> None:
    """The manifest of somebody who has changed files and knows how digests are made."""
    content = json.loads((folder / MANIFEST).read_text())
    content["files"] = adapter_manifest.file_table(folder)
    (folder / MANIFEST).write_text(json.dumps(content))


def change_weights(folder) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = {name: tensor + 0.3 for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def change_labels(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["1"], config["id2label"]["2"] = config["id2label"]["2"], config["id2label"]["1"]
    (folder / "config.json").write_text(json.dumps(config))


def change_base(folder) -> None:
    for name, key in (("adapter_config.json", "base_model_name_or_path"), ("finetuning.json", "base_model")):
        content = json.loads((folder / name).read_text())
        content[key] = content[key].replace("8M-F", "8M-H")
        (folder / name).write_text(json.dumps(content))


def change_card(folder) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("0.7100", "0.9100"))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("change", "then", "complaint"),
    [
        (change_weights, False, "main: adapter_model.safetensors is not what was saved: SHA-256"),
        (change_weights, True, "main: predictions differ from those recorded by"),
        (change_labels, True, "main: config.json names other labels than HD, Flu, CoV"),
        (change_base, True, "CurrAb-8M-H; it was tuned on"),
        (change_card, False, "main: README.md is not what the files beside it give"),
        (lambda folder: (folder / "recipe.yaml").unlink(), False, "main: recipe.yaml is missing"),
        (lambda folder: (folder / "more.txt").touch(), False, "main: more.txt is not in the manifest"),
        (lambda folder: (folder / MANIFEST).unlink(), False, f"main: {MANIFEST} is missing"),
        (
            lambda folder: (folder / MANIFEST).write_text("{}"),
            False,
            f"main: {MANIFEST} must be of the format",
        ),
    ],
)
def test_what_was_changed_is_found(tuned, change, then, complaint) -> None:
    """Also behind a manifest that was made anew."""
    change(tuned)
    if then:
        recomputed(tuned)
    assert any(complaint in line for line in verify(tuned, say=lambda _: None))


@pytest.mark.heavy
def test_a_base_with_other_weights_is_found(tuned, tmp_path, family) -> None:
    base = shutil.copytree(family / "CurrAb-8M-F", tmp_path / "CurrAb-8M-F")
    weights = base / "model.safetensors"
    save_file({name: tensor * 1.01 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    manifest = read_manifest(tuned)
    for name, key in (("adapter_config.json", "base_model_name_or_path"), ("finetuning.json", "base_model")):
        content = json.loads((tuned / name).read_text())
        (tuned / name).write_text(json.dumps({**content, key: str(base)}))
    content = json.loads((tuned / MANIFEST).read_text()) | {"base_model": str(base)}
    (tuned / MANIFEST).write_text(json.dumps(content))
    recomputed(tuned)
    write_card(tuned)
    problems = verify(tuned, say=lambda _: None)
    assert problems == [f"main: the base {base} has other weights than those that were tuned"]
    assert manifest.base_weights == file_digest(family / "CurrAb-8M-F" / "model.safetensors")


def test_a_new_name_of_the_base_keeps_the_digests_of_the_rest(tuned, capsys) -> None:
    before = read_manifest(tuned)
    write_card(tuned, base_model=BASE, namespace="curator")
    after = read_manifest(tuned)
    assert after.base_model == BASE and after.base_revision is None  # there is no network here
    assert f"{BASE}: not reached" in capsys.readouterr().err
    changed = {name for name in after.files if after.files[name] != before.files[name]}
    assert changed == {"finetuning.json", "adapter_config.json"}
    assert after.namespace == "curator" and differences(tuned, after) == []
    write_card(tuned)  # the owner stays
    assert read_manifest(tuned).namespace == "curator"
    assert 'load_finetuned("curator/' in (tuned / "README.md").read_text()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "finetuning.json"])
def test_a_new_card_makes_nothing_true_that_was_changed(tuned, name) -> None:
    if name.endswith(".json"):
        content = json.loads((tuned / name).read_text()) | {"code_version": "0", "lora_alpha": 99}
        (tuned / name).write_text(json.dumps(content))
    else:
        change_weights(tuned)
    before = (tuned / MANIFEST).read_text()
    for more in ({}, {"base_model": BASE}, {"name": "other"}):
        with pytest.raises(ValueError, match=rf"{name} is not what was saved.*put it back, or fine-tune"):
            write_card(tuned, **more)
    assert (tuned / MANIFEST).read_text() == before


def test_what_was_changed_is_not_published(tuned) -> None:
    write_card(tuned, base_model=BASE)
    change_weights(tuned)
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is not what was saved"):
        describe_folder(tuned, "brineylab")


def test_what_a_download_leaves_beside_the_files_is_no_file(tuned) -> None:
    (tuned / ".cache" / "huggingface" / "download").mkdir(parents=True)
    (tuned / ".cache" / "huggingface" / "download" / "config.json.metadata").write_text("commit")
    assert differences(tuned, read_manifest(tuned)) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", ["config.json"]),
        ("files", {"config.json": 1}),
        ("prediction", [[float("nan"), 1.0, 1.0]]),
        ("prediction", []),
        ("labels", "HD"),
        ("heavy", None),
        ("base_revision", 1),
        ("namespace", ["brineylab"]),
    ],
)
def test_a_manifest_of_other_types_is_refused(tuned, key, value) -> None:
    content = json.loads((tuned / MANIFEST).read_text()) | {key: value}
    (tuned / MANIFEST).write_text(json.dumps(content))
    (problem,) = verify(tuned, say=lambda _: None)
    assert problem.endswith(f"must be what fine-tuning has written; got another {key}; fine-tune again")


@pytest.mark.heavy
def test_published_adapters_are_verified_by_their_names(hub, family, saved, tmp_path) -> None:
    folders = [shutil.copytree(folder, tmp_path / folder.name) for folder in saved]
    hub.run("publish", family / "CurrAb-8M-F", "--namespace", "brineylab")
    hub.run("card", *folders, "--base", BASE, code=2)  # an option of one folder
    for folder in folders:
        hub.run("card", folder, "--base", BASE)
    commit = hub.python(f"import huggingface_hub as h; print(h.HfApi().repo_info({BASE!r}).sha)").strip()
    assert read_manifest(folders[0]).base_revision == commit
    hub.run("publish", *folders, "--namespace", "brineylab")
    names = [f"brineylab/CurrAb-8M-F-{folder.name}-of-pairs" for folder in folders]
    said = hub.run("verify", *names)
    assert all(f"{name}: verified" in said for name in names) and said.count(f"on {BASE}") == 3
    # The owner is that of the manifest, whatever the card says.
    content = json.loads((folders[0] / MANIFEST).read_text()) | {"namespace": "curator"}
    (folders[0] / MANIFEST).write_text(json.dumps(content))
    changed = str(folders[0] / MANIFEST)
    other = f"path_or_fileobj={changed!r}, repo_id={names[0]!r}, path_in_repo={MANIFEST!r}"
    hub.python(f"import huggingface_hub as h; h.upload_file({other})")
    assert f"main: {MANIFEST} names the owner curator" in hub.run("verify", names[0], code=2)
    # The base is published anew, with other weights: what was tuned on it is another model now.
    weights = tmp_path / "model.safetensors"
    tensors = load_file(family / "CurrAb-8M-F" / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, weights, {"format": "pt"})
    upload = (
        f"h.upload_file(path_or_fileobj={str(weights)!r}, repo_id={BASE!r}, path_in_repo={weights.name!r})"
    )
    hub.python(f"import huggingface_hub as h; {upload}")
    said = hub.run("verify", names[0], code=2)
    assert f"{names[0]}: main: the base {BASE} has other weights than those that were tuned" in said
    assert f"; those are at the revision {commit}\n" in said
    # Nor does a card name it as the base.
    before = (folders[1] / MANIFEST).read_text()
    said = hub.run("card", folders[1], "--base", BASE, code=2)
    assert f"{BASE} must have the weights that were tuned, SHA-256 " in said
    said = hub.run("card", folders[1], "--base", "brineylab/none", code=2)
    assert "no repository of the Hub is called brineylab/none" in said
    assert (folders[1] / MANIFEST).read_text() == before


def test_the_probe_is_of_the_model_as_it_is_loaded(saved) -> None:
    """The record is no copy of itself: another head gives other numbers."""
    manifest = read_manifest(saved[0])
    model, tokenizer = load(saved[0], head="sequence-classification", device="cpu")
    same = adapter_manifest.probe(model, tokenizer, (manifest.heavy, manifest.light))
    assert largest_difference(manifest.prediction, same, relative=True) < 1e-5
    with torch.no_grad():
        next(model.classifier.parameters()).mul_(2)
    other = adapter_manifest.probe(model, tokenizer, (manifest.heavy, manifest.light))
    assert largest_difference(manifest.prediction, other, relative=True) > adapter_manifest.TOLERANCE
    assert largest_difference(manifest.prediction, [[0.5]]) == float("inf")
