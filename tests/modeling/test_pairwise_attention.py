"""Attention pair by pair: the numbers and gradients of attention spelled out, with dropout and without."""

import itertools

import pytest
import torch
from support.tiny_models import masked_batch, pack, shake, stock_twin, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.modeling import modeling_curr_ab, pairwise_attention
from curr_ab.modeling.pairwise_attention import rotate
from curr_ab.modeling.skip_dropout import dropped_elements

HEADS, DIM, SCALING = 2, 4, 0.37
SPANS = torch.tensor([[0, 5], [5, 11], [12, 13]])  # token 11 is padding, the last pair a single token


@pytest.fixture
def inputs():
    """Projections, cosines and sines of 13 tokens, in double precision."""
    torch.manual_seed(0)
    projected = torch.randn(1, 13, 3, HEADS, DIM, dtype=torch.float64, requires_grad=True)
    angles = torch.randn(1, 13, 1, 1, DIM // 2, dtype=torch.float64).repeat(1, 1, 1, 1, 2)
    return projected, angles.cos(), angles.sin()


def spelled_out(projected, cos, sin, dropout, causal):
    """Each span by itself, with autograd; dropout draws the elements in the order of the spans."""
    query, key = rotate(projected[0, :, :2], cos[0], sin[0]).unbind(dim=1)
    context = torch.zeros_like(query)
    for start, end in SPANS.tolist():
        q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, projected[0, :, 2]))
        scores = q @ k.transpose(1, 2) * SCALING
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        weights = scores.softmax(dim=-1)
        if dropout:
            kept = torch.ones(weights.numel(), dtype=weights.dtype)
            kept[dropped_elements(weights.numel(), dropout)] = 0
            weights = weights * kept.view(weights.shape) / (1 - dropout)
        context[start:end] = (weights @ v).transpose(0, 1)
    return context


@pytest.mark.heavy
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_numbers_and_gradients(inputs, dropout, causal):
    def attend(projected):
        torch.manual_seed(1)
        return pairwise_attention.pairwise_attention(projected, *inputs[1:], SPANS, SCALING, dropout, causal)

    torch.manual_seed(1)
    expected = spelled_out(*inputs, dropout, causal)
    context = attend(inputs[0])
    assert torch.allclose(context, expected, atol=1e-12)
    assert context[11].eq(0).all()
    upstream = torch.randn_like(expected)
    (grad,) = torch.autograd.grad(context, inputs[0], upstream)
    (expected_grad,) = torch.autograd.grad(expected, inputs[0], upstream)
    assert torch.allclose(grad, expected_grad, atol=1e-12)
    assert torch.autograd.gradcheck(attend, inputs[0])


@pytest.mark.parametrize("size", [1, 300])
def test_without_a_gradient_the_numbers_are_the_same(inputs, size):
    """Also where powers of two of the scores are beyond all numbers."""
    with torch.no_grad():
        projected = inputs[0] * torch.tensor([size, size, 1.0]).double()[:, None, None]
        expected = spelled_out(projected, *inputs[1:], 0.0, False)
        context = pairwise_attention.pairwise_attention(projected, *inputs[1:], SPANS, SCALING)
    assert torch.allclose(context, expected, atol=1e-12)


@pytest.mark.heavy
def test_dropout_keeps_the_expectation(inputs):
    torch.manual_seed(2)
    attend = pairwise_attention.pairwise_attention
    with torch.no_grad():
        exact = attend(*inputs, SPANS, SCALING)
        drawn = torch.stack([attend(*inputs, SPANS, SCALING, 0.3) for _ in range(4000)])
    error = drawn.std(dim=0) / len(drawn) ** 0.5
    assert ((drawn.mean(dim=0) - exact).abs() <= 5 * error + 1e-9).all()
    assert drawn.std(dim=0)[0].min() > 0.01


@pytest.fixture
def calls(monkeypatch):
    """The spans of each call of the pairwise attention."""
    seen = []
    run = pairwise_attention.pairwise_attention

    def spy(projected, cos, sin, spans, *args):
        seen.append(spans.tolist())
        return run(projected, cos, sin, spans, *args)

    monkeypatch.setattr(modeling_curr_ab, "pairwise_attention", spy)
    return seen


def spans_of(rows):
    ends = torch.tensor([0, *map(len, rows)]).cumsum(0).tolist()
    return [list(span) for span in itertools.pairwise(ends)]


@torch.no_grad()
def test_spans_are_the_real_tokens_of_each_pair(model, batch, rows, calls):
    model(**pack(rows))
    assert calls.pop() == spans_of(rows)
    model(rows[0][None])
    assert calls.pop() == [[0, len(rows[0])]]
    width = batch["input_ids"].shape[1]
    model(**batch)
    assert calls.pop() == [[number * width, number * width + len(row)] for number, row in enumerate(rows)]
    left = torch.nn.functional.pad(rows[0], (7, 0), value=1)[None]
    model(left)
    assert calls.pop() == [[7, left.shape[1]]]
    model(torch.full((1, 9), 1))
    assert calls.pop() == []  # nothing but padding


