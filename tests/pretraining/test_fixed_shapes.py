"""Micro-batches of few fixed shapes: the loss is the same, and filling counts for nothing."""

import shutil
from dataclasses import replace

import pytest
import torch

from curr_ab.measures.held_out import LossEstimate
from curr_ab.modeling.modeling_curr_ab import CurrAbLayer
from curr_ab.pretraining.batches import TrainingData
from curr_ab.pretraining.loop import pretrain
from curr_ab.pretraining.model import build_model
from curr_ab.pretraining.step import summed_loss
from curr_ab.training.fixed_shapes import filled, fixed_shapes
from curr_ab.training.state import read_log

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
VOLATILE = {"pairs_per_second", "residue_tokens_per_second", "memory_gib", "seconds"}


def both(plan, rank=0, num_processes=1, parts=4):
    """The data of the plan without fixed shapes and with them."""
    plain, data = TrainingData(plan), TrainingData(replace(plan, fixed_shapes=True))
    return plain, data, data.fix_shapes(rank, num_processes, parts)


def shape_of(batch):
    """All that a compiled layer would be compiled anew for."""
    inputs = batch.model_inputs.items()
    sizes = [(name, tuple(v.shape) if torch.is_tensor(v) else v) for name, v in inputs]
    return tuple(sizes), tuple(batch.targets.shape)


@pytest.mark.parametrize("curriculum", ["paired-only", "unpaired-then-paired"])
def test_200_steps_have_three_shapes_at_most(make_plan, single_chains, curriculum):
    changes = {} if curriculum == "paired-only" else {"unpaired_data": str(single_chains)}
    plan = make_plan(pairs_per_step=30, steps=200, curriculum=curriculum, **changes)
    plain, data, _ = both(plan)
    shapes, varying, num_tokens, num_filled = set(), set(), 0, []
    for step in range(200):
        before, after = (each.step(step, 0, 1, 4) for each in (plain, data))
        assert replace(before, micro_batches=[]) == replace(after, micro_batches=[])
        for batch, other in zip(before.micro_batches, after.micro_batches, strict=True):
            shapes.add(shape_of(other))
            varying.add(shape_of(batch))
            num_tokens += batch.num_tokens
            num_filled.append(other.model_inputs["input_ids"].numel())
    assert len(shapes) <= 3 < 100 < len(varying)
    if curriculum == "paired-only":
        assert sum(num_filled) < 1.06 * num_tokens
    # The last is for what no sampled step had; samples are of all parts of the run.
    assert num_filled.count(data.shapes[-1].num_tokens) < 0.03 * len(num_filled)


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_filling_comes_last_and_is_made_of_records(make_plan, objective):
    plain, data, _ = both(make_plan(objective=objective, pairs_per_step=30))
    for batch, other in zip(*(each.step(3, 0, 1, 4).micro_batches for each in (plain, data)), strict=True):
        ours, filling = batch.model_inputs, other.model_inputs
        for name in ("input_ids", "position_ids", "output_positions", "cu_seq_lens_q"):
            size = ours[name].shape[-1]
            assert torch.equal(filling[name][..., :size], ours[name]), name
        lengths = filling["cu_seq_lens_q"].diff()
        assert lengths.sum() == filling["input_ids"].numel()
        assert lengths.min() >= 1 and lengths.max() <= filling["max_length_q"] == data.paired.longest
        positions = torch.cat([torch.arange(length) for length in lengths])
        assert torch.equal(filling["position_ids"][0], positions)
        size = len(batch.targets)
        assert torch.equal(other.targets[:size], batch.targets) and (other.targets[size:] == -100).all()
        assert (filling["output_positions"][size:] >= batch.num_tokens).all()


def test_the_loss_is_the_same_to_the_bit(make_plan):
    """Gradients are the same but for the order in which libraries add up the rows of a product."""
    plan = make_plan(config=NO_DROPOUT, pairs_per_step=30)
    model = build_model(plan, "sdpa")
    plain, data, _ = both(plan)
    for step in range(6):
        for pair in zip(*(each.step(step, 0, 1, 4).micro_batches for each in (plain, data)), strict=True):
            losses, gradients = [], []
            for batch in pair:
                model.zero_grad()
                loss = summed_loss(model, batch)
                loss.backward()
                losses.append(loss.detach())
                gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
            assert torch.equal(*losses)
            for one, other in zip(*gradients, strict=True):
                assert (one - other).abs().max() <= 1e-5 * one.abs().max()


