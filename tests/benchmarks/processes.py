"""Ways to do a step, each in processes of its own, which take turns: their speeds, side by side."""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import TypeVar

Way = TypeVar("Way")
Step = Callable[[int], int]  # from the number of the step to the residues that it computed


def serve(make_step: Callable[[], Step], threads: int, rank: dict[str, str], pipe: Connection) -> None:
    """In a process of its own: wall time, processor time and residues of each step that is asked for."""
    os.environ.update({"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(threads), **rank})
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step = make_step()
    while (number := pipe.recv()) is not None:
        wall, processor = time.perf_counter(), time.process_time()
        residues = step(number)
        pipe.send((time.perf_counter() - wall, time.process_time() - processor, residues))


def start(make_step: Callable[[], Step], cores: int, count: int) -> list[Connection]:
    """`count` processes of one way, which share the cores; each answers on its pipe."""
    spawn = multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    pipes = []
    for rank in range(count):
        group = {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        group |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        mine, theirs = spawn.Pipe()
        arguments = (make_step, cores // count, group if count > 1 else {}, theirs)
        spawn.Process(target=serve, args=arguments, daemon=True).start()
        pipes.append(mine)
    return pipes


def measure(pipes: Mapping[Way, list[Connection]], repetitions: int) -> dict[Way, tuple[float, float]]:
    """Residues per second of wall and of processor time: medians over steps that the ways take in turn."""
    speeds: dict[Way, list[tuple[float, float]]] = {way: [] for way in pipes}
    for number in range(repetitions + 1):
        for way, group in pipes.items():
            for pipe in group:
                pipe.send(number)
            wall, processor, residues = zip(*(pipe.recv() for pipe in group), strict=True)
            if number:  # the first warms up
                speeds[way].append((residues[0] / max(wall), residues[0] / sum(processor)))
    for pipe in (pipe for group in pipes.values() for pipe in group):
        pipe.send(None)
    return {
        way: (statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found))
        for way, found in speeds.items()
    }
