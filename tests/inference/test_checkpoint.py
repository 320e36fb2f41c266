"""What can stand for MODEL, and the number type that it runs in."""

import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.tiny_models import PAIRS, stock_twin

import curr_ab
from curr_ab import CurrAbForMaskedLM
from curr_ab.checkpoints import model_digest
from curr_ab.inference import Checkpoint, embed, score
from curr_ab.tokenization.tokenization_curr_ab import VOCABULARY


def test_an_adapter_is_merged_into_its_base(folder, tokenizer, tmp_path):
    torch.manual_seed(1)
    lora = LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    adapted = get_peft_model(CurrAbForMaskedLM.from_pretrained(folder), lora).eval()
    adapted.save_pretrained(tmp_path)
    encoded = tokenizer(*PAIRS[0], return_tensors="pt")
    with torch.no_grad():
        expected = adapted(**encoded).logits
        model, _ = curr_ab.load(tmp_path, device="cpu")
        base, _ = curr_ab.load(folder, device="cpu")
        assert type(model) is CurrAbForMaskedLM
        assert not model.training
        assert (model(**encoded).logits - expected).abs().max() <= 2e-5
        assert (base(**encoded).logits - expected).abs().max() > 1e-2


def test_a_stock_checkpoint(deep, tokenizer, tmp_path):
    """As facebook's repositories are: no tokenizer.json, EsmForMaskedLM."""
    stock_twin(deep).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    model, own = Checkpoint(str(tmp_path), device="cpu", dtype="float32").load()
    found = next(score(model, own, PAIRS[:1], mode="unmasked"))
    expected = next(score(deep, tokenizer, PAIRS[:1], mode="unmasked"))
    assert found.pll() == pytest.approx(expected.pll(), abs=1e-3)


def test_bfloat16_is_near(folder):
    pooled, sums = [], []
    for dtype in ("float32", "bfloat16"):
        model, tokenizer = Checkpoint(str(folder), device="cpu", dtype=dtype).load()
        assert model.dtype is getattr(torch, dtype)
        pooled.append(np.stack(list(embed(model, tokenizer, PAIRS))))
        short = [(heavy[:40], light[:40]) for heavy, light in PAIRS[:1]]
        sums.append(next(score(model, tokenizer, short, mode="exact")).pll())
    assert pooled[1].dtype == np.float32
    assert 0 < np.abs(pooled[0] - pooled[1]).max() <= 0.03
    assert sums[1] == pytest.approx(sums[0], rel=0.01) and sums[0] != sums[1]


def test_digests_tell_models_apart(folder, deep, tokenizer, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    copy, _ = curr_ab.load(tmp_path / "copy", device="cpu")
    assert model_digest(copy, tokenizer) == model_digest(deep, tokenizer)
    with torch.no_grad():
        copy.lm_head.bias[0] += 1e-6
    assert model_digest(copy, tokenizer) != model_digest(deep, tokenizer)