def test_what_was_not_sampled_has_a_shape_too(make_plan):
    """Batches of the longest records alone, of hardly a token, and with nothing but answers."""
    plan = make_plan(objective="clm", pairs_per_step=30)
    longest = 200
    plain = TrainingData(plan)
    sampled = plain.step(0, 0, 1, 4).micro_batches
    shapes = fixed_shapes([replace(batch, num_tokens=100) for batch in sampled], longest)
    everything = shapes[-1]
    for lengths in ([longest] * 8, [3] * 8, [longest] * 7):
        bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        number = sum(lengths)
        inputs = {
            "input_ids": torch.full((1, number), 5),
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "output_positions": torch.arange(number),
            "cu_seq_lens_q": bounds,
        }
        batch = replace(sampled[0], model_inputs=inputs, targets=torch.full((number,), 5), num_tokens=number)
        assert everything.holds(batch)
        found = filled(batch, [everything]).model_inputs
        assert found["input_ids"].numel() == everything.num_tokens
        assert len(found["cu_seq_lens_q"]) == everything.num_records + 1
        assert found["cu_seq_lens_q"].diff().min() >= 1 and found["cu_seq_lens_q"].diff().max() <= longest


def test_a_run_learns_the_same_and_goes_on_to_the_same_bits(make_plan, tmp_path):
    plan = make_plan(fixed_shapes=True, evaluate_every=4)
    pretrain(plan, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "checkpoints")
    shutil.rmtree(tmp_path / "resumed" / "states" / "step-00000006")
    pretrain(plan, tmp_path / "resumed")
    pretrain(make_plan(evaluate_every=4, config=NO_DROPOUT), tmp_path / "plain")
    pretrain(replace(plan, config=plan.config | NO_DROPOUT), tmp_path / "fixed")
    logs = {
        path.name: [{k: v for k, v in entry.items() if k not in VOLATILE} for entry in read_log(path)]
        for path in tmp_path.iterdir()
    }
    assert logs["resumed"] == logs["whole"]
    for one, other in zip(logs["plain"], logs["fixed"], strict=True):
        assert one.keys() == other.keys()
        if "loss" in one:
            assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
            assert one["residue_tokens_seen"] == other["residue_tokens_seen"]


def test_padded_rows_are_refused(make_plan):
    with pytest.raises(ValueError, match="must be false for an attention that takes padded rows"):
        TrainingData(make_plan(fixed_shapes=True), pad=True)


def test_compiled_layers_are_replayed_where_shapes_are_fixed(make_plan, monkeypatch):
    modes = []
    monkeypatch.setattr(CurrAbLayer, "compile", lambda self, mode: modes.append(mode))
    for changes in ({}, {"fixed_shapes": True}, {"compile": True}, {"compile": True, "fixed_shapes": True}):
        build_model(make_plan(**changes), "sdpa")
    assert modes == ["default"] * 2 + ["reduce-overhead"] * 2


def test_evaluations_are_not_recorded(make_plan, tmp_path, monkeypatch):
    """Held-out rows are of any shape: each would be compiled and recorded anew."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph

    add_one = torch.compile(lambda x: x + 1, backend=backend)

    def evaluate(*args, **kwargs):
        add_one(torch.ones(1))
        return {"all": LossEstimate(1.0, 0.0, 1, 1)}

    monkeypatch.setattr(CurrAbLayer, "compile", lambda self, mode: None)
    monkeypatch.setattr("curr_ab.pretraining.loop.evaluate", evaluate)
    for fixed in (True, False):
        plan = make_plan(steps=1, warmup_steps=0, compile=True, fixed_shapes=fixed)
        pretrain(plan, tmp_path / str(fixed))
        assert len(compiled) == (not fixed)
