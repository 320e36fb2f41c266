"""Same weights, same numbers: our implementation against transformers' ESM."""

import pytest
import torch
from support.tiny_models import FACEBOOK, PUBLISHED, masked_batch, pack, shake, stock_twin, tiny_config
from transformers import EsmForTokenClassification

from curr_ab import CurrAbForMaskedLM, CurrAbForTokenClassification
from curr_ab.family import SIZES

KINDS = {"published": PUBLISHED, "facebook": FACEBOOK}
# Depth is what costs; two layers of the wide shapes hold everything that a layer can do.
DEPTH = {"8M": 6, "35M": 6, "150M": 3, "350M": 2, "650M": 2}


LARGE = [size.name for size in SIZES[2:]]  # two or three of their layers take seconds


@pytest.fixture(
    params=[
        pytest.param(size.name, marks=[pytest.mark.heavy] if size.name in LARGE else []) for size in SIZES
    ]
)
def size(request):
    return next(size for size in SIZES if size.name == request.param)


@pytest.fixture(params=KINDS)
def twins(request, size):
    """One of the five shapes, and stock ESM with its weights."""
    torch.manual_seed(0)
    config = tiny_config(
        hidden_size=size.hidden_size,
        num_hidden_layers=DEPTH[size.name],
        initializer_range=0.02,
        **KINDS[request.param],
    )
    model = shake(CurrAbForMaskedLM(config)).eval()
    return model, stock_twin(model)


@pytest.mark.heavy
@pytest.mark.parametrize("masked", [False, True])
def test_logits_padded_unpadded_and_packed(twins, batch, rows, masked):
    model, stock = twins
    input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
    if masked:
        input_ids, _ = masked_batch(input_ids)
        rows = [row[mask.bool()] for row, mask in zip(input_ids, attention_mask, strict=True)]
    real = attention_mask.bool()
    with torch.no_grad():
        expected = stock(input_ids, attention_mask=attention_mask).logits
        assert expected[real].std() > 0.3  # weights at rest would make any two models agree

        padded = model(input_ids, attention_mask=attention_mask).logits
        assert (padded - expected)[real].abs().max() <= 2e-5
        without_mask = model(input_ids).logits
        assert torch.equal(without_mask[real], padded[real])

        packed = model(**pack(rows)).logits[0].split([len(row) for row in rows])
        for row, ours in zip(rows, packed, strict=True):
            alone = stock(row[None]).logits[0]
            assert (model(row[None]).logits[0] - alone).abs().max() <= 2e-5
            assert (ours - alone).abs().max() <= 2e-5


@pytest.mark.heavy
def test_loss_and_gradients(twins, batch):
    model, stock = twins
    input_ids, labels = masked_batch(batch["input_ids"])
    losses = []
    for each in twins:
        loss = each(input_ids, attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
    theirs = dict(stock.named_parameters())
    for name, parameter in model.named_parameters():
        if name.startswith("esm.contact_head"):
            assert parameter.grad is None
        else:
            difference = (parameter.grad - theirs[name].grad).abs().max()
            assert difference <= 2e-5 * max(1.0, theirs[name].grad.abs().max().item()), name


def test_dropout_in_training_is_that_of_stock(batch):
    """The same seed drops the same numbers: attention, both residual outputs, and the token head."""
    model = shake(CurrAbForTokenClassification(tiny_config(num_labels=4)))
    stock = stock_twin(model, EsmForTokenClassification)
    real = batch["attention_mask"].bool()
    for each in (model, stock):
        each.set_attn_implementation("eager")
        each.train()
    torch.manual_seed(1)
    ours = model(**batch).logits[real]
    torch.manual_seed(1)
    assert (ours - stock(**batch).logits[real]).abs().max() <= 2e-5
    assert (ours - model.eval()(**batch).logits[real]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_and_attentions(kind, batch):
    model = shake(CurrAbForMaskedLM(tiny_config(**KINDS[kind]))).eval()
    stock = stock_twin(model)
    stock.set_attn_implementation("eager")
    wanted = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        ours, theirs = model(**batch, **wanted), stock(**batch, **wanted)
    real = batch["attention_mask"].bool()
    assert len(ours.hidden_states) == len(theirs.hidden_states) == 3
    for mine, reference in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        assert (mine - reference)[real].abs().max() <= 2e-5
    assert len(ours.attentions) == len(theirs.attentions) == 2
    for mine, reference in zip(ours.attentions, theirs.attentions, strict=True):
        rows_of_real_queries = real[:, None, :].expand(-1, mine.shape[1], -1)
        assert (mine - reference)[rows_of_real_queries].abs().max() <= 2e-5
    assert torch.equal(model(**batch, return_dict=False)[0], model(**batch).logits)


def test_causal_model_equals_stock_decoder(rows):
    model = shake(CurrAbForMaskedLM(tiny_config(is_decoder=True))).eval()
    stock = stock_twin(model)
    row = rows[0][None]
    with torch.no_grad():
        expected = stock(row).logits
        assert (model(row).logits - expected).abs().max() <= 2e-5
        changed = row.clone()
        changed[0, 100] = 5
        assert torch.equal(model(changed).logits[0, :100], model(row).logits[0, :100])
        packed = model(**pack(rows)).logits[0, : len(rows[0])]
        assert (packed - expected[0]).abs().max() <= 2e-5
        padded = torch.cat([torch.full((1, 9), 1), row], dim=1)  # padding on the left has no key of its own
        assert (model(padded).logits[:, 9:] - expected).abs().max() <= 2e-5


def test_bfloat16_is_as_close_as_stock(batch):
    model = shake(CurrAbForMaskedLM(tiny_config())).eval()
    stock = stock_twin(model)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        exact = model(**batch).logits[real]
        theirs = (stock.bfloat16()(**batch).logits[real].float() - exact).abs().mean()
        ours = (model.bfloat16()(**batch).logits[real].float() - exact).abs().mean()
    assert ours <= 1.2 * theirs
    assert ours < 0.05 * exact.std()
