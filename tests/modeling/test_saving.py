"""Checkpoints go both ways between stock ESM and ours, whole and exact."""

import importlib
import json
import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import RepoUrl
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.tiny_models import (
    FACEBOOK,
    PUBLISHED,
    shake,
    stock_config,
    stock_tensors,
    stock_twin,
    tiny_config,
)
from transformers import EsmForMaskedLM

from curr_ab import CurrAbForMaskedLM, CurrAbForSequenceClassification, CurrAbModel, modeling
from curr_ab.modeling.configuration_curr_ab import AUTO_MAP

NOTHING = {"missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"}
KINDS = {"published": PUBLISHED, "facebook": FACEBOOK}


@pytest.fixture(params=KINDS)
def model(request):
    """As trained in half precision: rotary frequencies that were rounded, a padding row that moved."""
    model = shake(CurrAbForMaskedLM(tiny_config(**KINDS[request.param]))).eval()
    with torch.no_grad():
        model.esm.rotary_embeddings.inv_freq.copy_(model.esm.rotary_embeddings.inv_freq.half())
    return model


def load_whole(model_class, folder):
    """Load and insist on a report with nothing in it."""
    model, report = model_class.from_pretrained(folder, output_loading_info=True)
    assert {name for name in NOTHING if report[name]} == set(), report
    return model.eval()


def assert_equal_tensors(one, other):
    expected = stock_tensors(other, one)
    assert one.state_dict().keys() == expected.keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_keys_are_those_of_stock(model):
    stock = stock_twin(model)
    assert stock_tensors(model, stock).keys() == stock.state_dict().keys()


def test_ours_to_stock_and_back(model, tmp_path, batch):
    model.save_pretrained(tmp_path / "ours")
    stock = load_whole(EsmForMaskedLM, tmp_path / "ours")
    assert_equal_tensors(stock, model)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        assert (stock(**batch).logits - model(**batch).logits)[real].abs().max() <= 2e-5

    stock.save_pretrained(tmp_path / "stock")
    assert_equal_tensors(load_whole(CurrAbForMaskedLM, tmp_path / "stock"), model)
    assert_equal_tensors(load_whole(CurrAbForMaskedLM, tmp_path / "ours"), model)


def test_folder_brings_its_code(model, tmp_path):
    """Also after a load from the Hub, which points the map at that repository."""
    model.config.auto_map = {name: f"me/x--{file}" for name, file in AUTO_MAP.items()}
    model.save_pretrained(tmp_path / "model")
    model.config.auto_map = {name: f"me/x--{file}" for name, file in AUTO_MAP.items()}
    model.config.save_pretrained(tmp_path / "config")
    code = [
        "configuration_curr_ab.py",
        "modeling_curr_ab.py",
        "packed_attention.py",
        "pairwise_attention.py",
        "skip_dropout.py",
    ]
    for folder, names in ((tmp_path / "model", code), (tmp_path / "config", code[:1])):
        assert json.loads((folder / "config.json").read_text())["auto_map"] == AUTO_MAP
        for name in names:
            assert (folder / name).read_text() == (Path(modeling.__file__).parent / name).read_text()


@pytest.mark.parametrize("part", ["model", "config"])
def test_pushing_uploads_the_code_too(model, part, tmp_path, monkeypatch):
    """transformers uploads what changed while it saved; the code must be among that."""
    uploaded = set()

    class Hub:
        def create_repo(self, repo_id, **kwargs):
            return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload(self, folder, repo_id, files_timestamps, **kwargs):
        uploaded.update(set(os.listdir(folder)) - set(files_timestamps))
        uploaded.update(name for name, time in files_timestamps.items() if _mtime(folder, name) > time)

    from transformers.utils import hub

    monkeypatch.setattr(hub.PushToHubMixin, "_upload_modified_files", upload)
    for place in ("modeling_utils", "configuration_utils", "utils.hub"):
        module = importlib.import_module(f"transformers.{place}")
        if hasattr(module, "hf_api"):
            monkeypatch.setattr(module, "hf_api", Hub)
    if hasattr(hub, "create_repo"):  # of transformers 4
        monkeypatch.setattr(hub, "create_repo", Hub().create_repo)
    each = model if part == "model" else model.config
    each.save_pretrained(tmp_path / "pushed", push_to_hub=True, repo_id="me/pushed")
    assert {"config.json", "configuration_curr_ab.py"} <= uploaded
    for name in ("modeling_curr_ab.py", "packed_attention.py", "pairwise_attention.py", "skip_dropout.py"):
        assert (name in uploaded) is (part == "model")


def _mtime(folder, name):
    return (Path(folder) / name).stat().st_mtime


def test_saving_what_was_loaded_writes_the_same_file(model, tmp_path):
    model.save_pretrained(tmp_path / "first")
    load_whole(CurrAbForMaskedLM, tmp_path / "first").save_pretrained(tmp_path / "second")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_files_hold_the_frequencies_of_every_layer_and_no_tied_copy(model, tmp_path):
    """The form that transformers 4.57 to 5.23 read without a complaint; 5.23 itself writes a literal `*`."""
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        keys = set(file.keys())
        assert file.metadata() == {"format": "pt"}
    frequencies = {key for key in keys if "inv_freq" in key}
    assert frequencies == {
        f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq" for layer in range(2)
    }
    assert "lm_head.decoder.weight" not in keys


