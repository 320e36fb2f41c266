"""Cross-validations that are killed or stopped, and go on: the same numbers as if nothing had happened."""

import json
import os
import random
import signal
import time

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from support.training_processes import finetune, finish, start, start_group

from curr_ab.finetuning.run_folder import FinetuningFolder
from curr_ab.training.state import complete_states


@pytest.fixture(scope="module")
def data(planted):
    return str(planted("specificity-binary", 40))


@pytest.fixture(scope="module")
def dropping_member(make_member):
    """With the dropout of the published members."""
    return make_member(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)


def progress(out):
    """How many epochs and folds a run has behind it, as its files tell while it goes."""
    try:
        lines = sum(len(path.read_text().splitlines()) for path in out.rglob("log.jsonl"))
    except FileNotFoundError:  # a state was replaced while it was looked into
        return progress(out)
    return lines + len(list(out.glob("fold-*/results.json")))


def outcome(out):
    """All that a run leaves, without what depends on the clock."""
    run = FinetuningFolder(out)
    found = {"results": json.loads(run.results_file.read_text())}
    for fit in (run.fold(1), run.fold(2), run.final):
        log = [{key: value for key, value in entry.items() if key != "seconds"} for entry in fit.read_log()]
        found[fit.path.name] = log
        if fit.predictions_file.exists():
            found[f"{fit.path.name} predictions"] = pq.read_table(fit.predictions_file).to_pydict()
        (weights,) = fit.adapter.glob("*model.safetensors")
        adapter = load_file(weights)
        found[f"{fit.path.name} adapter"] = {name: value.tolist() for name, value in adapter.items()}
        assert not fit.states.exists() and not fit.best.exists()
    return found


def kill_at_random_until_done(run, out, randomness):
    """Start, kill with SIGKILL at a random moment, start again; how often it was killed."""
    kills = 0
    while True:
        processes = run()
        target = progress(out) + randomness.randint(1, 3)
        while any(process.is_alive() for process in processes) and progress(out) < target:
            time.sleep(0.01)
        time.sleep(randomness.random() * 0.1)
        killed = [process for process in processes if process.is_alive()]
        for process in killed:
            os.kill(process.pid, signal.SIGKILL)
        codes = finish(*processes)
        if codes == [0] * len(processes):
            return kills
        assert set(codes) <= {0, -signal.SIGKILL}, codes
        kills += 1


FROM_A_PROBE = {"start": "probe", "pooling": "mean_per_chain", "fewest_steps": 8}
AFTER_MASKED_TRAINING = {**FROM_A_PROBE, "adapt_epochs": 2, "layers": 1}
CHANGES = [{}, AFTER_MASKED_TRAINING, {**FROM_A_PROBE, "method": "full"}]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("changes", CHANGES, ids=["lora", "after masked training", "full"])
def test_a_killed_cross_validation_goes_on_to_the_same_bits(
    processes, changes, make_recipe, dropping_member, data, tmp_path
):
    how = {"epochs": 3, "early_stopping": 2, "adapter_dropout": 0.1, "learning_rate": 5e-3}
    recipe = make_recipe(final=True, **how, **changes)

    def run(out):
        arguments = (recipe.to_dict(), str(dropping_member), data, out)
        return [start(finetune, *arguments)] if processes == 1 else start_group(finetune, *arguments)

    reference, out = tmp_path / "reference", tmp_path / "killed"
    assert finish(*run(reference)) == [0] * processes
    assert kill_at_random_until_done(lambda: run(out), out, random.Random(1)) >= 3
    assert outcome(out) == outcome(reference)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_in_the_middle_of_an_epoch(number, make_recipe, dropping_member, data, tmp_path):
    recipe = make_recipe(epochs=2, pairs_per_step=1, fold_scheme="rows", final=True, learning_rate=1e-3)
    arguments = (recipe.to_dict(), str(dropping_member), data)
    reference, out = tmp_path / "reference", tmp_path / "stopped"
    assert finish(start(finetune, *arguments, reference)) == [0]
    process = start(finetune, *arguments, out)
    while not complete_states(FinetuningFolder(out).fold(1).states):
        time.sleep(0.01)
    time.sleep(0.1)  # in the second of two epochs
    os.kill(process.pid, number)
    assert finish(process) == [128 + number]
    (state,) = complete_states(FinetuningFolder(out).fold(1).states)
    marker = json.loads((state / "complete.json").read_text())
    assert marker["step"] % 20 and marker["loss_sum"] > 0
    assert finish(start(finetune, *arguments, out)) == [0]
    assert outcome(out) == outcome(reference)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_is_heeded_where_an_epoch_is_a_step(processes, make_recipe, member, data, tmp_path):
    recipe, out = make_recipe(epochs=2_000, pairs_per_step=100, method="frozen"), tmp_path / "run"
    arguments = (recipe.to_dict(), str(member), data, out)
    group = [start(finetune, *arguments)] if processes == 1 else start_group(finetune, *arguments)
    while progress(out) < 2:
        time.sleep(0.01)
    os.kill(group[-1].pid, signal.SIGTERM)
    assert finish(*group) == [128 + signal.SIGTERM] * processes
    assert FinetuningFolder(out).fold(1).newest_state is not None


