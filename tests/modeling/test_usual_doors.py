"""The promise to users of other libraries: their usual calls work on a checkpoint folder as on any other.

Each call is made as it stands in those libraries' manuals, with their stock classes and as remote code.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from support.tiny_models import PAIRS, save_checkpoint, shake, tiny_config
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

import curr_ab
from curr_ab import CurrAbConfig, CurrAbForMaskedLM, CurrAbForSequenceClassification
from curr_ab.inference import embed

HEAVY, LIGHT = PAIRS[0]
WAYS = {"stock": {}, "remote": {"trust_remote_code": True}}


@pytest.fixture(scope="module", params=["tiny", "demo"])
def folder(request, tmp_path_factory):
    """A member in small, and the model in the package."""
    if request.param == "demo":
        return Path(curr_ab.resolve("demo"))
    return save_checkpoint(shake(CurrAbForMaskedLM(tiny_config())).eval(), tmp_path_factory.mktemp("member"))


@pytest.fixture(scope="module")
def classifier(folder, tmp_path_factory):
    """A folder with a head of two classes."""
    config = CurrAbConfig.from_pretrained(folder, classifier_pooling="cls")
    model = shake(CurrAbForSequenceClassification.from_pretrained(folder, config=config))
    return save_checkpoint(model.eval(), tmp_path_factory.mktemp("classifier"))


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def test_fill_mask(folder, way):
    """Its `sequence` has no separator, H runs into L: the letter is `token_str`, the rest for `tok(H, L)`."""
    fill = pipeline("fill-mask", model=str(folder), **way)
    found = fill(f"{HEAVY[:50]}<mask>{HEAVY[51:]}<cls><cls>{LIGHT}", top_k=3)
    model, tokenizer = curr_ab.load(folder, device="cpu")
    encoded = tokenizer(f"{HEAVY[:50]}<mask>{HEAVY[51:]}", LIGHT, return_tensors="pt")
    with torch.no_grad():
        best = model(**encoded).logits[0, 51].softmax(-1).topk(3)
    assert [one["token"] for one in found] == best.indices.tolist()
    assert [one["score"] for one in found] == pytest.approx(best.values.tolist(), abs=1e-5)
    residue = next(one for one in found if one["token_str"].isalpha())  # a special token is not shown
    assert "".join(residue["sequence"].split()) == HEAVY[:50] + residue["token_str"] + HEAVY[51:] + LIGHT


def test_feature_extraction(folder, way):
    extract = pipeline("feature-extraction", model=str(folder), **way)
    states = torch.tensor(extract(f"{HEAVY}<cls><cls>{LIGHT}"))
    model, tokenizer = curr_ab.load(folder, head="none", device="cpu")
    with torch.no_grad():
        expected = model(**tokenizer(HEAVY, LIGHT, return_tensors="pt")).last_hidden_state
    assert torch.allclose(states, expected, atol=2e-5)


def test_text_classification(classifier, way):
    classify = pipeline("text-classification", model=str(classifier), **way)
    as_text = classify(f"{HEAVY}<cls><cls>{LIGHT}")
    as_pair = classify({"text": HEAVY, "text_pair": LIGHT})
    as_pair = as_pair[0] if isinstance(as_pair, list) else as_pair
    model, tokenizer = curr_ab.load(classifier, head="sequence-classification", device="cpu")
    with torch.no_grad():
        expected = model(**tokenizer(HEAVY, LIGHT, return_tensors="pt")).logits.softmax(-1).max().item()
    assert as_text[0]["score"] == pytest.approx(expected, abs=1e-5)
    assert as_pair["score"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.heavy
def test_trainer_with_the_collators_of_transformers(folder, way, tmp_path):
    """What the Trainer saves loads again, and as remote code it carries the code."""
    tokenizer = AutoTokenizer.from_pretrained(folder, **way)
    rows = [dict(tokenizer(heavy, light)) for heavy, light in PAIRS]
    options = {"max_steps": 3, "per_device_train_batch_size": 2, "report_to": "none", "use_cpu": True}
    masked = Trainer(
        AutoModelForMaskedLM.from_pretrained(folder, **way),
        TrainingArguments(str(tmp_path / "masked"), learning_rate=1e-2, **options),
        DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
        Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    masked.train()
    labels = [{**row, "labels": number % 2} for number, row in enumerate(rows)]
    classes = Trainer(
        AutoModelForSequenceClassification.from_pretrained(folder, **way),
        TrainingArguments(str(tmp_path / "classes"), **options),
        DataCollatorWithPadding(tokenizer),
        Dataset.from_list(labels),
        processing_class=tokenizer,
    )
    classes.train()
    again = tmp_path / "masked" / "checkpoint-3"
    before, after = (AutoModelForMaskedLM.from_pretrained(one, **way) for one in (folder, again))
    key = "esm.encoder.layer.1.intermediate.dense.weight"
    assert not torch.equal(before.state_dict()[key], after.state_dict()[key])
    assert torch.equal(masked.model.state_dict()[key], after.state_dict()[key])
    assert (again / "modeling_curr_ab.py").exists() is bool(way)
    assert AutoTokenizer.from_pretrained(again, **way)(HEAVY, LIGHT) == tokenizer(HEAVY, LIGHT)
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "classes" / "checkpoint-3", **way)


@pytest.mark.heavy
def test_export(folder, way):
    """One program for every number of pairs and every length."""
    model = AutoModelForMaskedLM.from_pretrained(folder, **way).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, **way)
    batch = dict(tokenizer(PAIRS[:2], padding=True, return_tensors="pt"))
    free = {0: torch.export.Dim("pairs"), 1: torch.export.Dim("tokens", max=320)}
    with torch.no_grad():
        program = torch.export.export(
            model, (), batch, dynamic_shapes=dict.fromkeys(batch, free), strict=False
        )
        other = dict(tokenizer([(HEAVY[:90], LIGHT[:80])] * 3, return_tensors="pt"))
        assert torch.allclose(program.module()(**other).logits, model(**other).logits, atol=1e-4)


def test_peft_on_stock(folder, tmp_path):
    def base():
        return AutoModelForSequenceClassification.from_pretrained(folder)

    torch.manual_seed(0)
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], init_lora_weights=False)
    tuned = get_peft_model(base(), config).eval()
    tuned.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(base(), tmp_path).eval()
    encoded = AutoTokenizer.from_pretrained(folder)(HEAVY, LIGHT, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(tuned(**encoded).logits, again(**encoded).logits)
        assert not torch.allclose(tuned(**encoded).logits, base().eval()(**encoded).logits)


def test_the_call_of_amulety(folder):
    """`amulety embed --model custom`: one text, padded to a fixed length, a float mask, a mean of all tokens.

    Its mean has the special tokens in it, ours has not: the same states, pooled in another way.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    texts = [f"{heavy}<cls><cls>{light}" for heavy, light in PAIRS]
    options = {"padding": "max_length", "truncation": True, "max_length": 320}
    ids = torch.tensor([tokenizer.encode(text, return_special_tokens_mask=True, **options) for text in texts])
    mask = (ids != tokenizer.pad_token_id).float()
    with torch.no_grad():
        states = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
    theirs = torch.stack([one[row == 1].mean(0) for one, row in zip(states, mask, strict=True)])

    ours, own = curr_ab.load(folder, head="none", device="cpu")
    for pair, mean in zip(PAIRS, theirs, strict=True):
        encoded = own(*pair, return_tensors="pt")
        with torch.no_grad():
            every = ours(**encoded).last_hidden_state[0]
        assert torch.allclose(mean, every.mean(0), atol=2e-5)
    for number, array in enumerate(embed(ours, own, PAIRS)):
        heavy, light = map(len, PAIRS[number])
        residues = torch.cat([states[number, 1 : heavy + 1], states[number, heavy + 3 : heavy + 3 + light]])
        assert torch.allclose(torch.as_tensor(array), residues.mean(0), atol=2e-5)
