"""Any task over any number of pairs: parts that survive a crash, by one process or several."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from curr_ab.checkpoints import Checkpoint, fingerprint
from curr_ab.files import write_json, write_parquet
from curr_ab.inference.formats import assemble, check_format, writer_for
from curr_ab.inference.records import Read, Record, check_records, windows
from curr_ab.inference.tasks import Task
from curr_ab.options import OptionError
from curr_ab.workers import end_with_parent

DIGEST = b"records"  # in a part's metadata: what it was computed from
_PLAN = "plan.json"


class Output(NamedTuple):
    """Where results go: a file, with its parts beside it while it grows, or a folder of parts."""

    file: Path | None
    folder: Path

    @classmethod
    def of(cls, out: str | os.PathLike[str]) -> Output:
        text = os.fspath(out)
        if text.endswith("/") or Path(text).is_dir():
            return cls(None, Path(text))
        path = Path(text)
        writer_for(path)
        return cls(path, path.with_name(path.name + ".parts"))

    def part(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"


def run_bulk(
    task: Task,
    checkpoint: Checkpoint,
    read: Read,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    processes: int = 1,
    records_per_part: int | None = None,
    progress: bool = True,
) -> None:
    """Write the task's results for all records, in their order, in constant memory.

    `read` is called twice: all records are checked before the first is computed. Every part appears whole.
    `resume` goes on where an interrupted run ended, and the result is the same file as without the
    interruption; a part whose records have changed since is an error.
    """
    from tqdm import tqdm

    if processes < 1:
        raise ValueError(f"{processes} processes cannot work")
    output = Output.of(out)
    size = records_per_part or task.records_per_part
    if size < 1:
        raise ValueError(f"a part of {size} records is none")
    model, tokenizer = checkpoint.load()
    settings = repr(task)
    if len(settings) > 1000:  # lists of mutants or of light chains
        settings = hashlib.sha256(settings.encode()).hexdigest()
    plan = {"task": settings, "model": fingerprint(model, tokenizer), "records_per_part": size}

    def prepared() -> Iterator[Record]:
        return map(task.prepare, read())

    total = check_records(prepared, tokenizer)
    _open_folder(output, plan, resume)
    num_parts = -(-total // size)

    def todo() -> Iterator[tuple[int, list[Record]]]:
        for number, window in enumerate(windows(prepared(), size)):
            if _is_done(output.part(number), window):
                bar.update(len(window))
            else:
                yield number, window

    with tqdm(total=total, unit="pair", disable=not progress) as bar:
        if processes == 1:
            for number, window in todo():
                _write_part(task, model, tokenizer, window, output, number)
                bar.update(len(window))
        else:
            del model  # the workers have their own
            for done in _in_processes(task, checkpoint, todo(), output, processes):
                bar.update(done)
    parts = [output.part(number) for number in range(num_parts)]
    for left in set(output.folder.glob("part-*.parquet")) - set(parts):
        left.unlink()  # the input has become shorter
    if output.file is None:
        write_json(output.folder / _PLAN, {**plan, "finished": True, "parts": num_parts})
        return
    assemble(parts, output.file)
    shutil.rmtree(output.folder)


def _open_folder(output: Output, plan: dict[str, Any], resume: bool) -> None:
    """The folder of the parts, empty or of the same run; fails early where nothing can be written."""
    file, folder = output.folder / _PLAN, output.folder
    if file.exists():
        if not resume:
            raise OptionError(
                f"{folder} holds the parts of an earlier run: resume it, or remove the folder", "resume"
            )
        found = json.loads(file.read_text())
        if changed := [key for key, value in plan.items() if found.get(key) != value]:
            raise ValueError(
                f"{folder} holds parts of another run (the {changed[0].replace('_', ' ')} differs): "
                "remove the folder, or run with the settings of then"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and nothing says what it holds; name another")
    for left in folder.glob(".part-*.tmp"):
        left.unlink()  # of a process that was killed while it wrote
    write_json(file, plan)


def _digest(window: list[Record]) -> bytes:
    digest = hashlib.sha256()
    for record in window:
        digest.update(repr(record).encode())
    return digest.hexdigest().encode()


def _is_done(part: Path, window: list[Record]) -> bool:
    if not part.exists():
        return False
    if (pq.read_schema(part).metadata or {}).get(DIGEST) != _digest(window):
        raise ValueError(
            f"records {window[0].number:,} to {window[-1].number:,} are not those that {part} was computed "
            "from; remove that part (or the folder) to compute it anew"
        )
    return True


def _write_part(
    task: Task, model: Any, tokenizer: Any, window: list[Record], output: Output, number: int
) -> None:
    table: pa.Table = task.table(model, tokenizer, window)
    if output.file is not None:
        check_format(table.schema, output.file)
    write_parquet(output.part(number), table.replace_schema_metadata({DIGEST: _digest(window)}))


def _in_processes(
    task: Task,
    checkpoint: Checkpoint,
    todo: Iterator[tuple[int, list[Record]]],
    output: Output,
    processes: int,
) -> Iterator[int]:
    """Parts by several processes, at most two for each under way; yields how many records each had."""
    context = multiprocessing.get_context("spawn")
    number = context.Value("i", 0)
    with ProcessPoolExecutor(
        processes, context, initializer=_start, initargs=(task, checkpoint, processes, number)
    ) as pool:
        waiting: deque[tuple[int, Future[None]]] = deque()
        try:
            for place, window in todo:
                waiting.append((len(window), pool.submit(_work, window, output, place)))
                if len(waiting) >= 2 * processes:
                    size, future = waiting.popleft()
                    future.result()
                    yield size
            for size, future in waiting:
                future.result()
                yield size
        finally:
            pool.shutdown(cancel_futures=True)


_own: tuple[Task, Any, Any]  # of a worker process: what it works with


def _start(task: Task, checkpoint: Checkpoint, processes: int, number: Any) -> None:
    global _own
    end_with_parent()
    with number.get_lock():
        process = number.value
        number.value += 1
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    model, tokenizer = checkpoint.load(process)
    _own = (task, model, tokenizer)


def _work(window: list[Record], output: Output, number: int) -> None:
    task, model, tokenizer = _own
    _write_part(task, model, tokenizer, window, output, number)
