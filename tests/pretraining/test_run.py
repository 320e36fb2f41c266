"""A whole run: what it writes, what it learns, where the next one starts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.training_processes import finish, start, train
from transformers import AutoModelForMaskedLM, EsmForMaskedLM

import curr_ab
from curr_ab.number_types import Precision
from curr_ab.pretraining.loop import pretrain
from curr_ab.pretraining.plan import resolve_plan
from curr_ab.pretraining.run_folder import RunFolder
from curr_ab.results import checkpoint_digest, read_results
from curr_ab.training.state import read_log

GOLDEN = Path(__file__).parents[1] / "golden" / "training_losses.json"


@pytest.fixture(scope="module")
def finished(make_plan, tmp_path_factory):
    """A run in bf16 with a checkpoint on the way, and its plan."""
    plan = make_plan(steps=4, checkpoint_steps=[2], precision="bf16", trackers=["tensorboard"])
    out = tmp_path_factory.mktemp("run") / "tiny"
    assert finish(start(train, plan.to_dict(), out)) == [0]
    return plan, RunFolder(out)


def test_a_run_leaves_what_the_documents_say(finished):
    _, run = finished
    names = {path.name for path in run.path.iterdir()}
    files = {"plan.yaml", "data.json", "log.jsonl", "results.json", ".lock"}
    assert names == files | {"states", "checkpoints", "curr-ab"}  # the last is the tracker's
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["step2", "step4"]
    first, *rest = read_log(run.path)
    assert first["step"] == 0 and first["baselines"]["position-wise"] < first["baselines"]["unigram"]
    assert [entry["step"] for entry in rest if "loss" in entry] == [1, 2, 3, 4]
    for entry in rest[:-1]:
        assert entry["residue_tokens_per_second"] > 0 and entry["memory_gib"] > 0
    assert {"heavy CDR3", "light FWR4", "CDRH3 N"} <= rest[-1]["held_out"].keys()


@pytest.mark.parametrize("step", [2, 4])
def test_checkpoints_load_everywhere_and_say_where_they_come_from(finished, step):
    plan, run = finished
    folder = run.checkpoint(step)
    stock = AutoModelForMaskedLM.from_pretrained(folder).eval()
    assert type(stock) is EsmForMaskedLM
    model, tokenizer = curr_ab.load(folder)
    batch = tokenizer("EVQLVESGGGLVQPGG", "DIQMTQSPSSLSASVG", return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, stock(**batch).logits, atol=2e-5)
    record = json.loads((folder / "training.json").read_text())
    assert record["step"] == step and record["seen"]["pairs"] == step * plan.pairs_per_step
    assert record["member"] is None  # the shape is nobody's
    assert record["plan"] == json.loads(json.dumps(plan.to_dict())) | {"data": "pretraining-corpus"}
    assert record["data"]["subset"] == "F" and record["data"]["num_pairs"] > 100
    assert record["training_flops"] > 0 and record["versions"]["torch"] == torch.__version__


def test_results_are_those_of_the_log(finished):
    _, run = finished
    logged = read_log(run.path)[-1]["held_out"]
    results = {result.details["place"]: result for result in read_results(run.results_file)}
    assert results.keys() == logged.keys()
    for place, result in results.items():
        assert (result.value, result.standard_error) == (
            logged[place]["loss"],
            logged[place]["standard_error"],
        )
        assert result.checkpoint == checkpoint_digest(run.checkpoint(4)) and result.step == 4


def test_trackers_get_the_numbers(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, run = finished
    events = EventAccumulator(str(next((run.path / "curr-ab").rglob("events*")).parent)).Reload()
    logged = [entry["loss"] for entry in read_log(run.path) if "loss" in entry]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(logged, abs=1e-5)


def test_a_masked_model_goes_on_from_a_causal_one_with_a_new_schedule(make_plan, tmp_path):
    causal = make_plan(objective="clm", steps=3)
    assert finish(start(train, causal.to_dict(), tmp_path / "clm")) == [0]
    source = RunFolder(tmp_path / "clm").checkpoint(3)
    assert json.loads((source / "config.json").read_text())["is_decoder"] is True
    # Its first step has learning rate 0, so the weights after it are those of the causal model.
    masked = make_plan(init_from=str(source), steps=2, warmup_steps=2, checkpoint_steps=[1], seed=7)
    assert finish(start(train, masked.to_dict(), tmp_path / "mlm")) == [0]
    before = load_file(source / "model.safetensors")
    after = load_file(RunFolder(tmp_path / "mlm").checkpoint(1) / "model.safetensors")
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    folder = RunFolder(tmp_path / "mlm").checkpoint(2)
    assert json.loads((folder / "config.json").read_text())["is_decoder"] is False
    assert json.loads((folder / "training.json").read_text())["plan"]["init_from"] == "step3"
    rates = [entry["learning_rate"] for entry in read_log(tmp_path / "mlm") if "loss" in entry]
    assert rates == [0, masked.peak_learning_rate / 2]


def test_one_process_may_train_again_in_another_precision(make_plan, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for precision in ("bf16", "fp32"):
        plan = make_plan(steps=1, warmup_steps=0, precision=precision)
        assert pretrain(plan, tmp_path / precision).name == "step1"
    shown = capfd.readouterr().err
    assert shown.count("step 1 of 1: loss") == 2 and "left 0:00:00" in shown
    assert "Writing model shards" not in shown


@pytest.mark.parametrize(("began", "faster"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_a_run_keeps_the_type_it_began_in(make_plan, tmp_path, monkeypatch, capfd, began, faster):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    fast = {"bf16": torch.bfloat16, "fp32": torch.float32}[faster]
    monkeypatch.setattr("curr_ab.number_types.fast_type", lambda device: Precision(fast, "it is made for it"))
    plan = make_plan(steps=1, warmup_steps=0, precision=began)
    pretrain(plan, tmp_path)
    pretrain(replace(plan, precision="auto"), tmp_path)
    said = f"{began}: the run began in it; this machine is faster in {faster}"
    assert said in capfd.readouterr().err
    assert resolve_plan({}, [RunFolder(tmp_path).plan_file]).precision == began


@pytest.mark.slow
def test_compiled_layers_learn_the_same(make_plan, tmp_path):
    config = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    logs = []
    for number, changes in enumerate(({}, {"compile": True}, {"compile": True, "fixed_shapes": True})):
        plan = make_plan(steps=3, **changes, config=config)
        out = tmp_path / str(number)
        assert finish(start(train, plan.to_dict(), out)) == [0]
        logs.append([entry["loss"] for entry in read_log(out) if "loss" in entry])
    assert logs[0] == pytest.approx(logs[1], abs=1e-4)
    assert logs[0] == pytest.approx(logs[2], abs=1e-4)
