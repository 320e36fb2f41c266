"""One step: the mean over the whole batch, a gradient for every parameter, optimisers and schedules."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch.nn import functional as F

from curr_ab.modeling.modeling_curr_ab import CurrAbLayer
from curr_ab.pretraining.batches import TrainingData
from curr_ab.pretraining.model import build_config, build_model
from curr_ab.pretraining.step import build_optimizers, learning_rate, summed_loss, training_step


@pytest.fixture
def accelerator():
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


def gradients(model, batches):
    model.zero_grad()
    for batch in batches.micro_batches:
        (summed_loss(model, batch) / batches.num_targets).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.heavy
@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_the_gradient_is_that_of_the_mean_loss_however_the_batch_is_cut(make_plan, objective):
    plan = make_plan(objective=objective)
    model, data = build_model(plan, "sdpa").eval(), TrainingData(plan)
    whole = gradients(model, data.step(0, 0, 1, 1))
    cut = gradients(model, data.step(0, 0, 1, 8))
    shared = [gradients(model, data.step(0, rank, 2, 2)) for rank in range(2)]
    for name, gradient in whole.items():
        scale = gradient.abs().max()
        assert (cut[name] - gradient).abs().max() <= 1e-5 * scale
        assert (shared[0][name] + shared[1][name] - gradient).abs().max() <= 1e-5 * scale


@pytest.mark.heavy
@pytest.mark.parametrize("objective", ["mlm", "clm"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_trainable_parameter(make_plan, objective, checkpointing):
    plan = make_plan(objective=objective, activation_checkpointing=checkpointing)
    model = build_model(plan, "sdpa")
    found = gradients(model, TrainingData(plan).step(0, 0, 1, 2))
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name, gradient in found.items() if gradient.abs().max() > 0} == trainable
    frozen = {name for name, _ in model.named_parameters()} - trainable
    assert frozen and all("contact_head" in name for name in frozen)  # on purpose: it has no part in any loss


def test_the_loss_is_the_published_one(make_plan, tokenizer):
    """Packed, with the head on masked positions: the same number as a padded batch gives with all of it."""
    plan = make_plan()
    model = build_model(plan, "sdpa").eval()
    batches = TrainingData(plan).step(0, 0, 1, 2)
    total = padded_total = 0.0
    for batch in batches.micro_batches:
        total += float(summed_loss(model, batch).detach())
        inputs = batch.model_inputs
        bounds = inputs["cu_seq_lens_q"].tolist()
        labels = torch.full_like(inputs["input_ids"][0], -100)
        labels[inputs["output_positions"]] = batch.targets
        spans = list(pairwise(bounds))
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad([inputs["input_ids"][0, a:b] for a, b in spans], batch_first=True, padding_value=1)
        padded_labels = pad([labels[a:b] for a, b in spans], batch_first=True, padding_value=-100)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=(ids != 1).long()).logits
        padded_total += float(F.cross_entropy(logits.flatten(0, 1), padded_labels.flatten(), reduction="sum"))
    assert total == pytest.approx(padded_total, rel=1e-5)


def test_a_causal_model_cannot_see_what_it_is_asked(make_plan):
    plan = make_plan(objective="clm")
    model = build_model(plan, "sdpa").eval()
    batch = TrainingData(plan).step(0, 0, 1, 1).micro_batches[0]
    ids = batch.model_inputs["input_ids"].clone()
    cut = int(batch.model_inputs["cu_seq_lens_q"][1]) - 40  # within the first record
    changed = ids.clone()
    changed[0, cut:] = 5
    with torch.no_grad():
        logits = [
            model(input_ids=x, position_ids=batch.model_inputs["position_ids"]).logits[0, :cut]
            for x in (ids, changed)
        ]
    assert torch.equal(*logits)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_optimisers_have_every_parameter_once_and_decay_matrices_alone(make_plan, optimizer):
    plan = make_plan(optimizer=optimizer, weight_decay=0.05)
    model = build_model(plan, "sdpa")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [group for built in build_optimizers(model, plan) for group in built.param_groups]
    held = [names[id(parameter)] for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(n for n, p in model.named_parameters() if p.requires_grad)
    for group in groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] > 0) == (parameter.dim() == 2), names[id(parameter)]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_few_steps_lower_the_loss(make_plan, accelerator, optimizer):
    plan = make_plan(optimizer=optimizer, steps=30, warmup_steps=3, peak_learning_rate=1e-2, pairs_per_step=4)
    model = build_model(plan, "sdpa")
    data = TrainingData(plan)
    model, *optimizers = accelerator.prepare(model, *build_optimizers(model, plan))
    losses = []
    for step in range(30):
        batches = data.step(step, 0, 1, 2)
        loss_sum, norm = training_step(accelerator, model, optimizers, plan, step, batches)
        losses.append(float(loss_sum) / batches.num_targets)
        assert np.isfinite(float(norm))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3, losses


def test_gradients_stay_in_their_place_where_layers_are_replayed(make_plan, accelerator, monkeypatch):
    """A replay overwrites what it returned before: sums over micro-batches must lie elsewhere."""
    monkeypatch.setattr(CurrAbLayer, "compile", lambda self, mode: None)
    ends, gradients = [], []
    for changes in ({}, {"compile": True, "fixed_shapes": True}):
        plan = make_plan(**changes)
        model, data = build_model(plan, "sdpa"), TrainingData(plan)
        model, *optimizers = accelerator.prepare(model, *build_optimizers(model, plan))
        for step in range(3):
            training_step(accelerator, model, optimizers, plan, step, data.step(step, 0, 1, 2))
            if changes:
                gradients.append([each.grad for each in model.parameters() if each.requires_grad])
        ends.append(list(model.parameters()))
    assert all(first is second is third is not None for first, second, third in zip(*gradients, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_the_schedules_are_those_of_transformers(make_plan):
    import transformers

    for kind in ("linear", "cosine", "constant"):
        plan = make_plan(schedule=kind, steps=50, warmup_steps=10, peak_learning_rate=1e-3)
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=1e-3)
        name = "constant_with_warmup" if kind == "constant" else kind
        schedule = transformers.get_scheduler(name, optimizer, 10, 50)
        for step in range(50):
            assert learning_rate(plan, step) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12), (
                kind,
                step,
            )
            optimizer.step()
            schedule.step()


# --- where the weights come from ----------------------------------------------------------------------------


def test_the_seed_decides_the_first_weights(make_plan):
    one, same, other = (build_model(make_plan(seed=seed), "sdpa") for seed in (1, 1, 2))
    key = "esm.encoder.layer.1.output.dense.weight"
    assert torch.equal(one.state_dict()[key], same.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])


def test_training_starts_from_a_checkpoint_and_keeps_its_mathematics(make_plan, tmp_path):
    shape = {"hidden_size": 80, "intermediate_size": 160, "num_hidden_layers": 2}
    source = build_model(make_plan(config={"token_dropout": True, "layer_norm_eps": 1e-5}), "sdpa")
    source.save_pretrained(tmp_path / "esm2")
    plan = make_plan(init_from=str(tmp_path / "esm2"), config=shape, seed=5)
    model = build_model(plan, "sdpa")
    assert model.config.token_dropout and model.config.layer_norm_eps == 1e-5
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == {
        n for n, _ in model.named_parameters() if "contact_head" in n
    }


def test_a_checkpoint_of_another_shape_is_refused(make_plan, tmp_path):
    build_model(make_plan(), "sdpa").save_pretrained(tmp_path / "tiny")
    with pytest.raises(ValueError, match="has num_hidden_layers 2, 8M-F has 6"):
        build_config(make_plan(init_from=str(tmp_path / "tiny"), config={"num_hidden_layers": 6}))


def test_a_configuration_that_makes_no_sense_is_refused(make_plan):
    with pytest.raises(ValueError, match=r"config: .*hidden_size"):
        build_config(make_plan(config={"hidden_size": "abc"}))
    with pytest.raises(ValueError, match="config 'hidden_sise'; did you mean hidden_size"):
        build_config(make_plan(config={"hidden_sise": 3}))
