"""Plans: the published defaults, where values come from, what is refused, what a dry run says."""

import re
from dataclasses import fields

import pytest
import torch
import yaml

from curr_ab.cli.main import main
from curr_ab.family import MEMBERS, SIZES, TrainingPlan
from curr_ab.options import shown_default
from curr_ab.pretraining.checkpoint import public_plan
from curr_ab.pretraining.model import pairs_at_once
from curr_ab.pretraining.plan import PretrainingPlan, resolve_plan
from curr_ab.training_record import TRAINING, TrainingRecord


def test_the_defaults_are_the_published_plan():
    plan, published = PretrainingPlan(), TrainingPlan()
    shared = {field.name for field in fields(TrainingPlan)} & {
        field.name for field in fields(PretrainingPlan)
    }
    # The machine's type instead of the published fp16 is the one deliberate difference.
    assert {name for name in shared if getattr(plan, name) != getattr(published, name)} == {"precision"}
    assert shared >= {"steps", "warmup_steps", "pairs_per_step", "peak_learning_rate", "adam_beta2", "seed"}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_brings_its_shape_and_its_subset(name):
    plan = resolve_plan({"member": name})
    assert plan.training_subset == MEMBERS[name].data.letter
    assert plan.model_config["hidden_size"] == MEMBERS[name].size.hidden_size
    assert plan.model_config["hidden_dropout_prob"] == 0.1


