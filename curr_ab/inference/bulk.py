"""Bulk tasks over any number of pairs: parts that survive a crash, by one process or several."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from curr_ab.checkpoints import Checkpoint, model_digest
from curr_ab.data.reading.table import Recognised
from curr_ab.data.report import DROPPED, KEPT, Outcome, check_report, write_report
from curr_ab.files import read_object, remove_leftovers, write_json, write_parquet
from curr_ab.inference.formats import assemble, check_format, writer_for
from curr_ab.inference.records import Checked, Reader, Record, check_records, reader, windows
from curr_ab.inference.tasks import BulkTask
from curr_ab.options import OptionError
from curr_ab.workers import Workers, num_cores

DIGEST = b"records"  # in a part's metadata: of the records that it was computed from
_PLAN = "plan.json"
_AFTER_A_KILL = "go on with --resume, or with fewer processes (--processes)"


@dataclass(frozen=True)
class KeptColumns:
    """Columns of the user that go beside the results, and whether they were asked for by name."""

    names: tuple[str, ...]
    named: bool

    def beside(self, table: pa.Table, records: Sequence[Record], key: str) -> pa.Table:
        """The results with the user's columns; `key` is the column of results that holds ids."""
        rows = pc.index_in(table[key], pa.array([record.id for record in records], pa.string()))
        for place, name in enumerate(self.names):
            if name not in table.column_names:
                values = pa.array([record.kept[place] for record in records], pa.string())
                table = table.append_column(name, values.take(rows.combine_chunks()))
            elif self.named and name != key:
                problem = f"keep_columns must leave out {name!r}, which the results have of their own"
                raise OptionError(f"{problem}; rename it in the input", "keep_columns")
        return table


_NOTHING = KeptColumns((), named=False)


