"""Runs that are killed, stopped or broken, and go on: the same numbers as if nothing had happened."""

import json
import os
import random
import re
import shutil
import signal
import time

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from faults.tries import SmallDisk, may_mount
from safetensors.torch import load_file
from support.training_processes import finish, start, start_group, train

from curr_ab.pretraining.loop import pretrain
from curr_ab.pretraining.model import build_model
from curr_ab.pretraining.run_folder import RunFolder
from curr_ab.pretraining.step import build_optimizers
from curr_ab.training.state import Progress, complete_states, read_log, restore_state, save_state
from curr_ab.training.step import Diverged

VOLATILE = {"pairs_per_second", "residue_tokens_per_second", "memory_gib", "seconds"}


def numbers(out):
    """The log without what depends on the clock."""
    return [{k: v for k, v in entry.items() if k not in VOLATILE} for entry in read_log(out)]


def weights(out, step):
    return load_file(out / "checkpoints" / f"step{step}" / "model.safetensors")


def assert_same_run(out, reference, step):
    assert numbers(out) == numbers(reference)
    ours, theirs = weights(out, step), weights(reference, step)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def wait_for_step(out, step):
    """Until the log of a running process tells of this step, or of one after it."""
    log = out / "log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = log.read_text().splitlines() if log.exists() else []
        if any(json.loads(line)["step"] >= step for line in lines if line.endswith("}")):
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached")


def kill_at_random_until_done(run, out, last, randomness):
    """Start, kill with SIGKILL at a random moment, start again; how often it was killed."""
    kills = 0
    while True:
        processes = run()
        states = complete_states(out / "states")
        step = int(states[-1].name.rpartition("-")[2]) if states else 0
        target = step + randomness.randint(1, 3)
        if target >= last:
            assert finish(*processes) == [0] * len(processes)
            return kills
        wait_for_step(out, target)
        # Later each time: on a slow disk no run would come as far as the first whole state.
        time.sleep(randomness.random() * 0.1 * (kills + 1))
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
        finish(*processes)
        kills += 1


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_killed_runs_go_on_to_the_same_bits(make_plan, single_chains, tmp_path, objective):
    """With dropout, a curriculum, evaluation on the way, and states saved between the lines of the log."""
    plan = make_plan(
        objective=objective,
        curriculum="sigmoid",
        unpaired_data=str(single_chains),
        steps=10,
        evaluate_every=4,
        checkpoint_steps=[5],
        **({"optimizer": "muon", "log_every": 4, "save_every": 3} if objective == "clm" else {}),
    )
    assert plan.model_config["hidden_dropout_prob"] > 0
    reference, out = tmp_path / "reference", tmp_path / "killed"
    assert finish(start(train, plan.to_dict(), reference)) == [0]
    kills = kill_at_random_until_done(
        lambda: [start(train, plan.to_dict(), out)], out, 10, random.Random(objective)
    )
    assert kills >= 3
    assert_same_run(out, reference, 10)
    assert json.loads((out / "checkpoints" / "step5" / "training.json").read_text())["step"] == 5
    for name, tensor in weights(reference, 5).items():
        assert torch.equal(weights(out, 5)[name], tensor), name