def test_later_files_and_options_win(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(
        "steps: 100\nwarmup_steps: 1\nseed: 7\nconfig: {hidden_size: 40, num_hidden_layers: 1}\n"
    )
    second.write_text("steps: 200\npeak_learning_rate: 1e-3\nconfig: {hidden_size: 60}\n")
    plan = resolve_plan({"seed": 8}, [first, second])
    assert (plan.steps, plan.warmup_steps, plan.seed, plan.peak_learning_rate) == (200, 1, 8, 1e-3)
    assert plan.config == {"hidden_size": 60, "num_hidden_layers": 1}


def test_a_saved_plan_reads_back_the_same(tmp_path):
    plan = resolve_plan({"checkpoint_steps": [5, 9], "init_from": "35M-F", "config": {"hidden_size": 40}})
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan.to_dict()))
    assert resolve_plan({}, [tmp_path / "plan.yaml"]) == plan


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 3}, "unknown plan option 'stepz'; did you mean steps?"),
        ({"member": "9M-F"}, "no member is called '9M-F'"),
        ({"steps": "many"}, "steps must be a whole number; got 'many'"),
        ({"steps": True}, "steps must be a whole number; got True"),
        ({"steps": 10}, "warmup_steps must be at most steps, 10; got 30,000"),
        ({"objective": "span"}, "objective must be one of mlm, clm; got 'span'"),
        ({"mask_fraction": 1.2}, "mask_fraction must be above 0 and at most 1; got 1.2"),
        ({"mask_fraction": 0}, "mask_fraction must be above 0 and at most 1; got 0.0"),
        ({"mask_token_share": 0.9, "random_token_share": 0.2}, "must be at most 1 together; got 0.9 and 0.2"),
        (
            {"unpaired_fraction_start": -0.1},
            "unpaired_fraction_start must be at least 0 and at most 1; got",
        ),
        ({"unpaired_fraction_end": 1.1}, "unpaired_fraction_end must be at least 0 and at most 1; got 1.1"),
        ({"unpaired_fraction": 7.0}, "unpaired_fraction must be at least 0 and at most 1; got 7.0"),
        ({"optimizer": "muon", "precision": "fp16"}, "precision must be bf16 or fp32 for muon"),
        ({"curriculum": "sigmoid"}, "unpaired_data must name single chains for the curriculum sigmoid"),
        ({"unpaired_data": "chains"}, "where unpaired_data is given; got paired-only"),
        ({"log_every": 0}, "log_every must be above 0; got 0"),
        (
            {"pairs_per_micro_batch": 8, "tokens_per_micro_batch": 9_000},
            "pairs_per_micro_batch must be left out where tokens_per_micro_batch is given; got 8 and 9,000",
        ),
        ({"seed": -1}, "seed must be at least 0; got -1"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve_plan(values)


def test_a_plan_file_is_named_in_its_error(tmp_path):
    path = tmp_path / "plan.yaml"
    for text, message in {
        "- a": "must hold",
        "a: [": "must be YAML",
        "a: " + "[" * 5_000: "must be YAML",
        "stepz: 3": "unknown plan option",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=f"plan.yaml.*{message}"):
            resolve_plan({}, [path])


def test_checkpoints_are_due_at_the_published_steps_and_at_the_last():
    assert len(PretrainingPlan().checkpoint_at) == 100
    plan = resolve_plan({"steps": 11_000, "warmup_steps": 1, "checkpoint_steps": [1, 2]})
    assert sorted(plan.checkpoint_at) == [1, 2, 5_000, 10_000, 11_000]


def test_a_dry_run_prints_the_plan_and_its_cost_and_writes_nothing(corpus, tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        main(["pretrain", "650M-F", "--data", str(corpus), "--out", str(out), "--dry-run", "--seed", "9"])
        == 0
    )
    text = capsys.readouterr().out
    assert "member: 650M-F" in text and "seed: 9" in text and "parameters       651,043,254" in text
    assert re.search(r"^GPUs +4 for a model of this size$", text, re.M), text
    assert re.search(r"FSDP2 over 8 +1\.2\d \+", text), text
    for word in ("tokens", "epochs", "operations", "memory", "time"):
        assert re.search(rf"^{word} ", text, re.M), word
    assert not out.exists()


def test_a_gpu_computes_its_share_of_the_published_step_at_once():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    sizes = {size.name: pairs_at_once(resolve_plan({"member": f"{size.name}-F"}), gpu) for size in SIZES}
    assert sizes == {"8M": 128, "35M": 128, "150M": 64, "350M": 32, "650M": 32}
    assert "128 for 8M, 128 for 35M, 64 for 150M, 32 for 350M" in shown_default(
        next(one for one in fields(PretrainingPlan) if one.name == "pairs_per_micro_batch")
    )
    assert pairs_at_once(resolve_plan({}), cpu) == 8
    for device in (gpu, cpu):
        assert pairs_at_once(resolve_plan({"pairs_per_micro_batch": 5}), device) == 5
        assert pairs_at_once(resolve_plan({"tokens_per_micro_batch": 3_200}), device) == 10
        assert pairs_at_once(resolve_plan({"tokens_per_micro_batch": 1}), device) == 1


def test_the_command_says_what_is_missing(corpus, capsys):
    assert main(["pretrain", "8M-F"]) == 2
    assert (
        "data must name a folder made by `curr-ab data prepare`; got none (--data)" in capsys.readouterr().err
    )
    assert main(["pretrain", "8M-F", "--data", str(corpus)]) == 2
    assert "out must name the folder of the run; got none (--out)" in capsys.readouterr().err
    assert main(["pretrain", "8M-F", "--data", "nowhere", "--out", "x", "--precision", "fp-16"]) == 2
    assert (
        "precision must be one of auto, bf16, fp16, fp32; got 'fp-16'; did you mean fp16? (--precision)"
        in capsys.readouterr().err
    )


def test_what_a_run_began_from_is_recorded_without_its_path_and_as_the_member_that_it_is(tmp_path):
    step = tmp_path / "causal" / "checkpoints" / "step500"
    step.mkdir(parents=True)
    plan = resolve_plan({"data": str(tmp_path), "init_from": str(step)})
    assert public_plan(plan)["init_from"] == "step500" and public_plan(plan)["data"] == tmp_path.name
    TrainingRecord(member="8M-F", objective="clm", step=500).write(step)
    assert public_plan(plan)["init_from"] == "CLM-8M-F"
    (step / TRAINING).write_text('{"format": "curr-ab training 1", "member": null}')
    assert public_plan(plan)["init_from"] == "step500"
    assert public_plan(resolve_plan({"init_from": "lab/other"}))["init_from"] == "lab/other"
