"""Inputs, options and refusals of the models."""

import copy

import pytest
import torch
import torch.nn.utils.prune
from support.tiny_models import FACEBOOK, PUBLISHED, masked_batch, pack, shake, stock_config, tiny_config
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from curr_ab import CurrAbConfig, CurrAbForMaskedLM, CurrAbForSequenceClassification, CurrAbModel
from curr_ab.modeling.configuration_curr_ab import AUTO_MAP


@pytest.fixture
def batches(batch, rows):
    """Every kind of input: with padding, without, and packed."""
    return {"padded": batch, "unpadded": {"input_ids": rows[0][None]}, "packed": pack(rows)}


@torch.no_grad()
def test_no_mask_is_built_where_nothing_is_padded(model, batch, rows, monkeypatch):
    seen = []

    def spy(module, query, key, value, attention_mask, **kwargs):
        seen.append(attention_mask)
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "spy", spy)
    model.config._attn_implementation = "spy"
    row = rows[0][None]
    model(row)
    model(row, attention_mask=torch.ones_like(row))
    model(row, position_ids=torch.arange(row.shape[1])[None])
    assert seen == [None] * 6
    model(**batch)
    assert seen[-1] is not None


def with_implementation(model, name):
    model.set_attn_implementation(name)
    assert model.config._attn_implementation == name  # transformers only logs where it refuses
    return model


@torch.no_grad()
@pytest.mark.heavy
def test_implementations_agree(model, batches):
    for name, inputs in batches.items():
        eager = with_implementation(model, "eager")(**inputs).logits
        sdpa = with_implementation(model, "sdpa")(**inputs).logits
        assert (sdpa - eager)[inputs["input_ids"] != 1].abs().max() <= 1e-5, name
        assert not torch.equal(sdpa, eager)  # two computations, not one done twice


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, inside the compiler
@torch.no_grad()
@pytest.mark.parametrize("kind", ["padded", "unpadded", "packed"])
def test_flex_attention_agrees(model, batches, kind):
    """Slow, because the kernel is compiled for the CPU."""
    torch.compiler.reset()
    inputs = batches[kind]
    expected = model(**inputs).logits
    flex = with_implementation(model, "flex_attention")(**inputs).logits
    assert (flex - expected)[inputs["input_ids"] != 1].abs().max() <= 1e-5
    assert not torch.equal(flex, expected)


@pytest.mark.heavy
@torch.no_grad()
@pytest.mark.parametrize("kind", [PUBLISHED, FACEBOOK])
def test_compiles_without_graph_breaks(kind, batches):
    model = shake(CurrAbForMaskedLM(tiny_config(**kind))).eval()
    for name, inputs in batches.items():
        torch.compiler.reset()
        expected = model(**inputs).logits
        # The graph is what could break; to run it as it was traced keeps the test short.
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        real = inputs["input_ids"] != 1
        assert (compiled(**inputs).logits - expected)[real].abs().max() <= 1e-5, name


@pytest.mark.heavy
@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "mean_per_chain", "cls"])
def test_sequence_head_compiles_without_graph_breaks(pooling, batch):
    torch.compiler.reset()
    model = shake(CurrAbForSequenceClassification(tiny_config(classifier_pooling=pooling))).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert (compiled(**batch).logits - model(**batch).logits).abs().max() <= 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, inside the compiler
def test_compiled_training_step_agrees(batch):
    model = shake(CurrAbForMaskedLM(tiny_config())).eval()
    input_ids, labels = masked_batch(batch["input_ids"])
    model(input_ids, labels=labels).loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    torch.compile(model, fullgraph=True)(input_ids, labels=labels).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.allclose(parameter.grad, expected[name], atol=1e-5, rtol=1e-3), name


def test_gradient_checkpointing_changes_no_gradient(batch):
    model = shake(CurrAbForMaskedLM(tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)))
    input_ids, labels = masked_batch(batch["input_ids"])
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train().zero_grad()
        model(input_ids, labels=labels).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    assert model.is_gradient_checkpointing
    assert all(torch.equal(plain, again) for plain, again in zip(*gradients, strict=True))


