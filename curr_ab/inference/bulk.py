"""Bulk tasks over any number of pairs: parts that survive a crash, by one process, several, or shares."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from curr_ab.checkpoints import Checkpoint, model_digest
from curr_ab.data.reading.table import Recognised
from curr_ab.data.report import DROPPED, KEPT, Outcome, check_report, write_report
from curr_ab.files import ClaimedError, write_parquet
from curr_ab.inference.checks import Checked, check_records
from curr_ab.inference.formats import check_format
from curr_ab.inference.output import ALONE, KeptColumns, Output
from curr_ab.inference.records import Reader, Record, reader, windows
from curr_ab.inference.tasks import BulkTask
from curr_ab.share import Share, parse_share
from curr_ab.workers import Workers, num_cores

DIGEST = b"records"  # in a part's metadata: of the records that it was computed from
_AFTER_A_KILL = "go on with --resume, or with fewer processes (--processes)"


def run_bulk(
    task: BulkTask,
    checkpoint: Checkpoint | None,
    pairs: Any,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    share: Share | str | None = None,
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
    as without the interruption; a part whose records have changed since is an error. With a `share`, such as
    `2/8`, this process computes each eighth part, others the rest in the same folder, and the last joins all.
    An `executor`, whose workers see the same files, computes parts instead of `processes` of this machine.
    """
    from tqdm import tqdm

    if processes < 1:
        raise ValueError(f"processes must be at least 1; got {processes}")
    size = records_per_part or task.records_per_part
    if size < 1:
        raise ValueError(f"records_per_part must be at least 1; got {size}")
    check_report(report)
    if isinstance(share, str):
        share = parse_share(share)
    own = share or ALONE
    read = pairs if isinstance(pairs, Reader) else reader(pairs)
    output = Output.of(out, KeptColumns(read.kept, named=not read.keeps_all))
    model, tokenizer = checkpoint.load() if checkpoint else (None, None)
    task.check_model(model)
    digest = None if tokenizer is None else model_digest(model, tokenizer)

    checked = check_records(read, tokenizer, partial(task.check, tokenizer))
    say(checked.recognised)
    if report is not None and own.index == 0:  # the others have nothing else to say
        write_report(report, _outcomes(read, checked))
    if not keep_going:
        checked.require_none()
    if checked.num_used == 0:
        raise ValueError(f"the input must hold at least one record that can be used; got {_none_of(checked)}")
    plan = {
        "task": _settings(task),
        "model": digest,
        "records_per_part": size,
        "kept_columns": list(read.kept),
        "input": checked.digest,
        "parts": -(-checked.num_used // size),
    }

    def todo() -> Iterator[tuple[int, list[Record]]]:
        used = map(task.prepare, filter(checked.uses, read()))
        for number, records in enumerate(windows(used, size)):
            if not own.takes(number):
                continue
            if _is_done(output.part(number), records):
                bar.update(len(records))
            elif output.is_finished:
                return  # it was joined, and is gone
            else:
                yield number, records

    title, total = f"share {own}" if share is not None else None, _num_records(checked.num_used, size, own)
    with (
        output.entered(plan, share, resume=resume),
        tqdm(total=total, desc=title, unit="pair", disable=not progress) as bar,
    ):
        if own.index == 0:
            _write_skipped(output.skipped, read, checked)
        if processes == 1 and executor is None:
            for number, records in todo():
                _write_part(task, model, tokenizer, records, output, number)
                bar.update(len(records))
        else:
            del model  # the workers have their own
            begin = partial(_begin, task, checkpoint, None if executor is not None else processes, output)
            with Workers(processes, begin=begin, after_a_kill=_AFTER_A_KILL, executor=executor) as workers:
                for _, done in workers.completed(_write_own_part, todo()):
                    bar.update(done)
    missing = output.missing()
    if any(own.takes(number) for number in missing):
        raise ValueError(f"parts were removed from {output.folder} while others were computed; run it again")
    if not missing:
        with suppress(ClaimedError):  # another share joins
            output.join(wait=share is None)
    return checked


def join_parts(task: BulkTask, out: str | os.PathLike[str]) -> None:
    """Join what shares have computed, without the model and the input; an error names what is missing."""
    Output.of(out).join(_settings(task))


def _settings(task: BulkTask) -> str:
    """The task in a plan."""
    settings = repr(task)
    if len(settings) > 1000:  # lists of mutants or of light chains
        settings = hashlib.sha256(settings.encode()).hexdigest()
    return settings


def _num_records(num_records: int, size: int, share: Share) -> int:
    """The number of records in the parts of a share."""
    starts = range(share.index * size, num_records, share.count * size)
    return sum(min(size, num_records - start) for start in starts)


def _write_skipped(path: Path, read: Reader, checked: Checked) -> None:
    if checked.problems:
        write_report(path, (one for one in _outcomes(read, checked) if one.outcome == DROPPED))
    else:
        path.unlink(missing_ok=True)  # of an earlier run


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


def _digest(records: list[Record]) -> bytes:
    return hashlib.sha256(b"".join(record.content for record in records)).hexdigest().encode()


def _is_done(part: Path, records: list[Record]) -> bool:
    try:
        schema = pq.read_schema(part)
    except FileNotFoundError:
        return False
    if (schema.metadata or {}).get(DIGEST) != _digest(records):
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
    task: BulkTask, checkpoint: Checkpoint | None, processes: int | None, output: Output, number: int
) -> None:
    global _own
    if processes is not None:  # the threads of an executor's workers are up to whoever made it
        torch.set_num_threads(max(1, num_cores() // processes))
    _own = (task, *(checkpoint.load(number) if checkpoint else (None, None)), output)


def _write_own_part(part: tuple[int, list[Record]]) -> int:
    number, records = part
    task, model, tokenizer, output = _own
    _write_part(task, model, tokenizer, records, output, number)
    return len(records)