@torch.no_grad()
def test_padding_inside_a_pair_takes_the_mask(model, rows, calls):
    """Tokens of one pair that do not lie side by side are no span."""
    row = rows[0][None]
    attention_mask = torch.ones_like(row)
    attention_mask[0, 50:60] = 0
    ours = model(row, attention_mask=attention_mask).logits
    assert calls == []
    stock = stock_twin(model)
    real = attention_mask.bool()
    # Stock ESM shifts no position at a hole either: the same pair, with ten keys out of sight.
    assert (ours - stock(row, attention_mask=attention_mask).logits)[real].abs().max() <= 2e-5


@pytest.mark.heavy
@torch.no_grad()
def test_eager_and_compiled_code_take_the_mask(model, rows, calls):
    model.set_attn_implementation("eager")
    model(**pack(rows))
    model.set_attn_implementation("sdpa")
    torch.compiler.reset()
    torch.compile(model, fullgraph=True, backend="eager")(**pack(rows))
    assert calls == []


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's own, inside the compiler
def test_compiled_layers_leave_it_out_and_take_any_length(rows):
    """Layers compiled one by one, as in training, agree, and other lengths compile nothing anew."""
    from torch._dynamo.testing import CompileCounter

    torch.compiler.reset()
    model = shake(CurrAbForMaskedLM(tiny_config())).eval()
    batches = [pack(rows[:2]), pack(rows), pack(rows[1:]), pack(rows[2:])]
    expected = [model(**batch).logits for batch in batches]
    counter, graphs = CompileCounter(), []
    for layer in model.esm.encoder.layer:
        layer.compile(backend=counter)
    for batch, logits in zip(batches, expected, strict=True):
        assert (model(**batch).logits - logits).abs().max() <= 1e-5
        graphs.append(counter.frame_count)
    assert graphs[0] and graphs[1] == graphs[-1]  # the second tells the compiler that lengths vary


def train_once(model, rows, seed=5):
    ids, labels = masked_batch(torch.cat(rows)[None])
    torch.manual_seed(seed)
    model.train().zero_grad()
    loss = model(**{**pack(rows), "input_ids": ids}, labels=labels).loss
    loss.backward()
    return loss.item(), [p.grad.clone() for p in model.parameters() if p.requires_grad]


@pytest.mark.heavy
def test_training_with_dropout_repeats_from_the_seed(rows, calls):
    """Resuming restores the seed's state; checkpointing draws the forward's numbers once more."""
    model = shake(CurrAbForMaskedLM(tiny_config()))
    loss, gradients = train_once(model, rows)
    assert calls
    again, same = train_once(model, rows)
    assert again == loss and all(torch.equal(a, b) for a, b in zip(gradients, same, strict=True))
    assert train_once(model, rows, seed=6)[0] != loss
    model.gradient_checkpointing_enable({"use_reentrant": False})
    checkpointed, same = train_once(model, rows)
    assert checkpointed == loss and all(torch.equal(a, b) for a, b in zip(gradients, same, strict=True))


@pytest.mark.heavy
def test_dropout_drops_as_often_as_the_reference(rows):
    """The random stream differs from the reference's, the spread of the loss must not."""
    model = shake(CurrAbForMaskedLM(tiny_config(num_hidden_layers=1))).train()
    ids, labels = masked_batch(rows[0][None])
    spread = {}
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        torch.manual_seed(0)
        with torch.no_grad():
            losses = torch.stack([model(ids, labels=labels).loss for _ in range(600)])
        spread[implementation] = losses.mean().item(), losses.std().item()
    (mean, std), (our_mean, our_std) = spread["eager"], spread["sdpa"]
    assert abs(our_mean - mean) < 5 * std * (2 / 600) ** 0.5
    assert our_std == pytest.approx(std, rel=0.15)


def test_bfloat16_training_is_close_to_single_precision(rows):
    model = shake(CurrAbForMaskedLM(tiny_config(attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)))
    _, exact = train_once(model, rows)
    with torch.autocast("cpu", torch.bfloat16):
        _, ours = train_once(model, rows)
    model.set_attn_implementation("eager")
    with torch.autocast("cpu", torch.bfloat16):
        _, reference = train_once(model, rows)

    def error(gradients):
        return sum(((a - b) ** 2).sum() for a, b in zip(gradients, exact, strict=True)) ** 0.5

    assert error(ours) <= 1.2 * error(reference)


@torch.no_grad()
def test_inference_keeps_no_weights(model, rows, monkeypatch):
    """Without gradients the memory is that of one pair, not of the batch."""
    kept = []
    save = pairwise_attention._PairwiseAttention.forward

    def spy(ctx, *args):
        out = save(ctx, *args)
        kept.append(len(ctx.to_save))
        return out

    monkeypatch.setattr(pairwise_attention._PairwiseAttention, "forward", staticmethod(spy))
    model(**pack(rows))
    assert set(kept) == {2}  # cosines and sines