def test_every_trainable_parameter_gets_a_gradient(model, batch):
    input_ids, labels = masked_batch(batch["input_ids"])
    model(input_ids, labels=labels).loss.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {name for name, p in model.named_parameters() if not p.requires_grad}
    assert without == {"esm.contact_head.regression.weight", "esm.contact_head.regression.bias"}


def test_head_at_selected_positions_alone(model, batch, monkeypatch):
    input_ids, labels = masked_batch(batch["input_ids"])
    full = model(input_ids, labels=labels)
    chosen = labels != -100
    rows_seen = []
    model.lm_head.register_forward_pre_hook(lambda module, args: rows_seen.append(args[0].shape[0]))
    by_mask = model(input_ids, labels=labels, output_positions=chosen)
    by_index = model(input_ids, labels=labels, output_positions=chosen.flatten().nonzero().flatten())
    assert rows_seen == [chosen.sum()] * 2
    for part in (by_mask, by_index):
        assert (part.logits - full.logits[chosen]).abs().max() <= 1e-6
        assert part.loss.item() == pytest.approx(full.loss.item(), abs=1e-6)
    with_states = model(input_ids, output_positions=chosen, output_hidden_states=True)
    assert with_states.hidden_states[-1].shape[:2] == input_ids.shape  # the states are those of all tokens
    assert torch.allclose(with_states.logits, by_mask.logits, atol=1e-6)
    backwards = torch.tensor([7, 3])
    exact = copy.deepcopy(model).double()  # two rows have a kernel of their own, which rounds otherwise
    expected = exact(input_ids).logits[0, [7, 3]]
    assert torch.allclose(exact(input_ids, output_positions=backwards).logits, expected, rtol=0, atol=1e-12)


def test_last_layer_at_selected_positions_alone(batch):
    """What nobody reads is not computed, and no gradient is other than with all of it."""
    model = shake(CurrAbForMaskedLM(tiny_config())).eval()
    input_ids, labels = masked_batch(batch["input_ids"])
    rows_seen = []
    for layer in model.esm.encoder.layer:
        layer.intermediate.register_forward_pre_hook(
            lambda module, args: rows_seen.append(args[0].shape[:-1].numel())
        )
    gradients = []
    for positions in (None, labels != -100):
        model.zero_grad()
        model(input_ids, labels=labels, output_positions=positions).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    tokens, chosen = labels.numel(), int((labels != -100).sum())
    assert rows_seen == [tokens, tokens, tokens, chosen]
    for all_of_it, part in zip(*gradients, strict=True):
        assert torch.allclose(all_of_it, part, atol=1e-6, rtol=1e-4)


def test_embeddings_instead_of_ids(model, rows):
    row = rows[0][None]
    embedded = model.get_input_embeddings()(row)
    assert torch.equal(model(inputs_embeds=embedded).logits, model(row).logits)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(row, inputs_embeds=embedded)


def test_unusable_arguments_are_refused(model, rows):
    row = rows[0][None]
    with pytest.raises(TypeError, match="token_types"):
        model(row, token_types=row)
    with pytest.raises(ValueError, match=r"\[rows, tokens\]"):
        model(row, attention_mask=torch.ones(1, 1, row.shape[1], row.shape[1]))
    with pytest.raises(ValueError, match="no pooling layer"):
        CurrAbModel(model.config, add_pooling_layer=True)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("classifier_pooling", "max", "mean, mean_per_chain, cls"),
        ("position_embedding_type", "absolute", "ESM-1"),
        ("emb_layer_norm_before", True, "not part of ESM-2"),
        ("add_cross_attention", True, "not part of ESM-2"),
        ("hidden_size", 81, "multiple"),
        ("num_attention_heads", 16, "even number"),
    ],
)
def test_configurations_that_are_not_esm2_are_refused(field, value, reason):
    with pytest.raises(ValueError, match=reason):
        tiny_config(**{field: value})


