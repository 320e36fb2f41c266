"""The pool of processes: order, errors, and the ends of its workers."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from support.dask_cluster import dask_client
from support.kills import beginnings, count_beginnings, curr_ab, fail_to_begin, kill_one

from curr_ab.workers import Workers, describe_end, map_chunks, num_cores

__all__ = ["dask_client"]

# Tasks of the standard library: a worker must find them, and what `python -c` defines it does not.
SLEEPING = """
import sys, time
from curr_ab.workers import Workers
try:
    with Workers(2) as workers:
        workers.run(time.sleep, [60] * 4, "sleep")
except OSError as error:
    print("curr-ab:", error, file=sys.stderr)
    sys.exit(2)
"""

# A worker's start, in the midst of which all processes of the terminal are asked to end.
STOPPED = """
import os, signal, sys, time
from multiprocessing import popen_spawn_posix
from curr_ab.training.stop import Stopped, stoppable
from curr_ab.workers import Workers
number, launch = int(sys.argv[1]), popen_spawn_posix.Popen._launch
def launch_and_stop(self, process):
    launch(self, process)
    os.killpg(0, number)
popen_spawn_posix.Popen._launch = launch_and_stop
try:
    with stoppable(), Workers(2) as workers:
        workers.run(time.sleep, [60] * 4, "sleep")
except Stopped as stopped:
    sys.exit(128 + stopped.signal_number)
"""


@pytest.mark.heavy
def test_results_come_in_the_order_of_the_tasks():
    with Workers(2) as workers:
        assert workers.run(abs, range(-20, 0), "abs") == list(range(20, 0, -1))
        assert workers.run(str, [1, 2], "the same processes serve the next stage") == ["1", "2"]


@pytest.mark.heavy
def test_tasks_are_taken_as_workers_have_room():
    """A stream of any length is never in memory whole."""
    taken = []

    def tasks():
        for number in range(50):
            taken.append(number)
            yield number

    with Workers(2) as workers:
        done = 0
        for place, result in workers.completed(abs, tasks()):
            assert place == result
            done += 1
            assert len(taken) - done <= 4
    assert done == 50


@pytest.mark.heavy
def test_an_error_of_a_task_or_of_a_beginning_is_what_the_caller_gets():
    with Workers(2) as workers, pytest.raises(ValueError, match="invalid literal for int"):
        workers.run(int, ["1", "x", "2"], "int")
    with (
        Workers(2, begin=fail_to_begin) as workers,
        pytest.raises(LookupError, match=r"no begin in worker [01]"),
    ):
        workers.run(abs, [1, 2], "abs")


@pytest.mark.heavy
def test_tasks_go_to_another_executor():
    """Which begins once for each of its processes, does any number of stages, and is left running."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        with Workers(1, executor=pool, begin=count_beginnings) as workers:
            assert workers.run(abs, range(-20, 0), "abs") == list(range(20, 0, -1))
            assert workers.run(beginnings, ["one", "two"], "the same workers, which have begun") == [1, 1]
            with pytest.raises(ValueError, match="invalid literal for int"):
                workers.run(int, ["1", "x", "2"], "int")
        with Workers(1, executor=pool, begin=count_beginnings) as workers:
            assert workers.run(beginnings, ["one", "two"], "others begin anew") == [2, 2]
        assert pool.submit(abs, -1).result() == 1


def test_threads_of_an_executor_begin_once():
    began = []
    with ThreadPoolExecutor(4) as pool, Workers(1, executor=pool, begin=began.append) as workers:
        assert workers.run(abs, range(-20, 0), "abs") == list(range(20, 0, -1))
    assert began == [0]


def test_an_executor_is_given_no_more_than_it_can_soon_do():
    taken = []

    def tasks():
        for number in range(500):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(1) as pool, Workers(1, executor=pool) as workers:
        for done, _ in enumerate(workers.completed(abs, tasks())):
            assert len(taken) - done <= 100


@pytest.mark.heavy
def test_a_lost_worker_of_an_executor_is_one_line():
    with (
        ProcessPoolExecutor(2, get_context("spawn")) as pool,
        Workers(2, executor=pool) as workers,
        pytest.raises(ChildProcessError) as caught,
    ):
        workers.run(os._exit, [9] * 3, "exit")
    assert re.fullmatch(
        r"a worker of the executor was lost \(A process in the process pool was terminated abruptly.*\); "
        "run the same again, it goes on",
        str(caught.value),
    )


