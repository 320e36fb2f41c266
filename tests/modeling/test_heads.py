"""Sequence and token heads: what they pool, what they lose, and what stock ESM does alike."""

import pytest
import torch
from support.tiny_models import pack, shake, stock_twin, tiny_config
from transformers import EsmForSequenceClassification, EsmForTokenClassification

from curr_ab import CurrAbForSequenceClassification, CurrAbForTokenClassification

SPECIALS = torch.tensor([0, 1, 2])


def classifier(pooling, **overrides):
    torch.manual_seed(0)
    return shake(
        CurrAbForSequenceClassification(tiny_config(classifier_pooling=pooling, num_labels=3, **overrides))
    ).eval()


def pooled_by_hand(model, row, chain=None):
    """Mean of the final states of the residues of one pair, or of one chain, spelled out."""
    states = model.esm(row[None]).last_hidden_state[0]
    separator = (row[1:] == 0).nonzero()[0].item() + 1
    places = [
        place
        for place, token in enumerate(row.tolist())
        if token not in SPECIALS and (chain is None or (place > separator) == (chain == "light"))
    ]
    return states[places].mean(dim=0)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "mean_per_chain"])
def test_pools_residues_and_no_special_token(pooling, rows, batch):
    model = classifier(pooling)
    chains = [None] if pooling == "mean" else ["heavy", "light"]
    features = torch.stack(
        [torch.cat([pooled_by_hand(model, row, chain) for chain in chains]) for row in rows]
    )
    expected = model.classifier(features)
    assert (model(**batch).logits - expected).abs().max() <= 1e-5
    assert (model(batch["input_ids"]).logits - expected).abs().max() <= 1e-5
    assert (model(**pack(rows)).logits - expected).abs().max() <= 1e-5
    assert expected.std() > 0.01


@torch.no_grad()
def test_chains_from_the_tokenizer_or_from_the_separator(tokenizer, rows):
    from support.tiny_models import PAIRS

    model = classifier("mean_per_chain")
    encoded = tokenizer(PAIRS, padding=True, return_tensors="pt", return_token_type_ids=True)
    told = model(**encoded).logits
    del encoded["token_type_ids"]
    assert torch.allclose(told, model(**encoded).logits, atol=1e-6)
    left = tokenizer(PAIRS, padding=True, padding_side="left", return_tensors="pt")
    assert torch.allclose(told, model(**left).logits, atol=1e-5)
    # A light chain alone looks like a heavy one: only the chain ids tell.
    light = tokenizer(light=[pair[1] for pair in PAIRS], padding=True, return_tensors="pt")
    as_light = torch.ones_like(light["input_ids"])
    assert (model(**light).logits - model(**light, token_type_ids=as_light).logits).abs().max() > 1e-3


@torch.no_grad()
def test_chains_with_a_single_cls_between_them(rows):
    model = classifier("mean_per_chain")
    single = []
    for row in rows:
        separator = (row[1:] == 0).nonzero()[0].item() + 1
        single.append(torch.cat([row[:separator], row[separator + 1 :]]))
    features = [
        torch.cat([pooled_by_hand(model, row, "heavy"), pooled_by_hand(model, row, "light")])
        for row in single
    ]
    expected = model.classifier(torch.stack(features))
    assert (model(**pack(single)).logits - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_cls_pooling_is_that_of_stock(batch, rows):
    model = classifier("cls")
    stock = stock_twin(model, EsmForSequenceClassification)
    expected = stock(**batch).logits
    assert (model(**batch).logits - expected).abs().max() <= 1e-5
    assert (model(**pack(rows)).logits - expected).abs().max() <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "mean_per_chain", "cls"])
def test_padding_on_either_side_and_rows_of_padding(pooling, tokenizer, rows, batch):
    from support.tiny_models import PAIRS

    model = classifier(pooling)
    expected = model(**batch).logits
    left = tokenizer(PAIRS, padding=True, padding_side="left", return_tensors="pt")
    assert left["input_ids"][0, 0] == 1
    assert (model(**left).logits - expected).abs().max() <= 1e-5
    packed = pack(rows)
    filled = {  # padding on the left, and a row of nothing else before and after
        "input_ids": [torch.nn.functional.pad(packed["input_ids"], (9, 0), value=1)],
        "position_ids": [torch.nn.functional.pad(packed["position_ids"], (9, 0))],
    }
    for key, filler in {"input_ids": torch.ones_like, "position_ids": torch.zeros_like}.items():
        nothing = filler(filled[key][0])
        filled[key] = torch.cat([nothing, *filled[key], nothing])
    assert (model(**filled).logits - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_a_head_trained_by_stock_keeps_its_pooling(tmp_path, batch):
    """Also where stock trained it on a checkpoint of the family, whose configuration says otherwise."""
    model = classifier("cls")
    stock = stock_twin(model, EsmForSequenceClassification)
    stock.config.classifier_pooling = "mean"
    stock.save_pretrained(tmp_path)
    ours, report = CurrAbForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert ours.pooling == "cls"
    assert (ours.eval()(**batch).logits - stock(**batch).logits).abs().max() <= 1e-5
    assert (
        CurrAbForSequenceClassification.from_pretrained(tmp_path, classifier_pooling="mean").pooling == "mean"
    )


SINGLE = (3, "single_label_classification", torch.tensor([0, 2, 1, 0]))
SEVERAL = (3, "multi_label_classification", torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]]))
NUMBER = (1, "regression", torch.tensor([0.5, -1.0, 2.0, 0.0]))
NUMBERS = (3, "regression", torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("num_labels", "problem", "labels", "named"),
    [
        *((*case, True) for case in (SINGLE, SEVERAL, NUMBER, NUMBERS)),
        # Several numbers look like several labels, so that case has to be named.
        *((*case, False) for case in (SINGLE, SEVERAL, NUMBER)),
    ],
)
@pytest.mark.heavy
def test_losses_equal_those_of_stock(num_labels, problem, labels, named, batch):
    torch.manual_seed(0)
    config = tiny_config(classifier_pooling="cls", num_labels=num_labels)
    model = shake(CurrAbForSequenceClassification(config)).eval()
    stock = stock_twin(model, EsmForSequenceClassification)
    for each in (model, stock):
        each.config.problem_type = problem if named else None
    expected = stock(**batch, labels=labels).loss
    assert model(**batch, labels=labels).loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert model.config.problem_type == (problem if named else None)


def test_token_labels_equal_those_of_stock(batch):
    model = shake(CurrAbForTokenClassification(tiny_config(num_labels=4))).eval()
    stock = stock_twin(model, EsmForTokenClassification)
    labels = batch["input_ids"] % 4
    labels = labels.masked_fill(torch.isin(batch["input_ids"], SPECIALS), -100)
    ours, theirs = model(**batch, labels=labels), stock(**batch, labels=labels)
    real = batch["attention_mask"].bool()
    assert (ours.logits - theirs.logits)[real].abs().max() <= 1e-5
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), abs=1e-5)


def test_pooling_needs_ids(model):
    with pytest.raises(ValueError, match="pooling needs input_ids"):
        classifier("mean")(inputs_embeds=torch.zeros(1, 5, 80))