class Output(NamedTuple):
    """The place of the results: a file, with its parts beside it while it grows, or a folder of parts."""

    file: Path | None
    folder: Path
    kept: KeptColumns

    @classmethod
    def of(cls, out: str | os.PathLike[str], kept: KeptColumns = _NOTHING) -> Output:
        text = os.fspath(out)
        if text.endswith("/") or Path(text).is_dir():
            return cls(None, Path(text), kept)
        path = Path(text)
        writer_for(path)
        if kept.names and path.suffix in (".npy", ".safetensors"):
            problem = f"{path}: {path.suffix} holds numbers alone; keep columns in .csv or .parquet"
            raise OptionError(problem, "keep_columns")
        return cls(path, path.with_name(path.name + ".parts"), kept)

    def part(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"

    @property
    def skipped(self) -> Path:
        """The list of records that were left out."""
        return self.folder / "skipped.csv" if self.file is None else self.file.with_suffix(".skipped.csv")


def run_bulk(
    task: BulkTask,
    checkpoint: Checkpoint | None,
    pairs: Any,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    processes: int = 1,
    records_per_part: int | None = None,
    keep_going: bool = False,
    report: Path | None = None,
    say: Callable[[Sequence[Recognised]], None] = lambda recognised: None,
    progress: bool = True,
    executor: Executor | None = None,
) -> Checked:
    """Write the task's results for all records, in their order, in constant memory.

    `checkpoint` is None for a task without a model. `pairs` are files, objects, or a `reader` of them. They
    are read twice: all records are checked before the first is computed. Those that cannot be used are an
    error that names them; with `keep_going` they are left out and listed beside the results. `report` takes
    a row for each row of the input; `say` learns before anything is computed what was recognised of the
    sources.
    Every part appears whole. `resume` goes on where an interrupted run ended, and the result is the same file
    as without the interruption; a part whose records have changed since is an error. An `executor`, whose
    workers see the same files, computes the parts instead of `processes` of this machine.
    """
    from tqdm import tqdm

    if processes < 1:
        raise ValueError(f"processes must be at least 1; got {processes}")
    size = records_per_part or task.records_per_part
    if size < 1:
        raise ValueError(f"records_per_part must be at least 1; got {size}")
    check_report(report)
    read = pairs if isinstance(pairs, Reader) else reader(pairs)
    output = Output.of(out, KeptColumns(read.kept, named=not read.keeps_all))
    model, tokenizer = checkpoint.load() if checkpoint else (None, None)
    settings = repr(task)
    if len(settings) > 1000:  # lists of mutants or of light chains
        settings = hashlib.sha256(settings.encode()).hexdigest()
    digest = None if tokenizer is None else model_digest(model, tokenizer)
    plan: dict[str, Any] = {"task": settings, "model": digest, "records_per_part": size}
    if read.kept:
        plan["kept_columns"] = list(read.kept)

    checked = check_records(read, tokenizer, partial(task.check, tokenizer))
    say(checked.recognised)
    if report is not None:
        write_report(report, _outcomes(read, checked))
    if not keep_going:
        checked.require_none()
    if checked.num_used == 0:
        raise ValueError(f"the input must hold at least one record that can be used; got {_none_of(checked)}")
    _open_folder(output, plan, resume)
    output.skipped.unlink(missing_ok=True)  # of an earlier run
    if checked.problems:
        write_report(output.skipped, (one for one in _outcomes(read, checked) if one.outcome == DROPPED))

    def prepared() -> Iterator[Record]:
        return map(task.prepare, filter(checked.uses, read()))

    def todo() -> Iterator[tuple[int, list[Record]]]:
        for number, records in enumerate(windows(prepared(), size)):
            if _is_done(output.part(number), records):
                bar.update(len(records))
            else:
                yield number, records

    with tqdm(total=checked.num_used, unit="pair", disable=not progress) as bar:
        if processes == 1 and executor is None:
            for number, records in todo():
                _write_part(task, model, tokenizer, records, output, number)
                bar.update(len(records))
        else:
            del model  # the workers have their own
            begin = partial(_begin, task, checkpoint, processes, output)
            with Workers(processes, begin=begin, after_a_kill=_AFTER_A_KILL, executor=executor) as workers:
                for _, done in workers.completed(_write_own_part, todo()):
                    bar.update(done)
    parts = [output.part(number) for number in range(-(-checked.num_used // size))]
    for left in set(output.folder.glob("part-*.parquet")) - set(parts):
        left.unlink()  # the input has become shorter
    if output.file is None:
        write_json(output.folder / _PLAN, {**plan, "finished": True, "parts": len(parts)})
    else:
        assemble(parts, output.file)
        shutil.rmtree(output.folder)
    return checked


def _none_of(checked: Checked) -> str:
    """The number of records, and why none of them can be used."""
    if not checked.total:
        return "none"
    counts = Counter([*checked.left_out.values(), *(one.reason for one in checked.problems.values())])
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common(3))
    return f"{checked.total:,} that cannot: {reasons}"


def _outcomes(read: Reader, checked: Checked) -> Iterator[Outcome]:
    """Outcome of each record, and of rows that are no records of their own."""
    aside: list[pa.RecordBatch] = []

    def rows() -> Iterator[Outcome]:
        for batch in aside:
            yield from (Outcome(**row) for row in batch.to_pylist())
        aside.clear()

    for record in read(aside=aside.append):
        yield from rows()
        problem = checked.problems.get(record.number)
        reason = problem.reason if problem else record.left_out
        outcome, note = (DROPPED, reason) if reason else (KEPT, record.note)
        yield Outcome(record.source, record.row, record.id, outcome, note)
    yield from rows()


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
    # Without the name of the file: it may be moved while a run waits to go on.
    texts = (repr((*record[:6], record.kept)) for record in records)
    return hashlib.sha256("".join(texts).encode()).hexdigest().encode()


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
    table: pa.Table = output.kept.beside(task.table(model, tokenizer, records), records, task.key)
    if output.file is not None:
        check_format(table.schema, output.file)
    write_parquet(output.part(number), table.replace_schema_metadata({DIGEST: _digest(records)}))


_own: tuple[BulkTask, Any, Any, Output]  # of a worker process: what it works with, and where its parts go


def _begin(
    task: BulkTask, checkpoint: Checkpoint | None, processes: int, output: Output, number: int
) -> None:
    global _own
    torch.set_num_threads(max(1, num_cores() // processes))
    _own = (task, *(checkpoint.load(number) if checkpoint else (None, None)), output)


def _write_own_part(part: tuple[int, list[Record]]) -> int:
    number, records = part
    task, model, tokenizer, output = _own
    _write_part(task, model, tokenizer, records, output, number)
    return len(records)
