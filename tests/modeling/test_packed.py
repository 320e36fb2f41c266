"""Several pairs in one row: the same numbers as each alone, and nothing crosses."""

import pytest
import torch
from support.tiny_models import FACEBOOK, PUBLISHED, masked_batch, pack, shake, tiny_config
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from curr_ab import CurrAbForMaskedLM, CurrAbForSequenceClassification
from curr_ab.modeling import modeling_curr_ab

IMPLEMENTATIONS = ["eager", "sdpa", "flash_reference"]


def flash_reference(
    module, query, key, value, attention_mask, dropout=0.0, scaling=1.0, cu_seq_lens_q=None, **kwargs
):
    """What a flash kernel does, in plain torch: a mask [B, S] or the boundaries of packed sequences."""
    batch, heads, tokens, dim = query.shape
    if cu_seq_lens_q is None:
        keys = None if attention_mask is None else attention_mask[:, None, None].bool()
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, keys, scale=scaling)
        return out.transpose(1, 2), None
    assert attention_mask is None
    flat = [x.transpose(1, 2).reshape(batch * tokens, heads, dim) for x in (query, key, value)]
    pieces = []
    for start, end in cu_seq_lens_q.unfold(0, 2, 1).tolist():
        q, k, v = (x[start:end].transpose(0, 1)[None] for x in flat)
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scaling)
        pieces.append(out[0].transpose(0, 1))
    return torch.cat(pieces).view(batch, tokens, heads, dim), None


@pytest.fixture(params=IMPLEMENTATIONS)
def packed_model(request, monkeypatch):
    """A model with each attention implementation that runs here, with token dropout to be kept apart too."""
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_reference", flash_reference)
    model = shake(CurrAbForMaskedLM(tiny_config(**FACEBOOK))).eval()
    model.config._attn_implementation = request.param
    return model


def logits_of_pairs(model, rows, **extra):
    with torch.no_grad():
        return model(**pack(rows), **extra).logits[0].split([len(row) for row in rows])


@torch.no_grad()
def test_packed_equals_single(packed_model, rows):
    rows = [masked_batch(row[None], seed=index)[0][0] for index, row in enumerate(rows)]
    for row, packed in zip(rows, logits_of_pairs(packed_model, rows), strict=True):
        assert (packed - packed_model(row[None]).logits[0]).abs().max() <= 1e-5


def crossing(model, rows):
    """Largest change in the other pairs when one residue, or the number of masks, of one pair changes."""
    changed = [row.clone() for row in rows]
    changed[1][20:40] = 32
    before, after = logits_of_pairs(model, rows), logits_of_pairs(model, changed)
    assert (before[1] - after[1]).abs().max() > 1e-2
    others = [index for index in range(len(rows)) if index != 1]
    return max((before[index] - after[index]).abs().max().item() for index in others)


@pytest.mark.heavy
def test_one_pair_does_not_reach_the_others(packed_model, rows):
    assert crossing(packed_model, rows) == 0


@pytest.mark.heavy
def test_the_test_above_sees_a_leak(packed_model, rows, monkeypatch):
    monkeypatch.setattr(modeling_curr_ab, "attention_mask_for", lambda *args: (None, {}))
    monkeypatch.setattr(
        modeling_curr_ab.TokenLayout, "spans", lambda self, shape, device: torch.tensor([[0, shape[1]]])
    )
    assert crossing(packed_model, rows) > 1e-3


def test_token_dropout_of_one_pair_does_not_reach_the_others(rows, monkeypatch):
    """With the attention kept apart, the share of masked tokens alone could still leak."""
    model = shake(CurrAbForMaskedLM(tiny_config(**FACEBOOK))).eval()
    whole_row = modeling_curr_ab.CurrAbEmbeddings.forward

    def per_row(self, input_ids, layout):
        return whole_row(self, input_ids, layout._replace(pair=None))

    assert crossing(model, rows) == 0
    monkeypatch.setattr(modeling_curr_ab.CurrAbEmbeddings, "forward", per_row)
    assert crossing(model, rows) > 1e-3


@torch.no_grad()
@pytest.mark.heavy
def test_packed_rows_with_padding_at_the_end(packed_model, rows):
    """Two packed rows of different lengths: the shorter is padded, and its padding is nobody's."""
    packs = [pack(rows[:2]), pack(rows[2:])]
    width = max(each["input_ids"].shape[1] for each in packs) + 7
    padded = {
        key: torch.cat(
            [torch.nn.functional.pad(p[key], (0, width - p[key].shape[1]), value=fill) for p in packs]
        )
        for key, fill in {"input_ids": 1, "position_ids": 0}.items()
    }
    together = packed_model(**padded).logits
    for row, each in enumerate(packs):
        alone = packed_model(**each).logits[0]
        assert (together[row, : len(alone)] - alone).abs().max() <= 1e-5
    assert together.isfinite().all()

    classifier = shake(CurrAbForSequenceClassification(tiny_config())).eval()
    alone = torch.cat([classifier(row[None]).logits for row in rows])
    assert (classifier(**padded).logits - alone).abs().max() <= 1e-5  # padding is no fifth pair


@torch.no_grad()
def test_boundaries_given_by_the_caller(rows, monkeypatch):
    """A data loader that knows the boundaries hands them to the flash kernel as they are."""
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_reference", flash_reference)
    model = shake(CurrAbForMaskedLM(tiny_config(**PUBLISHED))).eval()
    expected = logits_of_pairs(model, rows)
    model.config._attn_implementation = "flash_reference"
    lengths = torch.tensor([0, *(len(row) for row in rows)])
    boundaries = lengths.cumsum(0).to(torch.int32)
    given = {"cu_seq_lens_q": boundaries, "cu_seq_lens_k": boundaries}
    given |= {"max_length_q": int(lengths.max()), "max_length_k": int(lengths.max())}
    for packed, alone in zip(logits_of_pairs(model, rows, **given), expected, strict=True):
        assert (packed - alone).abs().max() <= 1e-5
    with pytest.raises(ValueError, match="position_ids"):
        model(rows[0][None], **given)


def test_packed_gradients_equal_those_of_single_pairs(rows):
    model = shake(CurrAbForMaskedLM(tiny_config())).eval()
    masked = [masked_batch(row[None], seed=index) for index, row in enumerate(rows)]
    labels = torch.cat([row_labels[0] for _, row_labels in masked])[None]
    model(**pack([ids[0] for ids, _ in masked]), labels=labels).loss.backward()
    packed = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    num_masked = (labels != -100).sum()
    for ids, row_labels in masked:
        share = (row_labels != -100).sum() / num_masked
        (model(ids, labels=row_labels).loss * share).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.allclose(packed[name], parameter.grad, atol=1e-5, rtol=1e-4), name
