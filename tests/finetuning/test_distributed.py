"""DDP and FSDP2 on two processes: really sharded, and the same losses and predictions as on one."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.training_processes import FSDP2, finetune, finetune_sharded, finish, launch, start, start_group

from curr_ab.finetuning.run_folder import FinetuningFolder
from curr_ab.results import read_results


@pytest.fixture(scope="module")
def data(planted):
    return str(planted("specificity-binary", 40))


def losses(out):
    """Of every epoch of every fit."""
    run = FinetuningFolder(out)
    logs = [fit.read_log() for fit in (run.fold(1), run.fold(2), run.final)]
    return [
        entry[key] for log in logs for entry in log for key in ("loss", "validation_loss") if key in entry
    ]


def predictions(out, fold=1, column="probability_CoV"):
    return np.array(pq.read_table(FinetuningFolder(out).fold(fold).predictions_file)[column].to_pylist())


def assert_same(out, reference):
    assert losses(out) == pytest.approx(losses(reference), abs=2e-5)
    for fold in (1, 2):
        assert predictions(out, fold) == pytest.approx(predictions(reference, fold), abs=5e-5)
    ours, theirs = (read_results(FinetuningFolder(each).results_file) for each in (out, reference))
    assert [row.identity for row in ours] == [row.identity for row in theirs]


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
def test_two_processes_find_what_one_finds(way, make_recipe, member, data, tmp_path):
    """17 pairs in steps of 8: the last step of an epoch leaves one process with nothing of its own."""
    recipe = make_recipe(early_stopping=2, final=True, fold_scheme="rows", learning_rate=3e-3)
    arguments = (recipe.to_dict(), str(member), data)
    assert finish(start(finetune, *arguments, tmp_path / "alone")) == [0]
    if way == "ddp":
        group = start_group(finetune, *arguments, tmp_path / way)
    else:
        group = start_group(finetune_sharded, *arguments, tmp_path / way, environment=FSDP2)
    assert finish(*group) == [0, 0]
    assert_same(tmp_path / way, tmp_path / "alone")
    train = json.loads((tmp_path / way / "folds.json").read_text())[0]["train"]
    assert len(train) % recipe.pairs_per_step == 1
    if way == "fsdp2":
        for rank in range(2):
            report = json.loads((tmp_path / way / f"rank{rank}.json").read_text())
            assert report["processes"] == report["version"] == 2
            assert report["sharded"] == report["parameters"] > 40


@pytest.mark.slow
@pytest.mark.parametrize("method", ["frozen", "full", "dora"])
@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
def test_every_method_on_two_processes(way, method, make_recipe, member, data, tmp_path):
    recipe = make_recipe(method=method, learning_rate=1e-3)
    arguments = (recipe.to_dict(), str(member), data)
    assert finish(start(finetune, *arguments, tmp_path / "alone")) == [0]
    # A head on features is not sharded: only its base has computed with all processes.
    sharded = way == "fsdp2" and method != "frozen"
    task, environment = (finetune_sharded, FSDP2) if sharded else (finetune, {})
    group = start_group(task, *arguments, tmp_path / way, environment=environment)
    assert finish(*group) == [0, 0]
    assert_same(tmp_path / way, tmp_path / "alone")


def test_the_script_runs_under_accelerate(member, data, tmp_path):
    out = tmp_path / "run"
    arguments = ["--model", str(member), "--data", data, "--out", str(out), "--group-by", "clone"]
    arguments += ["--folds", "1", "--epochs", "1", "--no-final"]
    done = launch("finetune.py", "ddp.yaml", "specificity-binary", *arguments, cpus=2)
    assert done.returncode == 0, done.stderr
    assert read_results(FinetuningFolder(out).results_file)
