"""`accelerate launch` that is killed or asked to end: its workers save a state, and nobody is left."""

import json
import signal
import subprocess
import time

import psutil
import pytest
import yaml
from support.training_processes import launching

from curr_ab.pretraining.run_folder import RunFolder
from curr_ab.training.state import read_log

STEPS = 4_000


def steps_of(out):
    return [entry["step"] for entry in read_log(out) if "loss" in entry]


@pytest.fixture
def launched(make_plan, tmp_path):
    """Launch a long training, and give the launcher and its workers once they train."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(make_plan(steps=STEPS, save_every=STEPS).to_dict()))
    started = []

    def launch(config, cpus):
        arguments = ("--plan", str(plan), "--out", str(tmp_path / "run"))
        command, environment = launching("pretrain.py", config, *arguments, cpus=cpus)
        said = tmp_path / "said.txt"
        with said.open("w") as log:
            launcher = psutil.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        started.append(launcher)
        until, log = time.monotonic() + 180, RunFolder(tmp_path / "run").log_file
        while not (log.exists() and len(steps_of(tmp_path / "run")) >= 2):
            assert launcher.poll() is None and time.monotonic() < until, said.read_text()
            time.sleep(0.05)
        workers = launcher.children(recursive=True)
        started.extend(workers)
        return launcher, workers

    yield launch
    for process in started:
        if process.is_running():
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "config", "cpus"),
    [
        (signal.SIGKILL, "ddp.yaml", 2),
        (signal.SIGTERM, "ddp.yaml", 2),
        (signal.SIGINT, "ddp.yaml", 2),
        (signal.SIGHUP, "ddp.yaml", 2),
        (signal.SIGTERM, "one_process.yaml", None),
    ],
)
def test_workers_end_with_their_launcher_and_have_saved(launched, tmp_path, number, config, cpus):
    launcher, workers = launched(config, cpus)
    assert len([one for one in workers if "pretrain.py" in " ".join(one.cmdline())]) == (cpus or 1)
    launcher.send_signal(number)
    _, left = psutil.wait_procs([launcher, *workers], timeout=60)
    assert left == []
    state = RunFolder(tmp_path / "run").newest_state
    assert state is not None, (tmp_path / "said.txt").read_text()
    step = json.loads((state / "complete.json").read_text())["step"]
    assert 2 <= step == steps_of(tmp_path / "run")[-1] < STEPS
