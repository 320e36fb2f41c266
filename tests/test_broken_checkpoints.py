"""A folder that is no whole checkpoint: the cause in one line and the way out, never numbers from chance."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_models import save_checkpoint, shake, tiny_config

import curr_ab
from curr_ab import CurrAbForMaskedLM
from curr_ab.finetuning import resolve_recipe
from curr_ab.finetuning.model import build_model

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return save_checkpoint(shake(CurrAbForMaskedLM(tiny_config())).eval(), tmp_path / "checkpoint")


def no_weights(folder):
    (folder / WEIGHTS).unlink()


def cut_weights(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:50_000])


def pointer(folder):
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def lost_shard(folder):
    (folder / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": {"a": "model-2-of-2.safetensors"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def wide_config(folder):
    config = json.loads((folder / "config.json").read_text()) | {"hidden_size": 160}
    (folder / "config.json").write_text(json.dumps(config))


def other_weights(folder):
    save_file({"encoder.block.0.weight": torch.zeros(3)}, folder / WEIGHTS, metadata={"format": "pt"})


def one_tensor_lost(folder):
    tensors = load_file(folder / WEIGHTS)
    del tensors["esm.encoder.layer.1.intermediate.dense.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def cut_config(folder):
    (folder / "config.json").write_text('{"model_type": "es')


def cut_tokenizer(folder):
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text()[:300])


def newer_tokenizer(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"] = {"type": "ModelOfTomorrow", "vocab": {}}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def no_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def foreign_attention(folder):
    content = json.loads((folder / "config.json").read_text())
    content["_attn_implementation_internal"] = "somebody/kernel"
    (folder / "config.json").write_text(json.dumps(content))


def shard_elsewhere(folder):
    shutil.move(folder / "model.safetensors", folder.parent / "elsewhere.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.bias": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def numbered_shard(folder):
    index = {"metadata": {}, "weight_map": {"lm_head.bias": 3}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def deep_config(folder):
    (folder / "config.json").write_text("[" * 100_000)


ANOTHER = r"must be those of its config.json, all of them; got none of the right shape for .*; name"
UNREADABLE = (
    r"the tokenizer of .* must be a whole file that tokenizers \d.* reads; got an error \(.*\); upgrade "
    "tokenizers if the checkpoint is newer than it, else copy the checkpoint again"
)
DAMAGES = {
    no_weights: r"has no model in it \(none of model.safetensors.*; name a checkpoint",
    cut_weights: r"model.safetensors is no whole file of weights \(.*; copy the checkpoint again",
    pointer: r"model.safetensors is a pointer of Git LFS, not the weights; run `git lfs pull`",
    lost_shard: r"lacks model-2-of-2.safetensors, which its .* lists; copy the checkpoint again",
    wide_config: ANOTHER,
    other_weights: ANOTHER,
    one_tensor_lost: ANOTHER,
    cut_config: "config.json must be valid JSON",
    deep_config: "config.json must be valid JSON",
    foreign_attention: "must not name code of another repository; got 'somebody/kernel' under _attn_impl",
    shard_elsewhere: r"must name files beside it; got '../elsewhere.safetensors'",
    numbered_shard: "must name files beside it; got 3",
    cut_tokenizer: UNREADABLE,
    newer_tokenizer: UNREADABLE,
    no_tokenizer: "has no tokenizer files .*; name the separator",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_load_says_what_is_broken(folder, damage, capfd):
    damage(folder)
    began = time.monotonic()
    with pytest.raises(ValueError, match=DAMAGES[damage]):
        curr_ab.load(folder, device="cpu")
    assert time.monotonic() - began < 10
    assert "LOAD REPORT" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "damage", [no_weights, cut_weights, one_tensor_lost], ids=lambda damage: damage.__name__
)
def test_fine_tuning_says_it_too(folder, damage):
    damage(folder)
    with pytest.raises(ValueError, match=DAMAGES[damage]):
        build_model(resolve_recipe("specificity-binary"), str(folder))


def test_a_head_that_is_drawn_is_named(folder, caplog):
    model, _ = curr_ab.load(folder, head="sequence-classification", device="cpu")
    assert "has no such head: its 4 tensors are drawn; train them first" in caplog.text
    caplog.clear()
    model.save_pretrained(folder)
    curr_ab.load(folder, head="sequence-classification", device="cpu")
    assert not caplog.text


def test_an_adapter_of_an_adapter_is_refused(tmp_path):
    """Loaded one upon the other, both would change the model."""
    for name, base in (("upper", tmp_path / "lower"), ("lower", tmp_path / "model")):
        (tmp_path / name).mkdir()
        content = json.dumps({"base_model_name_or_path": str(base)})
        (tmp_path / name / "adapter_config.json").write_text(content)
    with pytest.raises(
        ValueError, match=r"upper must be an adapter of a model; its base .*lower is an adapter"
    ):
        curr_ab.load(tmp_path / "upper", device="cpu")
