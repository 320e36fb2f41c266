"""A causal checkpoint on its way to the Hub: under a name of its own, with a card of its own."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from support.tiny_models import save_checkpoint, shake, tiny_config

from curr_ab import MEMBERS, CurrAbForCausalLM, CurrAbForMaskedLM, member
from curr_ab.hub import render_card
from curr_ab.hub.exports import export
from curr_ab.hub.manifest import read_manifest
from curr_ab.hub.training_checkpoints import TrainingCheckpoint, recognise
from curr_ab.hub.verification import verify

NAME = "CLM-8M-F"


def write_run(folder, model_class=CurrAbForCausalLM, **config):
    """A run of objective clm with two steps, as training leaves it."""
    for step in (100, 200):
        torch.manual_seed(step)
        model = shake(model_class(tiny_config(is_decoder=True, **config)), step).eval()
        place = save_checkpoint(model, folder / "checkpoints" / f"step{step}")
        record = {"format": "curr-ab training 1", "member": "8M-F", "step": step, "objective": "clm"}
        (place / "training.json").write_text(json.dumps({**record, "plan": {"objective": "clm", **config}}))
    return folder


@pytest.fixture(scope="module")
def causal_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("causal-run"))


@pytest.fixture(scope="module")
def exported(causal_run, tmp_path_factory, fresh_process):
    folder = tmp_path_factory.mktemp("exports") / f"CurrAb-{NAME}"
    # Named as its masked twin: the checkpoint says what it is.
    assert export(member("8M-F"), causal_run, folder, rehearsal=True, fresh_process=fresh_process) < 1e-4
    return folder


def test_a_causal_twin_has_a_name_and_a_repository_of_its_own():
    twin = member(NAME)
    assert twin == member("CurrAb-clm-8m-f") and twin.causal and twin.name == NAME
    assert twin.repo_id() == "brineylab/CurrAb-CLM-8M-F" and twin.config()["is_decoder"] is True
    assert twin.published == ()  # the paper has no figures of it
    assert len(MEMBERS) == 15 and NAME not in MEMBERS
    with pytest.raises(ValueError, match=r"did you mean .*CLM-8M-F"):
        member("CLM-8M-X")


def test_the_export_is_recognised_and_proved(exported, fresh_process):
    manifest = read_manifest(exported)
    assert manifest.member == NAME and list(manifest.revisions) == ["step100", "step200"]
    assert "generation_config.json" in manifest.files
    pair = (manifest.probe.heavy, manifest.probe.light)
    classes = [fresh_process.load(exported, way, pair, None).model_class for way in ("stock", "remote")]
    assert classes == ["EsmForMaskedLM", "CurrAbForCausalLM"]
    config = json.loads((exported / "config.json").read_text())
    assert config["is_decoder"] is True and config["architectures"] == ["CurrAbForCausalLM"]
    # The probe is that of a causal model: what the light chain is says nothing about the heavy one's rows.
    model = CurrAbForCausalLM.from_pretrained(exported, dtype=torch.float32).eval()
    ids = torch.tensor([manifest.probe.input_ids])
    ids[:, 200:] = 5
    with torch.no_grad():
        logits = model(ids).logits[0].tolist()
    assert manifest.probe.logits[:12] == [pytest.approx(row, abs=1e-4) for row in logits[:192:16]]
    assert manifest.probe.logits[13] != pytest.approx(logits[208], abs=1e-4)


def test_what_earlier_versions_wrote_is_a_causal_export_too(tmp_path, fresh_process):
    run = write_run(tmp_path / "run", CurrAbForMaskedLM)
    export(member(NAME), run, tmp_path / "out", rehearsal=True, fresh_process=fresh_process)
    assert read_manifest(tmp_path / "out").member == NAME
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [
        "CurrAbForCausalLM"
    ]


def test_a_masked_model_is_not_exported_as_causal(run_folder, causal_run, tmp_path, fresh_process):
    with pytest.raises(ValueError, match=r"must be a causal model, as CLM-350M-F is; .* export it as 350M-F"):
        export(member("CLM-350M-F"), run_folder, tmp_path / "out", rehearsal=True)
    with pytest.raises(ValueError, match="was trained as CLM-8M-F, not as CLM-8M-H"):
        export(member("8M-H"), causal_run, tmp_path / "out", rehearsal=True, fresh_process=fresh_process)
    assert not (tmp_path / "out").exists()


def test_published_shapes_are_recognised_with_their_kind(tmp_path):
    with torch.device("meta"):
        model = CurrAbForCausalLM(tiny_config(**member(NAME).config()))
    assert recognise(TrainingCheckpoint(tmp_path, 1, None), model, "F") == member(NAME)


def test_an_export_with_a_bidirectional_mask_is_noticed(exported, tmp_path, fresh_process):
    """Seen to be noticed: the same files without `is_decoder` are another model."""
    import shutil

    folder = tmp_path / "bidirectional"
    shutil.copytree(exported, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_decoder": False}))
    pair = (read_manifest(exported).probe.heavy, read_manifest(exported).probe.light)
    seen = fresh_process.load(folder, "stock", pair, None)
    assert read_manifest(exported).probe.largest_difference(seen.logits) > 0.01
    assert any("config.json is not what was exported" in line for line in verify(folder, say=lambda _: None))


def test_the_card_says_what_it_is_and_claims_nothing_of_a_masked_model(exported):
    text = (exported / "README.md").read_text()
    assert "A causal language model" in text and "pipeline_tag: text-generation" in text
    assert "cannot write a heavy chain for a light one" in text
    for claim in (
        "A masked language model",
        "predicting masked residues",
        "Reported by the paper",
        "fill-mask",
    ):
        assert claim not in text
    assert "EsmForMaskedLM" in text and "cannot generate" in text
    assert "A masked language model" in render_card(member("8M-F"))


def test_light_first_is_said_where_it_was_trained(tmp_path, fresh_process):
    run = write_run(tmp_path / "run", light_first=0.25)
    export(member(NAME), run, tmp_path / "out", rehearsal=True, fresh_process=fresh_process)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "seen 25 % of its pairs light chain first" in text and "cannot write a heavy" not in text


@pytest.mark.heavy
def test_the_code_of_the_card_runs(exported, tmp_path, monkeypatch):
    """As it stands, with a folder of the repository's name in the place of the Hub."""
    folder = tmp_path / "brineylab" / f"CurrAb-{NAME}"
    folder.parent.mkdir()
    folder.symlink_to(exported)
    blocks = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda name: SimpleNamespace(sha="0" * 40))
    names: dict = {}
    exec(blocks[0] + blocks[2], names)
    assert type(names["model"]).__module__.startswith("transformers_modules")
    remote = names["pairs"]
    assert len(remote) == 2 and all(heavy == names["heavy"] for heavy, _ in remote)
    exec(blocks[1] + "model = model.cpu()\n" + blocks[2], names)
    assert type(names["model"]) is CurrAbForCausalLM and names["pairs"] == remote