@pytest.mark.heavy
def test_a_task_that_ends_every_worker_of_dask_is_one_line(dask_client):
    with (
        dask_client.get_executor() as executor,
        Workers(2, executor=executor) as workers,
        pytest.raises(ChildProcessError) as caught,
    ):
        workers.run(os._exit, [9] * 3, "exit")
    dask_client.wait_for_workers(2, timeout=60)  # it starts them anew, and cannot be closed meanwhile
    assert re.fullmatch(
        r"a worker of the executor was lost \(Attempted to run task .* on 4 different workers, but all those "
        r"workers died while running it\); run the same again, it goes on",
        str(caught.value),
    )


def test_the_number_of_processes_is_checked():
    with pytest.raises(ValueError, match="the number of processes must be at least 1; got 0"):
        Workers(0)


@pytest.mark.parametrize("victim", ["worker", "parent"])
def test_a_killed_process_leaves_no_other(victim):
    ended = kill_one([sys.executable, "-c", SLEEPING], victim, after=1.5)
    assert ended.left == []
    if victim == "worker":
        assert ended.status == 2
        assert ended.message == (
            "a worker process was killed (signal 9; out of memory?); run the same command again, it goes on; "
            "or fewer processes with --processes"
        )
    else:
        assert ended.status == -signal.SIGKILL


def test_ctrl_c_ends_the_workers_at_once():
    """As in a terminal, where it reaches every process; no worker shows a traceback."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPING], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(3)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert error.count("Traceback") == 1 and error.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda one: one.name)
def test_a_stop_while_a_worker_starts_is_quiet(number):
    """Neither the pool, nor a worker that is not ready, nor Python's tracker of semaphores says a word."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(int(number))],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (128 + number, "")


@pytest.mark.heavy
def test_workers_leave_ctrl_c_to_their_parent():
    with Workers(2) as workers:
        assert workers.run(signal.raise_signal, [signal.SIGINT] * 2, "SIGINT") == [None, None]


def test_a_script_without_a_guard_is_told_of_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from curr_ab.workers import Workers\nWorkers(2).run(abs, [1, 2], 'abs')\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    # Python may warn of semaphores after it, where the pool's own workers end at the same moment.
    [error] = [line for line in done.stderr.splitlines() if line.startswith("ChildProcessError: ")]
    assert "ended with status 1 before its first task; a script that starts processes must" in error


def test_ends_are_described():
    assert describe_end(3) == "ended with status 3"
    assert describe_end(-signal.SIGKILL) == "was killed (signal 9; out of memory?)"
    assert describe_end(-signal.SIGSEGV) == "was killed (signal 11)"


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= num_cores() <= os.cpu_count()
    if not hasattr(os, "sched_setaffinity"):  # macOS, Windows
        assert num_cores() == os.cpu_count()
        return
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    code += "from curr_ab.workers import num_cores; print(num_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.heavy
def test_chunks_give_the_same_with_any_number_of_workers(monkeypatch):
    monkeypatch.setattr("curr_ab.workers._WORTH_A_POOL", 0.0)
    found = [
        map_chunks(sorted, [(n, 7 - n) for n in range(40)], workers=workers, progress=False, label="sort")
        for workers in (1, 2)
    ]
    assert found[0] == found[1] == [(n, 7 - n) for n in range(40)]


def test_the_ground_floor_needs_no_library():
    code = "import sys, curr_ab.workers, curr_ab.files;"
    code += "print([n for n in ('numpy', 'tqdm', 'threadpoolctl', 'torch', 'pyarrow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("victim", ["worker", "parent"])
def test_a_killed_fit_of_a_law_leaves_no_process(victim, tmp_path, capfd):
    from curr_ab.cli.main import main
    from curr_ab.scaling import published_runs

    runs = published_runs("test-loss-2025-05")
    table = zip(runs.parameters, runs.sequences, runs.loss, strict=True)
    path = tmp_path / "runs.csv"
    path.write_text("parameters,sequences,loss\n" + "".join(f"{n:.0f},{d:.0f},{x}\n" for n, d, x in table))
    arguments = ["scaling", "fit", path, "--law", "iso-data", "--draws", "64", "--json"]
    setup = "import curr_ab.workers; curr_ab.workers._WORTH_A_POOL = 0.0"
    command = curr_ab(*arguments, "--workers", "2", setup=setup)
    ended = kill_one(command, victim)
    assert ended.left == []
    if victim == "worker":
        assert ended.status == 2
        assert ended.message == (
            "a worker process was killed (signal 9; out of memory?); run the same command again; or fewer "
            "processes with --workers"
        )
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert main([*map(str, arguments), "--workers", "1"]) == 0
    assert capfd.readouterr().out == again