def test_hooks_on_a_projection_are_called(model, rows):
    """Pruning, sharding and probing work through hooks; the fused product must not pass them by."""
    row = rows[0][None]
    expected = model(row).logits
    query = model.esm.encoder.layer[0].attention.self.query
    query.register_forward_hook(lambda module, args, output: output * 3)
    assert (model(row).logits - expected).abs().max() > 1e-3
    query._forward_hooks.clear()
    torch.nn.utils.prune.random_unstructured(query, "weight", 0.5)
    query.weight_orig.data.mul_(3)
    pruned = model(row).logits
    query.weight_orig.data.div_(3)
    assert (model(row).logits - pruned).abs().max() > 1e-3


@torch.no_grad()
def test_offloaded_weights(model, rows):
    from accelerate import cpu_offload

    expected = model(rows[0][None]).logits
    cpu_offload(model, torch.device("cpu"))
    assert model.esm.encoder.layer[0].attention.self.query.weight.device.type == "meta"
    assert (model(rows[0][None]).logits - expected).abs().max() <= 1e-6


def test_a_row_of_padding_spoils_nothing(rows):
    """Batches are filled up with such rows."""
    model = shake(CurrAbForMaskedLM(tiny_config(**FACEBOOK))).eval()
    row = masked_batch(rows[0][None])[0]
    filled = torch.cat([row, torch.ones_like(row)])
    labels = filled.masked_fill(filled != 32, -100)
    loss = model(filled, labels=labels).loss
    loss.backward()
    assert loss.item() == pytest.approx(model(row, labels=labels[:1]).loss.item(), abs=1e-5)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_wrong_positions_are_refused(model, batch):
    """A mask of 0 and 1 would be read as indices."""
    mask = (batch["input_ids"] == 4).long()
    for wrong in (mask, mask[0].bool()):
        with pytest.raises(ValueError, match="boolean mask"):
            model(**batch, output_positions=wrong)


def test_tuples_where_the_configuration_asks_for_them(batch):
    for model_class in (CurrAbForMaskedLM, CurrAbForSequenceClassification):
        model = model_class(tiny_config()).eval()
        expected = model(**batch).logits
        model.config.return_dict = False
        assert torch.equal(model(**batch)[0], expected)


def test_bare_esm_config_is_completed():
    """The published configurations were made that way; the ids in it are null."""
    from transformers import EsmConfig

    bare = EsmConfig(vocab_size=33, position_embedding_type="rotary").to_dict()
    config = CurrAbConfig.from_dict(bare)
    ids = (config.bos_token_id, config.pad_token_id, config.eos_token_id, config.mask_token_id)
    assert ids == (0, 1, 2, 32)


def test_config_without_arguments_is_the_smallest_member():
    from curr_ab import member

    assert CurrAbConfig().to_dict() == CurrAbConfig(**member("8M-F").config()).to_dict()


def test_config_reads_what_stock_wrote(tmp_path):
    stock = stock_config(tiny_config(**FACEBOOK))
    stock.save_pretrained(tmp_path)
    ours = CurrAbConfig.from_pretrained(tmp_path)
    assert ours.token_dropout is True
    assert ours.layer_norm_eps == 1e-5
    assert ours.bos_token_id == 0 and ours.eos_token_id == 2
    assert ours.auto_map == AUTO_MAP


def test_lora_is_applied_through_the_fused_projection(batch):
    from peft import LoraConfig, get_peft_model

    model = shake(CurrAbForSequenceClassification(tiny_config())).eval()
    before = model(**batch).logits
    lora = LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    adapted = get_peft_model(model, lora)
    assert (adapted(**batch).logits - before).abs().max() > 1e-3
    with adapted.disable_adapter():
        assert (adapted(**batch).logits - before).abs().max() <= 1e-6