def test_two_processes_resume_exactly_and_one_takes_over(make_plan, tmp_path):
    plan = make_plan(
        steps=8, keep_last=5, config={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    )
    alone, pair, killed = (tmp_path / name for name in ("alone", "pair", "killed"))
    assert finish(start(train, plan.to_dict(), alone)) == [0]
    assert finish(*start_group(train, plan.to_dict(), pair)) == [0, 0]
    kill_at_random_until_done(lambda: start_group(train, plan.to_dict(), killed), killed, 8, random.Random(1))
    assert_same_run(killed, pair, 8)

    # From the middle of the run of two, one process goes on.
    for state in complete_states(pair / "states"):
        if int(state.name.rpartition("-")[2]) > 4:
            (state / "complete.json").unlink()
    assert finish(start(train, plan.to_dict(), pair)) == [0]
    for ours, theirs in zip(numbers(pair), numbers(alone), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours.get("loss") == pytest.approx(theirs.get("loss"), abs=2e-5)
        assert ours.get("held_out_loss") == pytest.approx(theirs.get("held_out_loss"), abs=2e-5)
    ours, theirs = weights(pair, 8), weights(alone, 8)
    assert max((ours[name] - theirs[name]).abs().max() for name in ours) < 2e-4


def test_tokens_that_change_under_a_run_are_noticed_when_it_goes_on(make_plan, corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "data")
    plan, out = make_plan(steps=2, data=str(tmp_path / "data")), tmp_path / "run"
    assert finish(start(train, plan.to_dict(), out)) == [0]
    shard = next((tmp_path / "data").glob("train-*.tokens.npy"))
    content = bytearray(shard.read_bytes())
    content[-2_000:] = bytes(5 + (byte - 4) % 20 for byte in content[-2_000:])
    shard.write_bytes(content)
    assert finish(start(train, plan.to_dict(), out)) == [2]
    assert "has changed since it was prepared; prepare the data again" in (tmp_path / "run.error").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(make_plan, tmp_path, number):
    plan = make_plan(steps=400, save_every=1_000, log_every=1)
    out = tmp_path / "run"
    process = start(train, plan.to_dict(), out)
    wait_for_step(out, 3)
    os.kill(process.pid, number)
    assert finish(process) == [128 + number]
    state = RunFolder(out).newest_state
    assert state is not None and json.loads((state / "complete.json").read_text())["step"] >= 3
    assert numbers(out)[-1]["step"] == json.loads((state / "complete.json").read_text())["step"]


def test_a_process_of_two_that_is_asked_to_stop_stops_both(make_plan, tmp_path):
    plan = make_plan(steps=400, save_every=1_000, log_every=2)
    out = tmp_path / "run"
    processes = start_group(train, plan.to_dict(), out)
    wait_for_step(out, 4)
    os.kill(processes[1].pid, signal.SIGTERM)
    assert finish(*processes) == [128 + signal.SIGTERM] * 2
    assert RunFolder(out).newest_state is not None


def test_half_written_states_are_not_taken_and_old_ones_go(make_plan, tmp_path):
    plan = make_plan(steps=6, save_every=1, keep_last=2)
    out = tmp_path / "run"
    assert finish(start(train, plan.to_dict(), out)) == [0]
    names = [state.name for state in complete_states(out / "states")]
    assert names == ["step-00000005", "step-00000006"]
    assert sorted(path.name for path in (out / "states").iterdir()) == names
    newest = out / "states" / names[-1]
    (newest / "complete.json").unlink()
    assert RunFolder(out).newest_state.name == names[0]


def test_a_finished_run_is_left_as_it_is(make_plan, tmp_path):
    plan = make_plan(steps=2)
    out = tmp_path / "run"
    assert finish(start(train, plan.to_dict(), out)) == [0]
    before = {path: path.stat().st_mtime_ns for path in (out / "checkpoints").rglob("*")}
    lines = read_log(out)
    assert finish(start(train, plan.to_dict(), out)) == [0]
    assert {path: path.stat().st_mtime_ns for path in (out / "checkpoints").rglob("*")} == before
    assert read_log(out) == lines


def test_another_plan_or_other_data_are_refused_and_the_manner_may_change(make_plan, tmp_path):
    out = tmp_path / "run"
    assert finish(start(train, make_plan(steps=2).to_dict(), out)) == [0]
    error = tmp_path / "run.error"
    assert finish(start(train, make_plan(steps=2, seed=3).to_dict(), out)) == [2]
    assert "the plan must be that of the run" in error.read_text()
    assert "got another (seed 42 → 3): go on with its plan" in error.read_text()
    (out / "data.json").write_text('{"fingerprint": "other"}')
    assert finish(start(train, make_plan(steps=2).to_dict(), out)) == [2]
    assert "the data must be those with which the run" in error.read_text()


def flip_a_bit(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data) // 2, len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def zero_the_tail(path, rng):
    data = path.read_bytes()
    path.write_bytes(data[: -len(data) // 8] + bytes(len(data) // 8))


def damage_state(kind, state):
    """Damage that a disk, a copy or a person does; the first five kinds load without an error."""
    shard, marker, rng = next(state.glob("*.safetensors")), state / "complete.json", random.Random(kind)
    match kind:
        case "bit":
            flip_a_bit(shard, rng)
        case "zeroed tail":
            zero_the_tail(shard, rng)
        case "older shard":
            shutil.copy(complete_states(state.parent)[-2] / shard.name, shard)
        case "other step":
            marker.write_text(marker.read_text().replace('"step": 6', '"step": 5'))
        case "other pairs":
            content = json.loads(marker.read_text())
            marker.write_text(json.dumps({**content, "pairs": content["pairs"] + 1}))
        case "truncated":
            os.truncate(shard, shard.stat().st_size // 2)
        case "missing":
            shard.unlink()
        case "no JSON":
            marker.write_text("{")


DAMAGES = (
    "bit",
    "zeroed tail",
    "older shard",
    "other step",
    "other pairs",
    "truncated",
    "missing",
    "no JSON",
)


def test_a_damaged_state_is_set_aside_and_the_run_goes_on_from_the_one_before(make_plan, tmp_path):
    plan = make_plan(steps=6, save_every=2)
    whole = tmp_path / "whole"
    assert finish(start(train, plan.to_dict(), whole)) == [0]
    for damage in DAMAGES:
        out = tmp_path / damage.replace(" ", "-")
        shutil.copytree(whole, out)
        shutil.rmtree(out / "checkpoints")
        damage_state(damage, RunFolder(out).newest_state)
        assert finish(start(train, plan.to_dict(), out)) == [0]
        assert (out / "states" / "damaged-step-00000006").is_dir()
        assert_same_run(out, whole, 6)


def test_without_a_whole_state_a_run_begins_anew_only_when_it_is_told_to(make_plan, tmp_path):
    plan = make_plan(steps=4, save_every=2)
    out = tmp_path / "run"
    assert finish(start(train, plan.to_dict(), out)) == [0]
    before = numbers(out)
    for state in complete_states(out / "states"):
        damage_state("bit", state)
    assert finish(start(train, plan.to_dict(), out)) == [2]
    said = (tmp_path / "run.error").read_text()
    assert "no earlier state is whole; delete" in said and len(complete_states(out / "states")) == 2
    shutil.rmtree(out / "states")
    assert finish(start(train, plan.to_dict(), out)) == [0]
    assert numbers(out) == before


def test_a_state_of_an_earlier_version_has_no_digests_and_is_read(make_plan, tmp_path):
    plan = make_plan(steps=4, save_every=2)
    out = tmp_path / "run"
    assert finish(start(train, plan.to_dict(), out)) == [0]
    state = RunFolder(out).newest_state
    marker = json.loads((state / "complete.json").read_text())
    del marker["files"], marker["sha256"]
    (state / "complete.json").write_text(json.dumps(marker))
    shutil.rmtree(out / "checkpoints")
    assert finish(start(train, plan.to_dict(), out)) == [0]
    assert (out / "checkpoints" / "step4").is_dir()


def test_a_state_is_saved_and_read_with_a_loss_scaler(make_plan, tmp_path):
    """fp16's optimisers pass steps through the scaler, which has no scale before the first."""
    plan, scaler = make_plan(), torch.amp.GradScaler("cpu")
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = scaler
    for way in ("written", "read"):
        model = build_model(plan, "sdpa")
        optimizers = [AcceleratedOptimizer(o, scaler=scaler) for o in build_optimizers(model, plan)]
        if way == "written":
            save_state(tmp_path, Progress(step=3), accelerator, model, optimizers, keep_last=1)
        else:
            assert restore_state(complete_states(tmp_path)[0], accelerator, model, optimizers).step == 3
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_a_state_on_a_full_disk_says_how_much_more_it_needs(make_plan, tmp_path):
    """The disk is a real one, and gets that and a little, as files fill whole blocks."""
    if not may_mount(tmp_path / "disk"):
        pytest.skip("no disk can be mounted here")
    plan, accelerator = make_plan(), Accelerator(cpu=True)
    model = build_model(plan, "sdpa")
    optimizers = [AcceleratedOptimizer(one) for one in build_optimizers(model, plan)]
    room = 320 << 10
    disk = SmallDisk(tmp_path / "disk", room)
    try:
        with pytest.raises(OSError, match=f"no space is left in {disk.folder}") as caught:
            save_state(disk.folder, Progress(step=3), accelerator, model, optimizers, keep_last=1)
        told = r"\((.*) kB are free, and step-0*3 takes about .* MB, (.*) MB more\)"
        said = re.search(told, str(caught.value))
        assert said, caught.value
        assert float(said[1]) == pytest.approx(room / 1e3, rel=0.05)
        disk.grow(room + int(float(said[2]) * 1e6) + (64 << 10))
        save_state(disk.folder, Progress(step=3), accelerator, model, optimizers, keep_last=1)
        assert restore_state(complete_states(disk.folder)[0], accelerator, model, optimizers).step == 3
    finally:
        disk.close(disk.folder)
        AcceleratorState._reset_state(reset_partial_state=True)


def test_the_data_may_move_and_a_deleted_checkpoint_comes_back(make_plan, corpus, tmp_path):
    out = tmp_path / "run"
    assert finish(start(train, make_plan(steps=2).to_dict(), out)) == [0]
    before = weights(out, 2)
    shutil.rmtree(out / "checkpoints")
    shutil.copytree(corpus, tmp_path / "moved")
    assert finish(start(train, make_plan(steps=2, data=str(tmp_path / "moved")).to_dict(), out)) == [0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(out, 2).items())


def test_a_tracker_that_is_not_installed_is_refused(make_plan, tmp_path):
    plan = make_plan(trackers=["tensorboard", "wandb"])
    assert finish(start(train, plan.to_dict(), tmp_path / "run")) == [2]
    assert "trackers must be installed; wandb are not" in (tmp_path / "run.error").read_text()


def test_two_processes_do_not_train_in_one_folder(make_plan, tmp_path):
    plan = make_plan(steps=400)
    out = tmp_path / "run"
    first = start(train, plan.to_dict(), out)
    wait_for_step(out, 1)
    assert finish(start(train, plan.to_dict(), out)) == [2]
    assert "another process trains in" in (tmp_path / "run.error").read_text()
    first.kill()
    finish(first)


def test_a_diverging_run_stops_and_names_the_last_good_state(make_plan, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    plan = make_plan(steps=40, warmup_steps=20, peak_learning_rate=1e30, max_gradient_norm=1e30, save_every=1)
    with pytest.raises(Diverged, match=r"the last good state is .*step-0000000\d") as diverged:
        pretrain(plan, tmp_path / "run")
    assert str(diverged.value).endswith("help: in a new folder")  # there is no checkpoint to start from


def test_running_out_of_memory_says_what_to_change(make_plan, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("curr_ab.pretraining.step.summed_loss", exhausted)
    with pytest.raises(ValueError, match=r"pairs_per_micro_batch below 2.*activation_checkpointing.*FSDP2"):
        pretrain(make_plan(), tmp_path / "run")
