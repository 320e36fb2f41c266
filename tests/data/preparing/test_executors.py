"""Preparation gives the same bytes wherever its tasks are done, and whoever of those who do them is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
from support.dask_cluster import dask_client
from support.kills import curr_ab
from support.pair_files import oas_text, plain_text

from curr_ab.data import PreparationPlan, prepare
from curr_ab.files import claimed
from curr_ab.share import Share

__all__ = ["dask_client"]

PLAN = PreparationPlan(cluster="exact", pairs_per_shard=100)
OPTIONS = ["--cluster", "exact", "--pairs-per-shard", "100", "--keep-dropped", "--quiet"]


@pytest.fixture
def sources(corpus, write) -> list[str]:
    """Six files that overlap."""
    texts = [plain_text(corpus[start : start + 150]) for start in range(0, 500, 100)]
    return [
        write("a.csv.gz", oas_text(corpus[:120])),
        *(write(f"{number}.csv", text) for number, text in enumerate(texts)),
    ]


def content(folder: Path) -> dict[str, bytes]:
    """Every file under its name, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def expected(sources, tmp_path) -> dict[str, bytes]:
    """What one process makes of them."""
    prepare(sources, tmp_path / "whole", PLAN, keep_dropped=True)
    return content(tmp_path / "whole")


def command(sources, out, *more, setup="pass"):
    return curr_ab("data", "prepare", *sources, "--out", out, *OPTIONS, *more, setup=setup)


def as_tasks(sources, out, *more):
    """A command of which each task is a process of its own."""
    return [sys.executable, "-m", "curr_ab", *command(sources, out, *more)[3:]]


