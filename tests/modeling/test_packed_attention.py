"""Torch's flash kernel in place of `sdpa` on packed rows: the same numbers, the right arguments, no waiting.

No GPU is needed: a kernel for CPUs is put in behind torch's operation; schema and gradients are torch's own.
"""

import pytest
import torch
from support.flash_kernel import flash_kernel
from support.tiny_models import FACEBOOK, masked_batch, pack, shake, tiny_config
from torch.nn import functional as F

from curr_ab import CurrAbForCausalLM, CurrAbForMaskedLM
from curr_ab.modeling import modeling_curr_ab, packed_attention
from tests.training.test_transfer import CountWaits

DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.1}
CAUSAL = {"is_decoder": True, "token_dropout": False}


@pytest.fixture
def kernel(monkeypatch):
    """A CPU that takes packed rows as a GPU does."""
    monkeypatch.setattr(modeling_curr_ab, "why_not_packed", lambda device, dtype, head_size: None)
    with flash_kernel() as kernel:
        yield kernel


def model_of(head_size=24, model_class=CurrAbForMaskedLM, **overrides):
    return shake(model_class(tiny_config(hidden_size=4 * head_size, intermediate_size=160, **overrides)))


def boundaries_of(rows):
    lengths = [len(row) for row in rows]
    boundaries = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return {
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


def masked(rows):
    return [masked_batch(row[None], seed=number)[0][0] for number, row in enumerate(rows)]


def logits_and_gradients(model, **inputs):
    model.zero_grad()
    logits = model(**inputs).logits
    logits.float().square().mean().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("head_size", "model_class", "overrides"),
    [
        (16, CurrAbForMaskedLM, FACEBOOK),
        (24, CurrAbForMaskedLM, {}),
        (32, CurrAbForCausalLM, CAUSAL),
    ],
)
def test_numbers_and_gradients_are_those_of_sdpa(rows, monkeypatch, told, head_size, model_class, overrides):
    model = model_of(head_size, model_class, **overrides).eval()
    rows = masked(rows)
    inputs = pack(rows) | (boundaries_of(rows) if told else {})
    expected, gradients = logits_and_gradients(model, **inputs)
    monkeypatch.setattr(modeling_curr_ab, "why_not_packed", lambda device, dtype, head_size: None)
    with flash_kernel() as kernel:
        found, own = logits_and_gradients(model, **inputs)
    layers = model.config.num_hidden_layers
    assert len(kernel.calls) == kernel.backward_calls == layers
    assert {one["causal"] for one in kernel.calls} == {model.config.is_decoder}
    assert (found - expected).abs().max() <= 1e-5
    for name, gradient in gradients.items():
        assert torch.allclose(own[name], gradient, atol=1e-6, rtol=1e-4), name


def test_one_pair_does_not_reach_the_others(rows, kernel):
    model = model_of().eval()

    def of_pairs(rows):
        with torch.no_grad():
            logits = model(**pack(rows), **boundaries_of(rows)).logits[0]
        return logits.split([len(row) for row in rows])

    changed = [row.clone() for row in rows]
    changed[1][20:40] = 32
    before, after = of_pairs(rows), of_pairs(changed)
    assert len(kernel.calls) == 2 * model.config.num_hidden_layers
    assert (before[1] - after[1]).abs().max() > 1e-2
    assert all(torch.equal(before[one], after[one]) for one in range(len(rows)) if one != 1)


def test_several_packed_rows_with_padding(rows, kernel):
    """What is told of one row is not taken for two: boundaries are found in the positions."""
    model = model_of().eval()
    alone = [model(row[None]).logits[0] for row in rows[:3]]
    assert kernel.calls == []  # one pair in a row needs no boundaries
    first, second = pack(rows[:2]), pack(rows[2:3])
    missing = first["input_ids"].shape[1] - second["input_ids"].shape[1]
    together = {
        name: torch.cat([first[name], F.pad(second[name], (0, missing), value=fill)])
        for name, fill in {"input_ids": 1, "position_ids": 0}.items()
    }
    with torch.no_grad():
        logits = model(**together, **boundaries_of(rows[:3])).logits
    assert kernel.calls
    found = [*logits[0].split([len(row) for row in rows[:2]]), logits[1, : len(rows[2])]]
    for one, other in zip(found, alone, strict=True):
        assert (one - other).abs().max() <= 1e-5


