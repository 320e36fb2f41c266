"""The command of a job as a machine runs it: lost in the middle, and gone on with by the next attempt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file
from support.tiny_models import TINY

from curr_ab.data import PreparationPlan, builtin_path, prepare
from curr_ab.hub.job_folder import SETTINGS

PLAN = {
    "steps": 60,
    "warmup_steps": 2,
    "pairs_per_step": 4,
    "peak_learning_rate": 3e-3,
    "precision": "fp32",
    "log_every": 1,
    "save_every": 2,
    "evaluate_every": 100,
    "evaluation_pairs": 4,
    "config": TINY,
}


@pytest.fixture
def job(hub, tmp_path):
    """What the Hub is sent for a run of seconds; `tmp_path / hf` stands for what is mounted."""
    bucket = tmp_path / "hf" / "buckets" / "curator" / "runs"
    source = tmp_path / "pairs.parquet"
    pq.write_table(pq.read_table(builtin_path()).slice(0, 300), source)
    prepare([str(source)], bucket / "pairs", PreparationPlan(cluster="exact"))
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    hub._call("POST", "buckets", {"name": "curator/runs"})
    here = "hf://buckets/curator/runs"
    words = ("pretrain", "8M-F", "--plan", tmp_path / "plan.yaml", "--data", f"{here}/pairs")
    job = ("--launcher", "jobs", "--flavor", "cpu-basic", "--install", "no")
    hub.run(*words, "--out", f"{here}/run", *job)
    (sent,) = hub._call("GET", "jobs")
    return sent


def machine(job: dict, root: Path, number: int) -> subprocess.Popen:
    """The job's command on a machine of its own, on which the bucket is mounted."""
    words = [word.replace("/tmp/curr-ab", f"{root}/machine-{number}") for word in job["command"]]
    words = [sys.executable if word == "python" else word.replace("/hf/", f"{root}/hf/") for word in words]
    words[words.index("--") : words.index("--")] = ["--seconds", "0.1"]
    settings = job["environment"][SETTINGS].replace("/tmp/curr-ab", f"{root}/machine-{number}")
    environment = os.environ | {SETTINGS: settings, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def kept_states(bucket: Path) -> list[str]:
    names: list[str] = []
    for path in (bucket / "run").glob("kept-*.json"):
        try:
            names += json.loads(path.read_text())["files"]
        except ValueError:  # while it is written
            continue
    return [name for name in names if name.endswith("/complete.json")]


@pytest.mark.heavy
@pytest.mark.skipif(not hasattr(huggingface_hub, "Volume"), reason="an early client has no volumes")
def test_a_lost_machine_costs_a_minute_and_no_bit(job, tmp_path) -> None:
    bucket = tmp_path / "hf" / "buckets" / "curator" / "runs"
    first = machine(job, tmp_path, 1)
    while not kept_states(bucket):
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)  # all of the machine at once
    first.communicate()
    assert not (bucket / "run" / "results.json").exists()
    second = machine(job, tmp_path, 2)
    said = second.communicate()[1]
    assert second.returncode == 0, said
    assert "files of an earlier attempt" in said and "begins anew" not in said
    log = [json.loads(line) for line in (bucket / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in log if "pairs_per_second" in line]
    assert steps == list(range(1, 61))
    # A run of its own that nobody has disturbed.
    settings = {**yaml.safe_load(job["environment"][SETTINGS]), "data": str(bucket / "pairs")}
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(settings))
    words = [sys.executable, "-m", "curr_ab", "pretrain", "--plan", tmp_path / "whole.yaml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*map(str, words), "--out", str(tmp_path / "whole")], env=environment, check=True)
    one, other = (
        load_file(folder / "checkpoints" / "step60" / "model.safetensors")
        for folder in (bucket / "run", tmp_path / "whole")
    )
    assert all(one[name].equal(other[name]) for name in other) and set(one) == set(other)