def started(command: list[str]) -> subprocess.Popen[bytes]:
    """In a session of its own, so that all of its processes can be killed at once."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, start_new_session=True, stdout=quiet, stderr=quiet)


@pytest.mark.heavy
def test_same_bytes_by_any_executor(sources, tmp_path, expected) -> None:
    with ThreadPoolExecutor(3) as threads:
        prepare(sources, tmp_path / "threads", PLAN, keep_dropped=True, executor=threads)
        assert threads.submit(abs, -1).result() == 1  # whoever made it ends it
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        prepare(sources, tmp_path / "processes", PLAN, keep_dropped=True, executor=processes)
    assert content(tmp_path / "threads") == content(tmp_path / "processes") == expected


@pytest.mark.heavy
def test_same_bytes_by_two_workers_of_dask(sources, tmp_path, expected, dask_client) -> None:
    with dask_client.get_executor() as executor:
        prepare(sources, tmp_path / "dask", PLAN, keep_dropped=True, executor=executor)
        assert content(tmp_path / "dask") == expected


@pytest.mark.heavy
def test_same_bytes_by_three_shares_at_once(sources, tmp_path, expected) -> None:
    shares = [
        subprocess.Popen(command(sources, tmp_path / "shares", "--processes", processes, "--shard", f"{i}/3"))
        for i, processes in enumerate((1, 2, 1))
    ]
    assert [share.wait() for share in shares] == [0, 0, 0]
    assert content(tmp_path / "shares") == expected
    before = (tmp_path / "shares" / "dataset.json").stat().st_mtime_ns
    late = prepare(sources, tmp_path / "shares", PLAN, keep_dropped=True, share=Share(7, 9))
    assert late["fingerprint"] in expected["dataset.json"].decode()
    assert (tmp_path / "shares" / "dataset.json").stat().st_mtime_ns == before
    assert content(tmp_path / "shares") == expected


STUCK = "import time; from curr_ab import claims; claims.SharedWork._finish = lambda *a: time.sleep(600)"
IMPATIENT = "from curr_ab import claims; claims.LOST_AFTER = 2"


@pytest.mark.heavy
def test_a_lost_share_costs_its_task_alone(sources, tmp_path, expected) -> None:
    """And nobody else comes in between: neither a run without shares nor shares of another request."""
    out = tmp_path / "shares"
    claims = out / ".work" / "claims" / "read_and_clean"
    victim = subprocess.Popen(command(sources, out, "--processes", 1, "--shard", "0/3", setup=STUCK))
    try:
        wait_until(lambda: any(claims.glob("*.claim")))
        others = [
            subprocess.Popen(
                command(sources, out, "--processes", 1, "--shard", f"{i}/3", setup=IMPATIENT),
            )
            for i in (1, 2)
        ]
        wait_until(lambda: len([*claims.glob("*.done")]) == len(sources) - 1)
        with pytest.raises(ValueError, match=r"another process prepares in .*shares/\.work; wait for it"):
            prepare(sources, out, PLAN, keep_dropped=True)
        with pytest.raises(ValueError, match=r"shares at work in .*shares have other sources or settings"):
            prepare(sources, out, PLAN, share=Share(0, 2))
    finally:
        victim.kill()
        victim.wait()
    assert [other.wait(timeout=120) for other in others] == [0, 0]
    assert content(out) == expected


def wait_until(condition, seconds=120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.heavy
def test_a_share_waits_for_no_run_without_shares(sources, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("curr_ab.files._PATIENCE", 0.2)
    with (
        claimed(tmp_path / "out" / ".work", "prepares in"),
        pytest.raises(ValueError, match=r"another process prepares in .*out/\.work; wait for it or stop it"),
    ):
        prepare(sources, tmp_path / "out", PLAN, share=Share(0, 2))


def test_shares_read_files(tmp_path) -> None:
    with pytest.raises(ValueError, match="the sources of a share must be files"):
        prepare([{"heavy": "EVQ", "light": "DIQ"}], tmp_path / "out", share=Share(0, 2))


@pytest.mark.heavy
def test_same_bytes_by_tasks_of_datatrove_on_this_machine(sources, tmp_path, expected) -> None:
    out = tmp_path / "tasks"
    for tasks, processes in ((3, 2), (2, 1)):
        run = as_tasks(sources, out, "--executor", "local-tasks", "--tasks", tasks, "--processes", processes)
        subprocess.run(run, check=True, stderr=subprocess.DEVNULL)
        assert content(out) == expected
        shutil.rmtree(out)  # marks of the tasks that are done must not keep the next from working
    assert (tmp_path / "tasks.tasks" / "logs" / "task_00002.log").exists()


@pytest.mark.heavy
def test_an_error_of_a_task_is_one_line_at_the_end(write, tmp_path) -> None:
    bad = write("bad.csv", "id,heavy,light\n1,EVQL,DIQM\n")
    options = ["--executor", "local-tasks", "--tasks", 2, "--processes", 1]
    done = subprocess.run(as_tasks([bad], tmp_path / "out", *options), capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert last.startswith("curr-ab: task 0 of 2 ended with status 2: ") and "no usable record" in last


@pytest.mark.heavy
@pytest.mark.parametrize("processes", [1, 2])
def test_tasks_end_with_the_command_that_started_them(tmp_path, processes) -> None:
    options = ["--executor", "local-tasks", "--tasks", 2, "--processes", processes]
    with started(as_tasks(["builtin"], tmp_path / "out", *options)) as run:
        family = psutil.Process(run.pid)
        tasks: list[psutil.Process] = []
        while len(tasks) < processes:
            assert run.poll() is None
            tasks = [child for child in family.children(recursive=True) if is_task(child)]
        run.kill()
    _, left = psutil.wait_procs(tasks, timeout=5)
    for one in left:
        one.kill()
    assert left == []


def is_task(process: psutil.Process) -> bool:
    try:
        return "runpy.run_module('curr_ab'" in " ".join(process.cmdline())
    except psutil.Error:
        return False


SBATCH = r"""#!{python}
import os, pathlib, re, shutil, subprocess, sys
*options, script = sys.argv[1:]
kept = pathlib.Path(r"{record}", f"{{len(os.listdir(r'{record}'))}}.slurm")
shutil.copy(script, kept)
text = kept.read_text()
if "launch_pickled_pipeline" in text:
    last = int(re.search(r"--array=0-(\d+)", text)[1])
    slurm = {{"SLURM_ARRAY_TASK_COUNT": str(last + 1), "SLURM_NODELIST": "node1", "RUN_OFFSET": "0"}}
    tasks = [
        subprocess.Popen(["bash", str(kept)], env=os.environ | slurm | {{"SLURM_ARRAY_TASK_ID": str(i)}})
        for i in range(last + 1)
    ]
    assert not any([task.wait() for task in tasks])
print("Submitted batch job 4242")
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """Programs of Slurm's names that run the tasks here; a folder of the scripts that are submitted."""
    programs, record = tmp_path / "bin", tmp_path / "record"
    programs.mkdir()
    record.mkdir()
    texts = {
        "sbatch": SBATCH.format(python=sys.executable, record=record),
        "srun": '#!/bin/sh\nshift 3\nexec "$@"\n',  # -l -n 1
        "scontrol": "#!/bin/sh\necho node1\n",
    }
    for name, text in texts.items():
        path = programs / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return record


