"""The process of one cell: it trains, evaluates, writes down how far it came, and ends with the study."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from curr_ab.evaluation.run import run_suite
from curr_ab.files import claimed
from curr_ab.pretraining.loop import pretrain
from curr_ab.pretraining.plan import PretrainingPlan
from curr_ab.results import Result, write_results
from curr_ab.study.cells import CellFolder
from curr_ab.study.preset import suite_options
from curr_ab.training.stop import Interrupted, StopRequest
from curr_ab.workers import end_with_parent


@dataclass(frozen=True)
class CellTask:
    """All that the process needs to know."""

    folder: CellFolder
    member: str
    plan: PretrainingPlan
    evaluation: Mapping[str, Mapping[str, Any]]
    key: Mapping[str, Any]  # of `evaluation_key`
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)
    after: str = ""  # the cell whose weights it starts from
    command: Sequence[str] = ()  # trains in processes of its own; empty: in this one


def make_cell(task: CellTask) -> None:
    """The body of the process; exit status 1 after a problem, which the cell's state tells."""
    os.environ.update(task.environment, OMP_NUM_THREADS=str(task.threads), TQDM_DISABLE="1")
    torch.set_num_threads(task.threads)
    disable_progress_bar()
    tqdm.set_lock(threading.RLock())  # its own would be left behind by a process that is killed
    _write_to(task.folder.log_file)
    if hasattr(os, "setpgid"):  # so that what this process starts can be ended when it is killed
        os.setpgid(0, 0)
    child = _Child()
    end_with_parent(child.stop)
    try:
        # A process whose study was killed a moment ago may still be here.
        with claimed(task.folder.path, "works in", wait=True):
            if not task.folder.trained(task.plan.steps):
                _train(task, child)
            if not task.folder.evaluated(task.key):
                _evaluate(task)
            task.folder.note(problem=None)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(stopped.exit_status) from None
    except Exception as error:
        if isinstance(error, ValueError | OSError):
            print(error, file=sys.stderr)
        else:
            traceback.print_exc()
        task.folder.note(problem=" ".join(str(error).split()) or type(error).__name__)
        raise SystemExit(1) from None


def _write_to(log: Path) -> None:
    """Both streams, of this process and of what it starts, into the cell's log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


class _Child:
    """The command that trains the cell, while it runs."""

    process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """It saves its state, then ends."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


def _train(task: CellTask, child: _Child) -> None:
    if task.after and task.plan.init_from and not Path(task.plan.init_from).is_dir():
        raise ValueError(
            f"{task.after} must be trained first, whose weights this cell starts from; got no "
            f"{task.plan.init_from}: make that cell, then the same command goes on"
        )
    if not task.command:
        pretrain(task.plan, task.folder.run.path)
        return
    with StopRequest() as stop:
        child.process = subprocess.Popen(task.command, env=os.environ)
        while True:
            try:
                status = child.process.wait(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if stop.signal_number:
                    child.process.send_signal(stop.signal_number)
        child.process = None
    if stop.signal_number:
        raise Interrupted("stopped; the same command goes on", stop.signal_number)
    if status or not task.folder.trained(task.plan.steps):
        last = task.folder.log_file.read_text().rstrip().rpartition("\n")[2]
        raise ValueError(f"{task.command[0]} ended with status {status}: {last}")


def _evaluate(task: CellTask) -> None:
    """The suites' numbers, under the member's name, which the checkpoint of a rehearsal does not say."""
    prepared = Path(task.plan.data)
    held_out = sorted(map(str, prepared.glob("test-*.parquet")))
    checkpoint = task.folder.run.checkpoint(task.plan.steps)
    rows: list[Result] = []
    for suite, options in task.evaluation.items():
        given = suite_options(options)
        if suite == "generation":
            given.setdefault("train", str(prepared))
        data = given.pop("data", prepared if suite in ("loss", "regions") else held_out)
        found = run_suite(suite, checkpoint, data, task.folder.path / "evaluation", name=task.member, **given)
        rows += [replace(row, model=task.member) for row in found]
    write_results(task.folder.results_file, rows)
    task.folder.note(evaluated=task.key)
