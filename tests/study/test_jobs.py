"""Cells in jobs on machines of the Hub: one for each, in their order, and what is made of them here."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import yaml

from curr_ab.hub.job_folder import SETTINGS
from tests.hub.conftest import running_hub
from tests.hub.test_jobs_going_on import machine
from tests.study.conftest import MICRO, cell

BUCKET = "hf://buckets/curator/runs/study"
pytestmark = pytest.mark.skipif(not hasattr(huggingface_hub, "Volume"), reason="an early client")
JOBS = ("--launcher", "jobs", "--bucket", BUCKET, "--install", "no")


@pytest.fixture
def hub(tmp_path):
    (tmp_path / "server").mkdir()
    with running_hub(tmp_path / "server") as hub:
        hub._call("POST", "buckets", {"name": "curator/runs"})
        yield hub


@pytest.mark.heavy
def test_the_paper_is_fifteen_jobs_on_gpus_by_their_size(hub, prepared, tmp_path) -> None:
    study = tmp_path / "study"
    words = ("study", "--preset", "paper", "--data", prepared, "--out", study, *JOBS)
    said = hub.run(*words, "--flavor", "h200", "--dry-run", code=2)
    assert "flavor must have 2 GPUs for cell 150M-F; got h200 with 1: choose a larger one" in said
    said = hub.run(*words, "--flavor", "a100x4", "--dry-run")
    assert "machine   a100x4: 4x Nvidia A100, 4 x A100 with 320 GB" in said and "$12.00 an hour" in said
    assert "limits    1d for each of 3 attempts, 15 jobs: at most $12,960.00" in said
    assert said.count(": hf://buckets/curator/runs/study/cells/") == 15 and "\nexpected  " in said
    assert not study.exists()
    assert hub._call("GET", "jobs") == []

    # More than they need is said, and is not refused: a machine has the GPUs that it has.
    assert said.count(", on 1 of 4 GPUs") == 6 and said.count(", on 2 of 4 GPUs") == 3

    words = (*words, "--set", "launch.gpus_per_cell=4")
    limited = (*words, "--flavor", "a100x4", "--max-parallel", "2", "--only", "8M-F", "8M-H", "8M-Q")
    said = hub.run(*limited)
    assert "cell 8M-Q: waits, 2 jobs are live; the same command starts it later" in said
    assert f"hf buckets sync {prepared} {BUCKET}/data" in said
    assert f"hf buckets sync {BUCKET}/cells {study}/cells" in said
    first, second = hub._call("GET", "jobs")
    for job, name in ((first, "8M-F"), (second, "8M-H")):
        assert f"/hf/buckets/curator/runs/study/cells/{name}/run" in job["command"]
        assert job["command"][job["command"].index("--num_processes") + 1] == "4"
        assert yaml.safe_load(job["environment"][SETTINGS])["member"] == name
    hub._call("POST", "jobs", {"number": 0, "stage": "COMPLETED"})
    said = hub.run(*limited)
    assert "cell 8M-F: " in said and "has completed" in said and "is SCHEDULING already" in said
    third = hub._call("GET", "jobs")[2]
    assert "/hf/buckets/curator/runs/study/cells/8M-Q/run" in third["command"]


@pytest.mark.heavy
def test_a_restart_throws_nothing_away(hub, prepared, tmp_path) -> None:
    """The run is in the bucket, from which a job would go on; what is here stays."""
    study = tmp_path / "my study"
    words = ("study", "--preset", "paper", "--data", prepared, "--out", study, *JOBS, "--flavor", "a100x4")
    said = hub.run(*words, "--only", "8M-F")
    assert f"hf buckets sync {BUCKET}/cells '{study}/cells'" in said
    kept = study / "cells" / "8M-F" / "run" / "log.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.touch()
    for more in ((), ("--dry-run",)):
        said = hub.run(*words, "--restart", "8M-F", *more, code=2)
        assert (
            "restart must be left out for the launcher jobs; got 8M-F, whose runs are in the bucket" in said
        )
    assert kept.exists() and len(hub._call("GET", "jobs")) == 1


@pytest.mark.heavy
def test_options_of_jobs_without_jobs(hub, prepared) -> None:
    words = ("study", "--preset", "paper", "--data", prepared, "--dry-run")
    assert "bucket must be left out for the launcher local" in hub.run(*words, "--bucket", BUCKET, code=2)
    said = hub.run(*words, "--launcher", "jobs", "--flavor", "a100x4", code=2)
    assert "bucket must be a folder in a bucket, hf://buckets/OWNER/NAME/FOLDER, for the launcher" in said


@pytest.mark.slow
def test_cells_that_jobs_have_trained_are_gone_on_with_here(hub, prepared, tmp_path) -> None:
    """A causal cell, and after it the masked one that starts from its weights: by the plans from here."""
    shape = {name: MICRO["sizes"][name] for name in ("8M",)}
    preset = MICRO | {"sizes": shape, "transfer": {"clm_steps": [4], "mlm_steps": [4]}}
    preset["data"] = {"subsets": {"F": 1.0}}
    (tmp_path / "micro.yaml").write_text(yaml.safe_dump({k: v for k, v in preset.items() if k != "name"}))
    study, bucket = tmp_path / "study", tmp_path / "hf" / "buckets" / "curator" / "runs" / "study"
    shutil.copytree(prepared, bucket / "data")
    words = ("study", "--preset", tmp_path / "micro.yaml", "--data", prepared, "--out", study)
    jobs = (*JOBS, "--flavor", "cpu-basic")
    said = hub.run(*words, *jobs)
    assert said.splitlines()[-2] == "# and the same command starts those that go on from them: 8M-F-clm4-mlm4"
    done = 0
    for names in (["8M-F", "8M-F-clm4"], ["8M-F-clm4-mlm4"]):
        sent = hub._call("GET", "jobs")[done:]
        assert len(sent) == len(names)
        for job, name in zip(sent, names, strict=True):
            process = machine(job, tmp_path, done)
            assert process.wait() == 0, (name, process.communicate()[1])
            process.communicate()
            hub._call("POST", "jobs", {"number": done, "stage": "COMPLETED"})
            done += 1
        shutil.copytree(bucket / "cells", study / "cells", dirs_exist_ok=True)
        said = hub.run(*words, *jobs)
    # Nothing was left to train: the same command has evaluated and reported.
    assert "3 cells (3 done)" in said and len(hub._call("GET", "jobs")) == 3
    start = json.loads((cell(study, "8M-F-clm4-mlm4").run.checkpoint(4) / "training.json").read_text())
    assert start["seen"]
