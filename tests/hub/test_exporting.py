"""Exports: the same model in the form of the Hub, proved; anything that is not the member is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from support.tiny_models import save_published, shake, stock_config, stock_tensors, tiny_config
from transformers import EsmForMaskedLM

from curr_ab import CurrAbForMaskedLM, CurrAbTokenizer, member
from curr_ab.files import ClaimedError
from curr_ab.hub import exports
from curr_ab.hub.exports import adopt, export, prove
from curr_ab.hub.manifest import REVISIONS, differences, read_manifest
from curr_ab.hub.training_checkpoints import TrainingCheckpoint, find_checkpoints, read_model, recognise
from curr_ab.results import checkpoint_digest
from curr_ab.words import EXAMPLE_PAIR
from tests.hub.conftest import save_tiny

IDS = CurrAbTokenizer()(*EXAMPLE_PAIR)["input_ids"]


def test_an_export_has_all_revisions_and_main_is_the_last(family, run_folder) -> None:
    folder = family / "CurrAb-350M-F"
    main = read_manifest(folder)
    steps = {step: read_manifest(folder / REVISIONS / step) for step in ("step5000", "step10000")}
    assert list(main.revisions) == ["step5000", "step10000"]
    assert main.weights == steps["step10000"].weights == checkpoint_digest(folder)
    assert main.step == 10000 and steps["step5000"].step == 5000
    assert steps["step5000"].weights != main.weights
    assert differences(folder, main) == []
    assert set(main.files) == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training.json"),
        *("configuration_curr_ab.py", "modeling_curr_ab.py", "tokenization_curr_ab.py"),
        *("packed_attention.py", "pairwise_attention.py", "skip_dropout.py", "handler.py"),
        *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
        "1_Pooling/config.json",
    }
    assert (folder / "README.md").is_file() and not (folder / REVISIONS / "step5000" / "README.md").exists()
    record = json.loads((run_folder / "checkpoints" / "step10000" / "training.json").read_text())
    written = json.loads((folder / "training.json").read_text())
    assert {name: value for name, value in written.items() if value is not None} == record
    assert main.probe.input_ids == IDS


def test_of_two_exports_into_one_folder_one_works_and_the_other_says_so(
    run_folder, tmp_path, fresh_process, monkeypatch
) -> None:
    source, out = run_folder / "checkpoints" / "step5000", tmp_path / "CurrAb-350M-F"
    export_all = exports._export_all

    def meanwhile(*arguments):
        with pytest.raises(ClaimedError, match=f"another process exports CurrAb-350M-F to {tmp_path}; wait"):
            export(member("350M-F"), source, out, rehearsal=True, fresh_process=fresh_process)
        return export_all(*arguments)

    monkeypatch.setattr(exports, "_export_all", meanwhile)
    export(member("350M-F"), source, out, rehearsal=True, fresh_process=fresh_process)
    assert differences(out, read_manifest(out)) == []
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_an_export_that_was_made_meanwhile_is_kept(run_folder, tmp_path, fresh_process, monkeypatch) -> None:
    """By another process, between the first look at the folder and the lock."""
    source, out = run_folder / "checkpoints" / "step5000", tmp_path / "CurrAb-350M-F"
    claimed = exports.claimed

    def after_another(*arguments, **options):
        out.mkdir()
        (out / "theirs").write_text("keep")
        return claimed(*arguments, **options)

    monkeypatch.setattr(exports, "claimed", after_another)
    with pytest.raises(ValueError, match="is not empty"):
        export(member("350M-F"), source, out, rehearsal=True, fresh_process=fresh_process)
    assert [path.name for path in out.iterdir()] == ["theirs"]


def test_what_is_not_the_source_is_noticed(family, tmp_path, fresh_process, run_folder) -> None:
    """Other weights, another layer-norm epsilon, another tokenizer: each is found by its numbers."""
    source = run_folder / "checkpoints" / "step5000"
    prove(family / "CurrAb-350M-F" / REVISIONS / "step5000", source, IDS, fresh_process)
    with pytest.raises(ValueError, match="a logit differs by"):
        prove(family / "CurrAb-350M-F", source, IDS, fresh_process)
    for change in ({"layer_norm_eps": 1e-1}, {"token_dropout": True}):
        folder = tmp_path / next(iter(change))
        shutil.copytree(source, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match="a logit differs by"):
            prove(folder, source, IDS, fresh_process)
    shutil.copytree(source, tmp_path / "joined")
    CurrAbTokenizer(separator="<cls>").save_pretrained(tmp_path / "joined")
    with pytest.raises(ValueError, match="the tokenizer gives other ids"):
        prove(tmp_path / "joined", source, IDS, fresh_process)
    shutil.copytree(source, tmp_path / "broken")
    (tmp_path / "broken" / "modeling_curr_ab.py").write_text("import curr_ab\n")
    with pytest.raises(ValueError, match=r"broken does not load \(remote\)"):
        prove(tmp_path / "broken", source, IDS, fresh_process)


def test_what_is_not_the_member_is_refused(run_folder, tmp_path, fresh_process) -> None:
    out = tmp_path / "out"

    def refused(match: str, name: str = "350M-F", weights: Path = run_folder, rehearsal: bool = True) -> None:
        with pytest.raises(ValueError, match=match):
            export(member(name), weights, out, rehearsal=rehearsal, fresh_process=fresh_process)
        assert not out.exists() and not list(tmp_path.glob(".*"))

    refused("does not have the shape of 350M-F: hidden_size is 80, not 960", rehearsal=False)
    refused("was trained as 350M-F, not as 350M-H", name="350M-H")
    refused("is not a folder", weights=tmp_path / "nowhere")
    doubled = tmp_path / "doubled"
    shutil.copytree(run_folder / "checkpoints" / "step5000", doubled / "step5000")
    shutil.copytree(run_folder / "checkpoints" / "step5000", doubled / "step6000")
    refused(r"step6000 is named after step 6000, but training\.json says step 5000", weights=doubled)
    for step in (5000, 6000):
        (doubled / f"step{step}" / "training.json").unlink()
    refused("step5000 and step6000 have the same weights", weights=doubled)
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="is not empty"):
        export(member("350M-F"), run_folder, out, rehearsal=True, fresh_process=fresh_process)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_damaged_weights_are_one_line(run_folder, tmp_path, fresh_process) -> None:
    whole = (run_folder / "checkpoints" / "step5000" / "model.safetensors").read_bytes()
    for name, content in {"empty": b"", "cut": whole[:1000], "header": b"\xff" * 8 + whole[8:]}.items():
        folder = tmp_path / name
        shutil.copytree(run_folder / "checkpoints" / "step5000", folder)
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read: "):
            export(member("350M-F"), folder, tmp_path / "out", rehearsal=True, fresh_process=fresh_process)


def test_a_record_is_written_anew_and_not_copied(run_folder, tmp_path, fresh_process) -> None:
    """It may be a link to any JSON of this machine."""
    folder, secret = tmp_path / "step5000", tmp_path / "credentials.json"
    shutil.copytree(run_folder / "checkpoints" / "step5000", folder)
    secret.write_text('{"password": "never-to-be-seen", "step": 5000}')
    (folder / "training.json").unlink()
    (folder / "training.json").symlink_to(secret)
    export(member("350M-F"), folder, tmp_path / "out", rehearsal=True, fresh_process=fresh_process)
    assert "never-to-be-seen" not in (tmp_path / "out" / "training.json").read_text()


def test_steps_are_found_in_order_and_under_both_names(tmp_path) -> None:
    for name in ("checkpoint-500", "checkpoint-10000", "checkpoint-2000", "runs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "pytorch_model.bin").write_bytes(b"")
    assert [found.step for found in find_checkpoints(tmp_path)] == [500, 2000, 10000]
    assert [found.step for found in find_checkpoints(tmp_path / "checkpoint-2000")] == [2000]
    (tmp_path / "runs" / "trainer_state.json").write_text('{"global_step": 7}')
    assert [found.step for found in find_checkpoints(tmp_path / "runs")] == [7]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (
            ["latest", "zero_to_fp32.py"],
            r"ZeRO shards .*: python -m deepspeed\.utils\.zero_to_fp32 .* --safe",
        ),
        (["global_step500/mp_rank_00_model_states.pt"], r"ZeRO shards"),
        (["pytorch_model_fsdp_0/__0_0.distcp"], r"FSDP shards .*: accelerate merge-weights"),
        (["optimizer.pt"], r"has no model: none of model\.safetensors"),
        (["model.safetensors"], r"has no config\.json"),
    ],
)
def test_what_is_no_checkpoint_is_named_with_the_way_out(tmp_path, files, complaint) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=complaint):
        find_checkpoints(tmp_path)


class Trap:
    """The harm that a pickle can do to those who open it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_weights_are_read_as_tensors_and_nothing_else(tmp_path) -> None:
    config = tiny_config()
    config.save_pretrained(tmp_path)
    model = shake(CurrAbForMaskedLM(config))
    stock = EsmForMaskedLM(stock_config(config))
    stock.load_state_dict(stock_tensors(model, stock))
    state = stock.state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    read = read_model(TrainingCheckpoint(tmp_path, None, None)).state_dict()
    assert all(torch.equal(read[key], value) for key, value in model.state_dict().items())
    torch.save({**state, "trap": Trap(tmp_path / "sprung")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read"):
        read_model(TrainingCheckpoint(tmp_path, None, None))
    assert not (tmp_path / "sprung").exists()
    del state["lm_head.dense.weight"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"missing keys: \['lm_head.dense.weight'\]"):
        read_model(TrainingCheckpoint(tmp_path, None, None))


def test_published_checkpoints_are_adopted(tmp_path, fresh_process) -> None:
    """Recognised from shapes and epochs, converted, and equal in their logits, in half precision as found."""
    run = tmp_path / "run"
    save_published(run / "checkpoint-250000", 250_000, 19.41)
    model = save_published(run / "checkpoint-500000", 500_000, 38.82)
    found = adopt([run], tmp_path / "exports", fresh_process=fresh_process)
    folder = tmp_path / "exports" / "CurrAb-8M-F"
    assert set(found) == {folder} and found[folder] < 1e-4
    manifest = read_manifest(folder)
    assert manifest.member == "8M-F" and manifest.step == 500_000 and not manifest.rehearsal
    assert list(manifest.revisions) == ["step250000", "step500000"]
    assert not list(folder.rglob("*.bin"))
    exported = CurrAbForMaskedLM.from_pretrained(folder, dtype="auto")
    assert exported.dtype is torch.float16 and exported.config.layer_norm_eps == 1e-12
    for key, value in model.state_dict().items():
        if "inv_freq" not in key and key in exported.state_dict():
            assert torch.equal(exported.state_dict()[key], value), key
    card = (folder / "README.md").read_text()
    assert "This is the checkpoint of step 500,000. No record of its own training is at hand." in card


@pytest.mark.heavy
def test_what_it_was_trained_on_is_recognised_or_asked_for(tmp_path) -> None:
    epochs = {"F": 38.82, "H": 77.64, "Q": 155.27}
    for letter, epoch in epochs.items():
        save_published(tmp_path / letter / "checkpoint-500000", 500_000, epoch)
    save_published(tmp_path / "silent", 500_000, None)
    save_tiny(tmp_path / "tiny", 0)

    def name(folder: str, data: str | None = None) -> str:
        checkpoint = find_checkpoints(tmp_path / folder)[-1]
        return recognise(checkpoint, read_model(checkpoint), data).name

    assert [name(letter) for letter in epochs] == ["8M-F", "8M-H", "8M-Q"]
    assert name("silent", "h") == "8M-H"
    with pytest.raises(ValueError, match="set data to F, H or Q"):
        name("silent")
    with pytest.raises(ValueError, match="data must be one of F, H, Q; got 'X'"):
        name("silent", "X")
    with pytest.raises(ValueError, match="data must be F, as its record says; got Q"):
        name("F", "Q")
    with pytest.raises(ValueError, match=r"does not have the shape of any member .*--rehearsal"):
        name("tiny")
    with pytest.raises(ValueError, match=r"are both 8M-F; adopt one of them"):
        adopt([tmp_path / "F", tmp_path / "F" / "checkpoint-500000"], tmp_path / "exports")
