"""Processes that share work: the pool or another executor, the end of a worker, and why one ended."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar, cast

from curr_ab.extras import needs_extra

Task = TypeVar("Task")
Result = TypeVar("Result")
Item = TypeVar("Item")
_AHEAD = 2  # tasks of each worker that are under way: one to work on, one to go on with
_AHEAD_OF_EXECUTOR = 100  # the same for all workers of an executor, which does not say how many it has
_WORTH_A_POOL = 4.0  # seconds of work; starting processes takes one or two
# What asks a process to end; those that reach all processes of a terminal are a worker's to ignore.
_OF_TERMINAL = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))
_STOPS = (*_OF_TERMINAL, signal.SIGTERM)
_CHUNKS_PER_WORKER = 16  # enough to keep all busy and the bar moving, few enough to cost nothing


def num_cores() -> int:
    """Processor cores that this process may use, which a job of a cluster has fewer of than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(before: Callable[[], None] = lambda: None, parent: Any = None) -> None:
    """End this process, after `before`, when its parent is gone, which a killed parent cannot see to itself.

    A worker that waits for work would wait for ever: the pool's pipes stay open on the workers' side.
    The `parent` is that of another library's pool.
    """
    parent = parent or multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            connection.wait([sentinel])
            before()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def end_with_input() -> None:
    """End this process when its standard input ends, as that of a command whose caller was killed does."""

    def watch() -> None:
        while os.read(0, 1 << 10):  # not by `sys.stdin`, whose lock the end of Python waits for
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def describe_end(exit_code: int) -> str:
    """How a process ended that did not say it itself."""
    if exit_code >= 0:
        return f"ended with status {exit_code}"
    # Windows has no such signal, and no such end.
    memory = "; out of memory?" if -exit_code == getattr(signal, "SIGKILL", None) else ""
    return f"was killed (signal {-exit_code}{memory})"


class _Spawning(SpawnContext):
    """Spawned, not forked: pyarrow, torch and BLAS run threads, and a fork of a threaded process may hang.

    Remembers the processes, which a broken pool no longer knows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]
        process = SpawnProcess(*args, **options)
        process.name = str(len(self.processes))  # the worker's number, as `_work` reads it
        self.processes.append(process)
        return process


class Workers:
    """Processes that are started when they are first of use, serve every stage, and end with their parent.

    `begin` is called in each worker before its first task, with the worker's number. `after_a_kill` is what a
    user can do about a killed worker. An `executor` does the tasks instead, with workers of its own, all of
    number 0; whoever made it decides what they see, and ends it. One at a time may use an executor.
    """

    def __init__(
        self,
        processes: int,
        *,
        progress: bool = False,
        begin: Callable[[int], None] | None = None,
        after_a_kill: str = "run the same command again, it goes on; or fewer processes with --processes",
        executor: Executor | None = None,
    ) -> None:
        if processes < 1:
            raise ValueError(f"the number of processes must be at least 1; got {processes}")
        self.processes, self.progress, self._begin = processes, progress, begin
        self._after_a_kill, self._executor = after_a_kill, executor
        self._name = secrets.token_hex(8)  # by which a foreign worker knows that it has begun
        self._context = _Spawning()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C: nobody waits for tasks under way
            for process in self._context.processes:
                process.kill()  # one that has just been started holds SIGTERM back
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task], title: str) -> list[Result]:
        """Results in the order of the tasks, with a bar; the first error ends the run."""
        results: dict[int, Result] = {}
        with self.bar(len(tasks), title) as bar:
            done = enumerate(map(function, tasks)) if len(tasks) <= 1 else self.completed(function, tasks)
            for place, result in done:
                results[place] = result
                bar.update()
        return [results[place] for place in range(len(tasks))]

    def bar(self, total: int, title: str) -> Any:
        """The bar of a stage."""
        from tqdm import tqdm

        return tqdm(total=total, desc=title, disable=not self.progress)

    def completed(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], *, ahead: int = _AHEAD
    ) -> Iterator[tuple[int, Result]]:
        """The place and the result of each task as it ends; a task is taken when a worker has room for it."""
        if self.processes == 1 and self._executor is None:
            yield from enumerate(map(function, tasks))
            return
        most = ahead * self.processes
        if self._executor is not None:
            most = max(most, _AHEAD_OF_EXECUTOR)
        under_way: dict[Future[Result], int] = {}

        def ended() -> Iterator[tuple[int, Result]]:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                yield under_way.pop(future), future.result()

        try:
            for place, task in enumerate(tasks):
                under_way[self._submit(function, task)] = place
                if len(under_way) >= most:
                    yield from ended()
            while under_way:
                yield from ended()
        except (BrokenExecutor, CancelledError) as error:
            raise ChildProcessError(self._why_broken(error)) from None
        except Exception as error:
            if type(error).__name__ != "KilledWorker":  # Dask's, after three workers that ended over a task
                raise
            raise ChildProcessError(self._why_broken(error)) from None
        finally:
            # The own pool does it when it ends; cancelled here, they would trip its thread in a broken pool.
            for future in under_way if self._executor is not None else ():
                future.cancel()

    def _submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        if self._executor is not None:
            return self._executor.submit(_work_for_other, self._name, self._begin, function, task)
        with _stops_held():
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self.processes, self._context, _enter, (self._begin,))
            return self._pool.submit(_work, function, task)

    def _why_broken(self, error: BaseException) -> str:
        if self._executor is not None:
            reason = str(error).partition(". ")[0].rstrip(".") or type(error).__name__
            return f"a worker of the executor was lost ({reason}); run the same again, it goes on"
        if self._pool is not None:
            self._pool.shutdown()
        codes = [process.exitcode or 0 for process in self._context.processes]
        # When one is gone, the pool ends the others, by SIGTERM.
        code = next((code for code in codes if code not in (0, -signal.SIGTERM)), -signal.SIGTERM)
        if code < 0:
            return f"a worker process {describe_end(code)}; {self._after_a_kill}"
        # The worker's own words stand above this line; mostly it could not import the caller's script.
        return (
            f"a worker process {describe_end(code)} before its first task; a script that starts processes "
            "must do so below `if __name__ == '__main__':`"
        )


@contextmanager
def _stops_held() -> Iterator[None]:
    """Act on a wish to stop after the block, which may start processes; they hold it back until `_enter`.

    In between, the pool would have a process that it cannot end, a worker that is not ready would show a
    traceback of Ctrl-C, and Python's tracker of semaphores, which ignores other signals, would die of SIGHUP.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    held: list[int] = []
    # A mask alone leaves the signal to another thread, and Python then calls the handler in this one.
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # the only one that can set them
        for number in _STOPS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                handlers[number] = signal.signal(number, lambda number, frame: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # it has let some through
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


_begin: Callable[[int], None] | None = None  # of a worker that has not had its first task


def _enter(begin: Callable[[int], None] | None) -> None:
    global _begin
    end_with_parent()
    for number in _OF_TERMINAL:  # the parent ends its workers
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)  # held back since `_stops_held`
    # Not called here: of an error in an initialiser the parent learns no more than that there was one.
    _begin = begin