@pytest.mark.parametrize("form", ["shared", "star", "absent"])
def test_other_forms_of_old_and_new_checkpoints(model, form, tmp_path, batch):
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    frequencies = [tensors.pop(key) for key in list(tensors) if "inv_freq" in key]
    if form == "shared":
        tensors["esm.rotary_embeddings.inv_freq"] = frequencies[0]
    elif form == "star":
        tensors["esm.encoder.layer.*.attention.self.rotary_embeddings.inv_freq"] = frequencies[0]
    # What checkpoints of 2022 hold besides.
    tensors["esm.embeddings.position_ids"] = torch.arange(320)[None]
    tensors["esm.embeddings.position_embeddings.weight"] = torch.randn(320, 80)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = load_whole(CurrAbForMaskedLM, tmp_path)
    if form == "absent":  # then they are computed
        exact = loaded.esm.rotary_embeddings.frequencies()
        assert torch.equal(loaded.esm.rotary_embeddings.inv_freq, exact)
    else:
        assert_equal_tensors(loaded, model)


def test_plain_load_state_dict_takes_files_too(model, tmp_path):
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.decoder.weight"] = tensors["esm.embeddings.word_embeddings.weight"]
    other = CurrAbForMaskedLM(model.config)
    other.load_state_dict(tensors, strict=True)
    assert_equal_tensors(other, model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_frequencies_stay_exact_in_half_precision(model, dtype, tmp_path):
    """Rounded to bfloat16 they would turn residues 200 apart by up to 0.3 radians."""
    model.save_pretrained(tmp_path)
    exact = model.esm.rotary_embeddings.inv_freq.clone()
    loaded = CurrAbForMaskedLM.from_pretrained(tmp_path, dtype=dtype)
    for each in (loaded, model.to(dtype)):
        assert each.lm_head.dense.weight.dtype is dtype
        assert torch.equal(each.esm.rotary_embeddings.inv_freq, exact)
    loaded.save_pretrained(tmp_path / "half")
    again = CurrAbForMaskedLM.from_pretrained(tmp_path / "half", dtype=torch.float32)
    assert torch.equal(again.esm.rotary_embeddings.inv_freq, exact)


def test_sharded_file_and_given_state_dict(model, tmp_path):
    state_dict = {name: tensor * 2 for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=state_dict, max_shard_size="100KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    loaded = load_whole(CurrAbForMaskedLM, tmp_path)
    weight = "esm.encoder.layer.1.output.dense.weight"
    assert torch.equal(loaded.state_dict()[weight], 2 * model.state_dict()[weight])
    assert_equal_tensors(load_whole(EsmForMaskedLM, tmp_path), loaded)


def test_encoder_alone(model, tmp_path, rows):
    """Into and out of the model without a head, as transformers does with any base model."""
    model.save_pretrained(tmp_path / "whole")
    encoder = CurrAbModel.from_pretrained(tmp_path / "whole").eval()
    encoder.save_pretrained(tmp_path / "encoder")
    again = CurrAbModel.from_pretrained(tmp_path / "encoder").eval()
    row = rows[0][None]
    expected = model.esm(row).last_hidden_state
    assert torch.equal(encoder(row).last_hidden_state, expected)
    assert torch.equal(again(row).last_hidden_state, expected)


def test_contact_head_stays_frozen_after_loading(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = load_whole(CurrAbForMaskedLM, tmp_path)
    frozen = {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad}
    assert frozen == {"esm.contact_head.regression.weight", "esm.contact_head.regression.bias"}


def test_a_new_head_is_drawn_and_the_rest_is_loaded(model, tmp_path):
    """Where a careless `_init_weights` gives random weights on transformers 5.0 to 5.12."""
    model.save_pretrained(tmp_path)
    loaded, report = CurrAbForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert all(key.startswith("classifier.") for key in report["missing_keys"])
    assert len(report["missing_keys"]) == 4
    for name, tensor in model.esm.state_dict().items():
        assert torch.equal(loaded.esm.state_dict()[name], tensor), name
    dense = loaded.classifier.residues.dense
    assert dense.weight.std().item() == pytest.approx(loaded.config.initializer_range, rel=0.1)
    assert dense.bias.abs().max() == 0


def test_initial_weights_are_those_of_stock():
    torch.manual_seed(0)
    config = tiny_config(num_attention_heads=20)  # stock's contact head has a weight for each
    ours, stock = CurrAbForMaskedLM(config), EsmForMaskedLM(stock_config(config))
    for name, tensor in stock.state_dict().items():
        mine = stock_tensors(ours, stock)[name]
        assert mine.mean().item() == pytest.approx(tensor.mean().item(), abs=0.03), name
        if mine.numel() > 1:
            assert mine.std().item() == pytest.approx(tensor.std().item(), rel=0.2, abs=1e-7), name
    assert ours.esm.embeddings.word_embeddings.weight[1].abs().max() == 0  # padding


def test_residue_head_is_reported_missing_by_stock(tmp_path):
    """Stock ESM would feed <cls> to a head that was trained on residues: it must not find one."""
    from transformers import EsmForSequenceClassification

    CurrAbForSequenceClassification(tiny_config(classifier_pooling="mean")).save_pretrained(tmp_path)
    _, report = EsmForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert {"classifier.dense.weight", "classifier.out_proj.weight"} <= set(report["missing_keys"])
    assert {"classifier.residues.dense.weight"} <= set(report["unexpected_keys"])
