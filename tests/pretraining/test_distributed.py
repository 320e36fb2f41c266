"""DDP and FSDP2 on two processes: really sharded, the same losses, and no silent half-measures."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support.training_processes import (
    FSDP2,
    finish,
    free_port,
    launch,
    start,
    start_group,
    train,
    train_sharded,
)
from transformers import EsmForMaskedLM

from curr_ab import CurrAbConfig, CurrAbForMaskedLM
from curr_ab.pretraining.preview import sharded_state_bytes
from curr_ab.pretraining.run_folder import RunFolder
from curr_ab.training.state import read_log

ROOT = Path(__file__).parents[2]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def losses(out):
    return [entry[key] for entry in read_log(out) for key in ("loss", "held_out_loss") if key in entry]


def weights(out, step):
    return load_file(RunFolder(out).checkpoint(step) / "model.safetensors")


@pytest.fixture
def alone(make_plan, tmp_path):
    """A run of one process, and its plan."""
    plan = make_plan(steps=5, config=NO_DROPOUT, evaluate_every=3)
    assert finish(start(train, plan.to_dict(), tmp_path / "alone")) == [0]
    return plan, tmp_path / "alone"


def test_fsdp2_shards_and_learns_what_one_process_learns(alone, tmp_path):
    plan, reference = alone
    out = tmp_path / "sharded"
    assert finish(*start_group(train_sharded, plan.to_dict(), out, environment=FSDP2)) == [0, 0]
    reports = [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)]
    for report in reports:
        assert report["processes"] == 2 and report["version"] == 2 and report["type"].endswith("FSDP")
        assert report["sharded"] == report["parameters"] > 30
        assert report["sharded_moments"] == report["moments"] > 60
    # What a dry run predicts is what the fullest process holds, and both together hold one state.
    with torch.device("meta"):
        model = CurrAbForMaskedLM(CurrAbConfig(**plan.model_config))
    assert max(report["bytes"] for report in reports) == sharded_state_bytes(model, 2)
    assert sum(report["bytes"] for report in reports) == sharded_state_bytes(model, 1)
    shards = list((RunFolder(out).newest_state or out).glob("*.safetensors"))
    assert len(shards) == 2 and all(path.stat().st_size > 0 for path in shards)

    assert losses(out) == pytest.approx(losses(reference), abs=2e-5)
    ours, theirs = weights(out, 5), weights(reference, 5)
    assert ours.keys() == theirs.keys()
    assert max((ours[name] - theirs[name]).abs().max() for name in ours) < 2e-4
    stock, info = EsmForMaskedLM.from_pretrained(RunFolder(out).checkpoint(5), output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(stock) is EsmForMaskedLM

    # One process takes over the state of two.
    (RunFolder(out).newest_state / "complete.json").unlink()
    assert finish(start(train, plan.to_dict(), out)) == [0]
    assert losses(out) == pytest.approx(losses(reference), abs=2e-5)


def test_ddp_learns_what_one_process_learns(alone, tmp_path):
    plan, reference = alone
    assert finish(*start_group(train, plan.to_dict(), tmp_path / "ddp")) == [0, 0]
    assert losses(tmp_path / "ddp") == pytest.approx(losses(reference), abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_fsdp2_with_bf16_and_recomputed_activations(make_plan, tmp_path, optimizer):
    """Muon must orthogonalise whole matrices: on shards it would take another way."""
    plan = make_plan(
        steps=5, config=NO_DROPOUT, precision="bf16", activation_checkpointing=True, optimizer=optimizer
    )
    assert finish(start(train, plan.to_dict(), tmp_path / "alone")) == [0]
    out = tmp_path / "sharded"
    assert finish(*start_group(train_sharded, plan.to_dict(), out, environment=FSDP2)) == [0, 0]
    assert losses(out) == pytest.approx(losses(tmp_path / "alone"), abs=0.02)


def test_muon_orthogonalises_whole_matrices_under_fsdp2(make_plan, tmp_path):
    plan = make_plan(steps=4, config=NO_DROPOUT, optimizer="muon")
    assert finish(start(train, plan.to_dict(), tmp_path / "alone")) == [0]
    out = tmp_path / "sharded"
    assert finish(*start_group(train_sharded, plan.to_dict(), out, environment=FSDP2)) == [0, 0]
    assert losses(out) == pytest.approx(losses(tmp_path / "alone"), abs=2e-5)


@pytest.mark.parametrize("processes", [1, 2])
def test_fsdp_that_would_not_shard_is_refused(make_plan, tmp_path, processes):
    out = tmp_path / "run"
    group = start_group(train, make_plan().to_dict(), out, processes=processes, environment=FSDP2)
    assert finish(*group) == [2] * processes
    assert "every process would train a whole model of its own" in (tmp_path / "run.error").read_text()
    assert not RunFolder(out).log_file.exists()


def test_a_batch_that_does_not_divide_is_refused(make_plan, tmp_path):
    group = start_group(train, make_plan(pairs_per_step=7).to_dict(), tmp_path / "run")
    assert finish(*group) == [2, 2]
    assert "pairs_per_step must divide among the 2 processes; got 7" in (tmp_path / "run.error").read_text()


def test_processes_of_different_number_types_are_refused(make_plan, tmp_path):
    plan = make_plan().to_dict()
    port = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    group = [
        start(
            train,
            plan | {"precision": precision},
            tmp_path / "run",
            environment=port | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank, precision in (("0", "bf16"), ("1", "fp32"))
    ]
    assert finish(*group) == [2, 2]
    assert "their machines chose bf16 and fp32: set precision" in (tmp_path / "run.error").read_text()


# --- as users launch it ------------------------------------------------------------------------


@pytest.fixture
def plan_file(make_plan, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(make_plan(steps=3, config=NO_DROPOUT).to_dict()))
    return path


def test_accelerate_launches_one_process(plan_file, tmp_path):
    done = launch("pretrain.py", "one_process.yaml", "--plan", str(plan_file), "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path / "run")) == 4
    assert "Warning" not in done.stderr, done.stderr


@pytest.mark.slow
def test_accelerate_launches_ddp_on_cpus(plan_file, tmp_path):
    arguments = ("--plan", str(plan_file), "--out", str(tmp_path / "run"))
    refused = launch("pretrain.py", "ddp.yaml", *arguments, "--pairs-per-step", "7", cpus=2)
    assert "pairs_per_step must divide among the 2 processes; got 7" in refused.stderr
    done = launch("pretrain.py", "ddp.yaml", *arguments, cpus=2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("held-out loss of unigram") + done.stdout.count("held-out loss of unigram") == 1
    one = launch("pretrain.py", "one_process.yaml", "--plan", str(plan_file), "--out", str(tmp_path / "one"))
    assert one.returncode == 0, one.stderr
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "one"), abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["fsdp2.yaml", "ddp.yaml"])
def test_launches_for_gpus_without_a_gpu_end_with_the_reason(plan_file, tmp_path, config):
    done = launch("pretrain.py", config, "--plan", str(plan_file), "--out", str(tmp_path / "run"))
    assert done.returncode != 0
    assert "pretrain: " in done.stderr, done.stderr
    assert not RunFolder(tmp_path / "run").log_file.exists()


def test_launch_configurations_name_what_exists():
    for path in (ROOT / "train_scripts" / "accelerate").glob("*.yaml"):
        config = yaml.safe_load(path.read_text())
        if "fsdp_config" in config:
            fsdp = config["fsdp_config"]
            assert fsdp["fsdp_version"] == 2 and fsdp["fsdp_cpu_ram_efficient_loading"] is False
            assert fsdp["fsdp_transformer_layer_cls_to_wrap"] in CurrAbForMaskedLM._no_split_modules
    for script in (ROOT / "train_scripts" / "slurm").glob("*.sh"):
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