@pytest.mark.heavy
def test_it_is_published_and_verified_like_the_others(hub, exported):
    said = hub.run("publish", exported, "--namespace", "brineylab")
    assert "brineylab/CurrAb-CLM-8M-F: model, new, public" in said
    branches = hub.state()["repos"]["brineylab/CurrAb-CLM-8M-F"]["branches"]
    assert {"main", "step100", "step200"} <= set(branches)
    assert "CLM-8M-F: verified" in hub.run("verify", "CLM-8M-F")
    code = "import curr_ab; print(type(curr_ab.load('clm-8m-f', device='cpu')[0]).__name__)"
    assert hub.python(code).strip() == "CurrAbForCausalLM"


@pytest.mark.heavy
def test_the_commit_that_a_card_asks_for_holds_the_code(hub, exported):
    """Somebody changes the code in the repository: who has noted the commit still runs what it was."""
    hub.run("publish", exported, "--namespace", "brineylab")
    loading = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)[0]
    changing = (
        "print(commit, type(model).__module__)\n"
        "from huggingface_hub import HfApi\n"
        "HfApi().upload_file(path_or_fileobj=b'raise SystemExit(\"changed\")', repo_type='model',\n"
        "    path_in_repo='modeling_curr_ab.py', repo_id=repo)"
    )
    commit, code = hub.python(loading + changing).split()
    assert len(commit) == 40 and commit in code
    noted = re.sub(r"model_info\(.*?\)\.sha", repr(commit), loading)
    assert noted != loading and hub.python(noted + "print(type(model).__module__)").strip() == code
    with pytest.raises(AssertionError, match="changed"):
        hub.python(loading)
