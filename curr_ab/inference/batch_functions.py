"""Bulk tasks as functions of a batch of rows, for engines such as Ray Data, Spark and Dask."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import pyarrow as pa

from curr_ab.checkpoints import Checkpoint
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.pairs import LAYOUTS
from curr_ab.data.reading.table import Recognised
from curr_ab.inference.checks import check_records
from curr_ab.inference.design_tables import DesignTask
from curr_ab.inference.generation_tables import GenerateTask
from curr_ab.inference.output import KeptColumns
from curr_ab.inference.records import Reader, Record, reader
from curr_ab.inference.tasks import BulkTask, EmbedTask, MutateTask, RestoreTask, ScoreTask

# Threads of one process, as Dask has them, would fight for the device and for torch's number of threads.
_one_at_a_time = threading.Lock()


class BatchFunction:
    """Rows with pairs in, the Arrow table out that the command writes for them.

    Rows are an Arrow batch or table, a data frame, or a mapping of columns, and are read by the rules of
    files. The function travels between processes without the model: each loads it with its first batch.
    """

    task_type: ClassVar[type[BulkTask]]
    splits_pairs: ClassVar[bool] = True  # of unpaired rows with both chains

    def __init__(
        self,
        model: str | os.PathLike[str] | Checkpoint,
        *,
        names: ColumnNames | None = None,
        unpaired: bool = False,
        keep_columns: Sequence[str] = (),
        keep_going: bool = False,
        **settings: Any,
    ) -> None:
        """`settings` are those of the command, and `tokens_per_batch`."""
        self.checkpoint = model if isinstance(model, Checkpoint) else Checkpoint(os.fspath(model))
        self.task = self.task_type(**settings)
        self.names, self.unpaired, self.keep_columns = names, unpaired, tuple(keep_columns)
        self.keep_going = keep_going

    def __call__(self, batch: Any, rank: int | None = None) -> pa.Table:
        """The results of the rows, in their order; process number `rank` takes the GPU of that number."""
        read = reader(batch, names=self.names, unpaired=self.unpaired, keep=self.keep_columns)
        read = replace(read, splits_pairs=self.splits_pairs)
        kept = KeptColumns(read.kept, named=not read.keeps_all)
        with _one_at_a_time:
            model, tokenizer = _load(self.checkpoint, rank or 0)
            self.task.check_model(model)
            records = self._records(read, tokenizer)
            compute = partial(self.task.table, records=records) if records else self.task.without_rows
            table = compute(model, tokenizer)
        return kept.beside(table, records, self.task.key)

    def _records(self, read: Reader, tokenizer: Any) -> list[Record]:
        checked = check_records(read, tokenizer, partial(self.task.check, tokenizer))
        for one in checked.recognised:
            self._check_rows(one)
        if not self.keep_going:
            checked.require_none()
        elif problems := [one.message for one in checked.problems.values()]:
            warnings.warn(f"{len(problems):,} rows are left out: {'; '.join(problems)}", stacklevel=3)
        return [self.task.prepare(record) for record in read() if checked.uses(record)]

    def _check_rows(self, recognised: Recognised) -> None:
        """Refuse rows that say too little by themselves."""
        if recognised.layout == LAYOUTS["cells"] and not self.unpaired:
            raise ValueError(
                "rows of a batch must hold both chains, because the next batch may have the other chain of a "
                "cell; pair the cells of the whole table first, with curr_ab.data.read_pairs"
            )
        if "id" not in recognised.columns:
            raise ValueError(
                "rows of a batch must have ids, because their numbers begin anew with each batch; add a "
                "column id, or name one by names=ColumnNames(id=...)"
            )


@lru_cache(maxsize=2)  # so that two functions may take turns
def _load(checkpoint: Checkpoint, rank: int) -> tuple[Any, Any]:
    """The model, once in this process: engines make the function anew for each of their tasks."""
    return checkpoint.load(rank)


class BatchEmbedder(BatchFunction):
    """`curr-ab embed` of a batch."""

    task_type = EmbedTask


class BatchScorer(BatchFunction):
    """`curr-ab score` of a batch."""

    task_type = ScoreTask


class BatchMutator(BatchFunction):
    """`curr-ab mutate` of a batch."""

    task_type = MutateTask


class BatchDesigner(BatchFunction):
    """`curr-ab design` of a batch."""

    task_type = DesignTask


class BatchRestorer(BatchFunction):
    """`curr-ab restore` of a batch."""

    task_type = RestoreTask


class BatchGenerator(BatchFunction):
    """`curr-ab generate` of a batch, which has the chains that are given."""

    task_type = GenerateTask