def test_boundaries_told_in_part_are_no_reason_to_fail(rows, kernel):
    model = model_of().eval()
    with torch.no_grad():
        for some in (rows, rows[:1]):
            told = boundaries_of(some)
            in_part = {"cu_seq_lens_q": told["cu_seq_lens_q"]}
            found, expected = (model(**pack(some), **each).logits for each in (in_part, told))
            assert (found - expected).abs().max() <= 1e-5


def test_dropout_is_the_kernels_in_training_alone(rows, kernel, monkeypatch):
    model = model_of(**DROPOUT)
    inputs = pack(rows) | boundaries_of(rows)
    torch.manual_seed(3)
    first = model.train()(**inputs).logits
    assert {one["dropout"] for one in kernel.calls} == {0.1}
    torch.manual_seed(3)
    again = model(**inputs).logits
    other = model(**inputs).logits
    assert torch.equal(first, again) and not torch.equal(first, other)
    kernel.calls.clear()
    public = model.eval()(**inputs).logits
    monkeypatch.setattr(packed_attention, "HAS_PUBLIC_KERNEL", False)
    private = model(**inputs).logits
    assert {one["dropout"] for one in kernel.calls} == {0.0}
    assert torch.equal(public, private)


def test_without_dropout_the_public_name_is_called(rows, kernel, monkeypatch):
    from torch.nn.attention import varlen

    called = []

    def spy(*args, **options):
        called.append(options["window_size"])
        return varlen_attn(*args, **options)

    varlen_attn = varlen.varlen_attn
    monkeypatch.setattr(varlen, "varlen_attn", spy)
    inputs = pack(rows) | boundaries_of(rows)
    for model in (model_of(**DROPOUT), model_of(model_class=CurrAbForCausalLM, **CAUSAL)):
        model.eval()(**inputs)
    layers = model.config.num_hidden_layers
    expected = [(-1, -1)] * layers + [(-1, 0)] * layers
    assert called == (expected if packed_attention.HAS_PUBLIC_KERNEL else [])
    assert len(kernel.calls) == 2 * layers


def test_gradients_go_through_dropout(rows, kernel):
    """Against the limit of a difference, with the same elements dropped."""
    model = model_of(**DROPOUT).train()
    inputs = pack(rows[:2]) | boundaries_of(rows[:2])
    weight = model.esm.encoder.layer[0].attention.self.key.weight
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))

    def loss():
        torch.manual_seed(7)
        return model(**inputs).logits.square().mean()

    (gradient,) = torch.autograd.grad(loss(), weight)
    step, sides = 1e-2, []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * step * direction)
            sides.append(loss().item())
            weight.sub_(sign * step * direction)
    difference = (sides[0] - sides[1]) / (2 * step)
    assert difference == pytest.approx((gradient * direction).sum().item(), rel=1e-2)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_size", [16, 24, 32, 48, 64])