@pytest.mark.heavy
def test_slurm_is_given_one_array_that_does_the_work(sources, tmp_path, expected, slurm) -> None:
    out = tmp_path / "tasks"
    settings = ["partition=cpu", "time=1:00:00", "mem_per_cpu_gb=4", "workers=2", "account=lab"]
    more = ["--executor", "slurm", "--tasks", 3, "--slurm", *settings, "--processes", 2]
    done = subprocess.run(as_tasks(sources, out, *more), check=True, capture_output=True, text=True)
    script = tmp_path / "tasks.tasks" / "launch_script.slurm"
    assert f"job 4242: 3 tasks by {script}" in done.stdout
    text = script.read_text()
    assert text == (slurm / "0.slurm").read_text()
    for line in (
        "array=0-2%2",
        "partition=cpu",
        "time=1:00:00",
        "cpus-per-task=2",
        "mem-per-cpu=4G",
        "account=lab",
        "job-name=curr-ab",
    ):
        assert f"#SBATCH --{line}\n" in text
    assert "qos" not in text
    assert f"launch_pickled_pipeline {tmp_path}/tasks.tasks/executor.pik" in text
    assert f'export PATH={Path(sys.executable).parent}:"$PATH"' in text
    for path in (tmp_path / "tasks.tasks").rglob("*"):
        assert path.is_dir() or b"hf_secret" not in path.read_bytes()
    assert content(out) == expected


BY_DASK = """
import sys
from distributed import Client, LocalCluster
from curr_ab.data import PreparationPlan, prepare
if __name__ == "__main__":
    plan = PreparationPlan(cluster="exact", pairs_per_shard=100)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with LocalCluster(**options) as cluster, Client(cluster) as client, client.get_executor() as executor:
        prepare(sys.argv[2:], sys.argv[1], plan, keep_dropped=True, executor=executor)
"""


def ways(sources, out, script) -> dict[str, list[list[str]]]:
    """The commands of each way to do the same work."""
    local = ["--executor", "local-tasks", "--tasks", 3, "--processes", 2]
    shares = [
        command(sources, out, "--processes", i, "--shard", f"{i}/3", setup=IMPATIENT) for i in range(1, 3)
    ]
    return {
        "one process": [command(sources, out, "--processes", 1)],
        "processes": [command(sources, out, "--processes", 2)],
        "shares": [command(sources, out, "--processes", 1, "--shard", "0/3", setup=IMPATIENT), *shares],
        "tasks": [as_tasks(sources, out, *local)],
        "dask": [[sys.executable, str(script), str(out), *sources]],
    }


def begun_at(out: Path) -> int:
    """When somebody last took up the work."""
    path = out / ".work" / "request.json"
    return path.stat().st_mtime_ns if path.exists() else 0


def is_begun(out: Path, before: int, runs: list[subprocess.Popen[bytes]]) -> bool:
    return begun_at(out) not in (0, before) or any(run.poll() is not None for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["disk", "memory"])
def test_kill_at_any_moment_and_go_on_in_any_way(corpus, write, tmp_path, disk, request) -> None:
    """Ten times the whole work, or one of its shares, is killed; each time another way takes it up."""
    sources = [write(f"{i}.csv", plain_text(corpus[i * 250 : i * 250 + 400])) for i in range(10)]
    prepare(sources, tmp_path / "whole", PLAN, keep_dropped=True)
    place = tmp_path
    if disk == "memory":
        if not Path("/dev/shm").is_dir():
            pytest.skip("no file system in memory here")
        place = Path(tempfile.mkdtemp(dir="/dev/shm"))
        request.addfinalizer(lambda: shutil.rmtree(place))
    out, script = place / "out", tmp_path / "by_dask.py"
    script.write_text(BY_DASK)
    chance, num_killed = random.Random(disk), 0
    while num_killed < 10:
        way, commands = chance.choice([*ways(sources, out, script).items()])
        before = begun_at(out)
        runs = [started(one) for one in commands]
        wait_until(partial(is_begun, out, before, runs))
        time.sleep(chance.uniform(0, 1.5))
        victims = runs if chance.random() < 0.5 else runs[:1]
        num_killed += any(run.poll() is None for run in victims)
        for run in victims:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
        for run in runs:
            assert run.wait(timeout=300) in ((0, -signal.SIGKILL) if run in victims else (0,)), way
        if (out / "dataset.json").exists() and not (out / ".work").exists():
            assert content(out) == content(tmp_path / "whole"), way
            shutil.rmtree(out)
    subprocess.run(command(sources, out), check=True)
    assert content(out) == content(tmp_path / "whole")
