"""Bulk tasks over any number of pairs: parts that survive a crash, by one process or several."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from curr_ab.checkpoints import Checkpoint, model_digest
from curr_ab.files import read_object, remove_leftovers, write_json, write_parquet
from curr_ab.inference.formats import assemble, check_format, writer_for
from curr_ab.inference.records import Read, Record, check_records, windows
from curr_ab.inference.tasks import BulkTask
from curr_ab.options import OptionError
from curr_ab.workers import Workers, num_cores

DIGEST = b"records"  # in a part's metadata: of the records that it was computed from
_PLAN = "plan.json"
_AFTER_A_KILL = "go on with --resume, or with fewer processes (--processes)"


class Output(NamedTuple):
    """The place of the results: a file, with its parts beside it while it grows, or a folder of parts."""

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
    task: BulkTask,
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
        raise ValueError(f"processes must be at least 1; got {processes}")
    output = Output.of(out)
    size = records_per_part or task.records_per_part
    if size < 1:
        raise ValueError(f"records_per_part must be at least 1; got {size}")
    model, tokenizer = checkpoint.load()
    settings = repr(task)
    if len(settings) > 1000:  # lists of mutants or of light chains
        settings = hashlib.sha256(settings.encode()).hexdigest()
    plan = {"task": settings, "model": model_digest(model, tokenizer), "records_per_part": size}

    def prepared() -> Iterator[Record]:
        return map(task.prepare, read())

    total = check_records(prepared, tokenizer)
    _open_folder(output, plan, resume)

    def todo() -> Iterator[tuple[int, list[Record]]]:
        for number, records in enumerate(windows(prepared(), size)):
            if _is_done(output.part(number), records):
                bar.update(len(records))
            else:
                yield number, records

    with tqdm(total=total, unit="pair", disable=not progress) as bar:
        if processes == 1:
            for number, records in todo():
                _write_part(task, model, tokenizer, records, output, number)
                bar.update(len(records))
        else:
            del model  # the workers have their own
            begin = partial(_begin, task, checkpoint, processes, output)
            with Workers(processes, begin=begin, after_a_kill=_AFTER_A_KILL) as workers:
                for _, done in workers.completed(_write_own_part, todo()):
                    bar.update(done)
    parts = [output.part(number) for number in range(-(-total // size))]
    for left in set(output.folder.glob("part-*.parquet")) - set(parts):
        left.unlink()  # the input has become shorter
    if output.file is None:
        write_json(output.folder / _PLAN, {**plan, "finished": True, "parts": len(parts)})
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
        earlier = read_object(file)
        if changed := [key for key, value in plan.items() if earlier.get(key) != value]:
            raise ValueError(
                f"{folder} holds parts of another run (the {changed[0].replace('_', ' ')} differs): "
                "remove the folder, or run with the settings of then"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and nothing says what it holds; name another")
    remove_leftovers(folder)
    write_json(file, plan)


def _digest(records: list[Record]) -> bytes:
    return hashlib.sha256("".join(map(repr, records)).encode()).hexdigest().encode()


def _is_done(part: Path, records: list[Record]) -> bool:
    if not part.exists():
        return False
    if (pq.read_schema(part).metadata or {}).get(DIGEST) != _digest(records):
        raise ValueError(
            f"records {records[0].number:,} to {records[-1].number:,} have changed since {part} was computed "
            "from them; remove that part (or the folder) to compute it again"
        )
    return True


def _write_part(
    task: BulkTask, model: Any, tokenizer: Any, records: list[Record], output: Output, number: int
) -> None:
    table: pa.Table = task.table(model, tokenizer, records)
    if output.file is not None:
        check_format(table.schema, output.file)
    write_parquet(output.part(number), table.replace_schema_metadata({DIGEST: _digest(records)}))


_own: tuple[BulkTask, Any, Any, Output]  # of a worker process: what it works with, and where its parts go


def _begin(task: BulkTask, checkpoint: Checkpoint, processes: int, output: Output, number: int) -> None:
    global _own
    torch.set_num_threads(max(1, num_cores() // processes))
    _own = (task, *checkpoint.load(number), output)


def _write_own_part(part: tuple[int, list[Record]]) -> int:
    number, records = part
    task, model, tokenizer, output = _own
    _write_part(task, model, tokenizer, records, output, number)
    return len(records)