def _work(function: Callable[[Task], Result], task: Task) -> Result:
    global _begin
    if _begin is not None:
        _begin(int(multiprocessing.current_process().name))
        _begin = None
    return function(task)


_begun: str | None = None  # the `Workers` for whose tasks this process has begun
_beginning = threading.Lock()  # an executor's workers may be threads


def _work_for_other(
    name: str, begin: Callable[[int], None] | None, function: Callable[[Task], Result], task: Task
) -> Result:
    global _begun
    if begin is not None:
        with _beginning:
            if _begun != name:
                begin(0)
                _begun = name
    return function(task)


def one_thread() -> AbstractContextManager[object]:
    """One BLAS thread: on some hundred numbers several wait for each other: up to 10 x the time."""
    with needs_extra("scaling"):
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    return cast(AbstractContextManager[object], threadpool_limits(1))


def _begin_scipy(number: int) -> None:
    # A limit reaches only what is loaded; numpy and scipy bring a BLAS each, and a fresh process has neither.
    importlib.import_module("scipy.optimize")
    one_thread()


def map_chunks(
    function: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    *,
    workers: int,
    progress: bool,
    label: str,
) -> list[Result]:
    """`function` over chunks of `items`, in order; the result does not depend on the number of workers."""
    from tqdm import tqdm

    size = max(1, -(-len(items) // (workers * _CHUNKS_PER_WORKER)))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    advice = "run the same command again; or fewer processes with --workers"
    pool = Workers(workers, begin=_begin_scipy, after_a_kill=advice)

    def completed() -> Iterator[tuple[int, Sequence[Result]]]:
        began = time.perf_counter()
        yield from enumerate(map(function, chunks[:1]))
        rest = (time.perf_counter() - began) * (len(chunks) - 1)
        if workers == 1 or rest < _WORTH_A_POOL:
            yield from enumerate(map(function, chunks[1:]), 1)
        else:
            yield from ((place + 1, chunk) for place, chunk in pool.completed(function, chunks[1:]))

    results: dict[int, Sequence[Result]] = {}
    with one_thread(), pool, tqdm(total=len(items), desc=label, disable=not progress, leave=False) as bar:
        for place, chunk in completed():
            results[place] = chunk
            bar.update(len(chunk))
    return [result for place in range(len(chunks)) for result in results[place]]