def test_a_finished_run_is_left_as_it_is(make_recipe, member, data, tmp_path):
    arguments = (make_recipe(epochs=1).to_dict(), str(member), data, tmp_path / "run")
    assert finish(start(finetune, *arguments)) == [0]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("fold-*/**/*")}
    assert finish(start(finetune, *arguments)) == [0]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("fold-*/**/*")}


def test_two_processes_do_not_train_in_one_folder(make_recipe, member, data, tmp_path):
    arguments = (make_recipe(epochs=200).to_dict(), str(member), data, tmp_path / "run")
    first = start(finetune, *arguments)
    while progress(tmp_path / "run") < 1:
        time.sleep(0.01)
    assert finish(start(finetune, *arguments)) == [2]
    assert "another process trains in" in (tmp_path / "run.error").read_text()
    first.kill()
    finish(first)


def first_line(path):
    """The first epoch that a fit has written, with its time; none while there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return lines[0] if lines else None


def files_of(out):
    """All that a run leaves, without what depends on the clock."""
    timed = {
        "plan.json",
        "seconds.json",
        "choice.json",
        "comparison.json",
        "report.md",
        "report.html",
        "log.jsonl",
    }
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name not in timed
    }
    for path in out.rglob("choice.json"):
        found[str(path.relative_to(out))] = {**json.loads(path.read_text()), "seconds": 0}
    for path in out.rglob("log.jsonl"):
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(out))] = [{**entry, "seconds": 0} for entry in entries]
    return found


@pytest.mark.slow
def test_auto_killed_inside_a_trial_goes_on_to_the_same_bits(make_recipe, dropping_member, planted, tmp_path):
    """Of labelled residues there are enough for a trial of adapters in each fold, which is killed."""
    how = {"pairs_per_step": 1, "adapter_dropout": 0.1, "learning_rate": 5e-3, "pairs_per_micro_batch": 1}
    recipe = make_recipe("paratope", method="auto", epochs=2, **how)
    arguments = (recipe.to_dict(), str(dropping_member), str(planted("paratope", 24)))
    reference, out = tmp_path / "reference", tmp_path / "killed"
    assert finish(start(finetune, *arguments, reference)) == [0]
    kept = {}
    for number in (1, 2):
        fold = out / f"fold-{number}"
        process = start(finetune, *arguments, out)
        while process.is_alive() and not complete_states(fold / "trial-lora" / "states"):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        assert finish(process) == [-signal.SIGKILL]
        assert not (fold / "trial-lora.json").exists()  # it was killed between the trial's two epochs
        kept[fold] = first_line(fold / "trial-lora" / "log.jsonl")
    assert finish(start(finetune, *arguments, out)) == [0]
    assert files_of(out) == files_of(reference)
    for fold, line in kept.items():  # the epoch from before is not computed twice
        assert line is not None and first_line(fold / "trial-lora" / "log.jsonl") == line
