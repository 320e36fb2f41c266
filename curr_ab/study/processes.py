"""Cells side by side on this machine, each in a process of its own, until all have ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from curr_ab.training.stop import Interrupted, StopRequest
from curr_ab.workers import describe_end, num_cores

if TYPE_CHECKING:
    from curr_ab.study.cell_process import CellTask

# Imported once, by the server from which the cells' processes are forked.
_PRELOADED = [
    "curr_ab.study.cell_process",
    "curr_ab.checkpoints",
    "curr_ab.evaluation.suites.loss",
    "curr_ab.evaluation.suites.classification",
]
Slot = Mapping[str, str]  # environment of the cells that run in it, one after the other


def run_cells(
    tasks: Mapping[str, CellTask], slots: Sequence[Slot], show: Callable[[Sequence[str]], None]
) -> None:
    """Run all tasks, one in each slot; `show` gets the names of those that run, every second.

    A task begins when the one has ended whose weights it starts from.

    What becomes of a cell stands in its state. A wish to stop is passed on to all; they save theirs.
    """
    assert slots
    context = cell_context()
    free, waiting = list(slots), list(tasks)
    running: dict[str, tuple[BaseProcess, Slot]] = {}
    asked = False
    try:
        with StopRequest() as stop:
            while running or (waiting and not stop.signal_number):
                while free and (name := _next(tasks, waiting, running)) and not stop.signal_number:
                    waiting.remove(name)
                    slot = free.pop(0)
                    running[name] = _start(context, tasks[name], slot), slot
                if stop.signal_number and not asked:
                    for process, _ in running.values():
                        process.terminate()
                    asked = True
                show(list(running))
                wait([process.sentinel for process, _ in running.values()], timeout=1)
                for name in [name for name, (process, _) in running.items() if not process.is_alive()]:
                    process, slot = running.pop(name)
                    free.append(slot)
                    _end_group(process)
                    if not asked:
                        _note_problem(tasks[name], process)
            show([])
    finally:
        for process, _ in running.values():  # after a second Ctrl-C
            process.kill()
            process.join()
            _end_group(process)
    if stop.signal_number:
        raise Interrupted("stopped; the same command goes on", stop.signal_number)


def _next(tasks: Mapping[str, CellTask], waiting: Sequence[str], running: Mapping[str, object]) -> str | None:
    """The first that waits for none of the others."""
    return next(
        (name for name in waiting if tasks[name].after not in waiting and tasks[name].after not in running),
        None,
    )


def cell_context() -> Any:
    """Cells are forked from a server that has imported what they need; without one they are spawned."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    # Server and cells outlive a closed terminal: the study tells the cells, and they save their states.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGHUP, before)
    return context


def _start(context: Any, task: CellTask, slot: Slot) -> BaseProcess:
    from curr_ab.study.cell_process import make_cell

    task.folder.note(problem=None)
    environment = {**slot, **task.environment}
    process: BaseProcess = context.Process(target=make_cell, args=(replace(task, environment=environment),))
    process.start()
    return process


def _end_group(process: BaseProcess) -> None:
    """End the processes that a killed cell has started, such as `accelerate launch`, and that outlive it."""
    if process.exitcode and process.pid and hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def _note_problem(task: CellTask, process: BaseProcess) -> None:
    """Write down the problem of a process that could not do so itself."""
    status = process.exitcode
    if not status or task.folder.problem:
        return
    advice = "; the same command goes on, with fewer cells at a time (--max-parallel) in less memory"
    task.folder.note(problem=f"its process {describe_end(status)}{advice if status < 0 else ''}")


def slots_of(num_gpus: int, gpus_per_cell: int, threads_per_cell: int, max_parallel: int) -> list[Slot]:
    """Room for cells on this machine: by GPUs where cells need some, else by processor cores."""
    if gpus_per_cell:
        room = num_gpus // gpus_per_cell
        devices = [range(n * gpus_per_cell, (n + 1) * gpus_per_cell) for n in range(room)]
    else:
        room = max(1, num_cores() // threads_per_cell)
        devices = [range(n % num_gpus, n % num_gpus + 1) if num_gpus else range(0) for n in range(room)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if num_gpus else []
    names = visible if len(visible) == num_gpus else [str(number) for number in range(num_gpus)]
    limit = max_parallel or room
    slots: list[Slot] = [
        {"CUDA_VISIBLE_DEVICES": ",".join(names[n] for n in used)} if used else {} for used in devices
    ]
    return slots[:limit] if gpus_per_cell else (slots * limit)[:limit]
