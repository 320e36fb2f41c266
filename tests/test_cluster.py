"""The command of a task: what of the user's words it keeps; and what Slurm cannot be asked for."""

import os
import sys

import pytest

from curr_ab.cli.main import main
from curr_ab.cluster import ExecutorOptions, run_in_tasks

PREPARE = ["data", "prepare", "a.csv", "--out", "shards"]


@pytest.fixture
def steps(monkeypatch, tmp_path):
    """The steps of the pipelines that are run, with what else their executor is given."""
    from datatrove import executor as datatrove

    given = []

    class Recording:
        def __init__(self, pipeline, **options):
            given.append((*pipeline, options))

        def run(self):
            pass

    monkeypatch.setattr(datatrove, "LocalPipelineExecutor", Recording)
    monkeypatch.chdir(tmp_path)
    return given


@pytest.mark.parametrize(
    "words",
    [
        "data prepare a.csv --executor local-tasks --tasks 4 --out x -- -b.csv",
        "data prepare --tasks=4 a.csv --executor=local-tasks --out x -- -b.csv",
        "data prepare a.csv --processes 3 --executor local-tasks --tasks 4 --slurm --out x -- -b.csv",
        "data prepare a.csv --slurm a=1 b=2 --executor local-tasks --tasks 4 --out x -- -b.csv",
    ],
    ids=["words", "with equals signs", "with an empty list", "with a list"],
)
def test_a_task_has_the_command_with_a_share_in_place_of_the_options_of_tasks(words, steps, tmp_path):
    run_in_tasks(words.split(), ExecutorOptions(executor="local-tasks", tasks=4), tmp_path / "x", processes=3)
    ((step, options),) = steps
    kept = " ".join([*step.before, *step.after])
    assert kept == "data prepare a.csv --processes 1 --quiet --out x -- -b.csv"
    assert step.before[-1] == "--quiet"  # before the share
    assert step.folder == os.getcwd()
    folder = str(tmp_path / "x.tasks")
    assert options == {"tasks": 4, "workers": 3, "logging_dir": folder, "skip_completed": False}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--executor slurn", "did you mean slurm? (--executor)"),
        ("--tasks 3", "tasks must be left out for the executor processes (--tasks, --executor)"),
        ("--executor slurm --slurm partition=cpu time=1:00:00", "tasks must be given for the executor slurm"),
        ("--executor slurm --tasks 3", "slurm must have partition and time, as in partition=cpu time="),
        ("--executor slurm --tasks 3 --slurm partition=cpu", "slurm must have time, as in"),
        ("--executor local-tasks --tasks 3 --slurm time=1", "slurm must be left out for the executor local-"),
        (
            "--executor local-tasks --tasks 3 --shard 0/3",
            "shard must be left out for the executor local-tasks",
        ),
        ("--shard 3/3", "a share must be from 0/3 to 2/3; got 3/3 (--shard)"),
    ],
    ids=range(8),
)
def test_wrong_options_are_one_line(options, problem, capsys):
    assert main([*PREPARE, *options.split()]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("cpus_per_task=many", "slurm must have a whole number for cpus_per_task; got 'many'"),
        ("requeue=maybe", "slurm must have yes or no for requeue; got 'maybe'"),
        ("logging-dir=x", "slurm must leave out logging-dir, which the command decides"),
        ("account=lab", "executor must be slurm on a machine with sbatch alone"),
    ],
    ids=["number", "switch", "decided", "no sbatch"],
)
def test_settings_of_slurm_are_checked(setting, problem, capsys, monkeypatch, tmp_path):
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", "" if setting == "account=lab" else str(tmp_path))
    wanted = ["--executor", "slurm", "--tasks", "3", "--slurm", "partition=cpu", "time=1:00:00", setting]
    assert main([*PREPARE, *wanted]) == 2
    assert problem in capsys.readouterr().err


def test_tasks_do_not_join(capsys, tmp_path):
    command = ["score", "8M-F", "pairs.csv", "--out", str(tmp_path / "x.csv"), "--join"]
    assert main([*command, "--executor", "local-tasks", "--tasks", "3"]) == 2
    assert (
        "join must be left out for the executor local-tasks (--join, --executor)" in capsys.readouterr().err
    )


def test_without_datatrove_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "datatrove.executor", None)
    assert main([*PREPARE, "--executor", "local-tasks", "--tasks", "3"]) == 2
    assert 'datatrove is missing: pip install "curr-ab[slurm]"' in capsys.readouterr().err