def test_the_real_operation_takes_the_call(monkeypatch, head_size, dtype, dropout):
    """On tensors without contents, where torch checks names, types and shapes, forward and backward."""
    monkeypatch.setattr(modeling_curr_ab, "why_not_packed", lambda device, dtype, head_size: None)
    reached = []
    flash = torch.ops.aten._flash_attention_forward

    def spy(*args, **options):
        reached.append(args[7])
        return flash(*args, **options)

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", spy)
    monkeypatch.setattr(packed_attention, "HAS_PUBLIC_KERNEL", False)
    with torch.device("meta"):
        model = CurrAbForMaskedLM(tiny_config(hidden_size=4 * head_size, **DROPOUT)).to(dtype)
        model.train(dropout > 0)
        ids = torch.zeros(1, 70, dtype=torch.long)
        boundaries = torch.zeros(3, dtype=torch.int32)
    told = {"cu_seq_lens_q": boundaries, "cu_seq_lens_k": boundaries, "max_length_q": 40, "max_length_k": 40}
    logits = model(input_ids=ids, position_ids=ids, **told).logits
    logits.sum().backward()
    assert reached == [dropout] * model.config.num_hidden_layers
    assert logits.shape == (1, 70, model.config.vocab_size) and logits.dtype == dtype
    query = model.esm.encoder.layer[0].attention.self.query.weight
    assert query.grad.shape == query.shape and query.grad.dtype == dtype


def test_the_schema_of_the_real_operation():
    """The names and the order that the call goes by; a torch that has others must fail here first."""
    schema = torch.ops.aten._flash_attention_forward.default._schema
    names = [argument.name for argument in schema.arguments]
    assert names[:5] == ["query", "key", "value", "cum_seq_q", "cum_seq_k"]
    assert names[5:10] == ["max_q", "max_k", "dropout_p", "is_causal", "return_debug_mask"]
    assert "scale" in names[10:] and schema.returns[0].name == "output"


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("num_rows", [1, 3])
def test_a_micro_batch_never_waits_for_the_device(rows, kernel, monkeypatch, dropout, num_rows):
    rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
    model = model_of(**rates).train()
    monkeypatch.setattr(modeling_curr_ab, "_is_pairwise", lambda *_: False)  # a GPU's dropout, not a CPU's
    inputs = pack(rows[:num_rows]) | boundaries_of(rows[:num_rows])
    answers = torch.arange(0, inputs["input_ids"].shape[1], 7)
    with CountWaits() as waits:
        logits = model(**inputs, output_positions=answers).logits
        F.cross_entropy(logits, torch.zeros(len(answers), dtype=torch.long)).backward()
    assert waits.found == []
    assert kernel.backward_calls == model.config.num_hidden_layers


@torch.no_grad()
def test_autocast_says_the_type_and_generation_goes_its_own_way(rows, monkeypatch):
    asked = []

    def note(device, dtype, head_size):
        asked.append((dtype, head_size))

    monkeypatch.setattr(modeling_curr_ab, "why_not_packed", note)
    model = model_of(32, CurrAbForCausalLM, **CAUSAL).eval()
    inputs = pack(rows[:2]) | boundaries_of(rows[:2])
    with flash_kernel(half_precision_alone=True) as kernel:
        with torch.autocast("cpu", torch.bfloat16):
            model(**inputs)
        assert asked == [(torch.bfloat16, 32)] and kernel.calls
        kernel.calls.clear()
        model.generate(rows[0][None, :20], max_new_tokens=2, do_sample=False)
        assert kernel.calls == []
        for other in ("eager", "flex_attention"):
            model.set_attn_implementation(other)
            asked.clear()
            if other == "eager":
                model(**inputs)
            assert asked == [] and kernel.calls == []


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's own, inside the compiler
@pytest.mark.heavy
def test_a_compiled_layer_holds_it_as_one_graph(rows, kernel):
    model = model_of(**DROPOUT).eval()
    inputs = pack(rows[:2]) | boundaries_of(rows[:2])
    expected, gradients = logits_and_gradients(model, **inputs)
    kernel.calls.clear()
    for layer in model.esm.encoder.layer:
        layer.compile(backend="aot_eager", fullgraph=True)
    found, own = logits_and_gradients(model, **inputs)
    assert len(kernel.calls) >= model.config.num_hidden_layers
    assert (found - expected).abs().max() <= 1e-5
    for name, gradient in gradients.items():
        assert torch.allclose(own[name], gradient, atol=1e-6, rtol=1e-4), name
