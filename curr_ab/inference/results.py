"""Results as they are handed to people: one by one, and as the table that the command writes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, TypeVar

import pyarrow as pa

from curr_ab.extras import MissingExtra
from curr_ab.inference.records import Record, records_of, windows
from curr_ab.inference.tasks import BulkTask, mutants_table
from curr_ab.options import check_names

T = TypeVar("T", covariant=True)


class Tabular:
    """Something that is a table, too."""

    def to_arrow(self, **settings: Any) -> pa.Table:
        """The table, as the command writes it."""
        raise NotImplementedError

    def to_pandas(self, **settings: Any) -> Any:
        """The same as a pandas data frame."""
        if find_spec("pandas") is None:
            advice = "pandas is missing: pip install pandas, or take the table by .to_arrow()"
            raise MissingExtra(advice, name="pandas")
        return self.to_arrow(**settings).to_pandas()


class Results(Tabular, Iterator[T]):
    """Results one by one, in input order and constant memory; or all of them as a table.

    A table is of all pairs, however many results were taken before, and is computed anew each time. Pairs
    that come from an iterator can be gone through once only, one by one or for one table.
    """

    def __init__(
        self,
        task: BulkTask,
        model: Any,
        tokenizer: Any,
        pairs: Any,
        *,
        read: Callable[[Any], Iterator[Record]] = records_of,
        form: Callable[[Any], T] = lambda one: one,
    ) -> None:
        """`read` makes records of the pairs; `form` is what is handed out of a result of the task."""
        task.check_model(model)
        self._task, self._model, self._tokenizer = task, model, tokenizer
        self._pairs, self._read, self._form = pairs, read, form
        self._name = type(task).__name__.removesuffix("Task").lower()
        self._is_begun = False  # where the pairs are an iterator
        self._results: Iterator[T] | None = None

    def __next__(self) -> T:
        if self._results is None:
            self._results = self._one_by_one(self._records())
        return next(self._results)

    def _one_by_one(self, records: Iterator[Record]) -> Iterator[T]:
        for window in windows(map(self._task.prepare, records), self._task.window):
            yield from map(self._form, self._task.results(self._model, self._tokenizer, window))

    def _records(self) -> Iterator[Record]:
        if isinstance(self._pairs, Iterator):
            if self._is_begun:
                raise ValueError(
                    "pairs must be a list or a table to be gone through more than once; got an iterator, of "
                    "which pairs were taken already; give list(pairs)"
                )
            self._is_begun = True
        return self._read(self._pairs)

    def to_arrow(self, **settings: Any) -> pa.Table:
        """The table that the command writes; `settings` are further ones of it, such as `regions`."""
        check_names(settings, type(self._task), self._name)
        task = replace(self._task, **settings)
        tables = [
            task.table(self._model, self._tokenizer, window)
            for window in windows(map(task.prepare, self._records()), task.records_per_part)
        ]
        return pa.concat_tables(tables) if tables else task.without_rows(self._model, self._tokenizer)

    def __repr__(self) -> str:
        return (
            f"Results of {self._name}: take them one by one with `for` or next(), or all as a table with "
            ".to_pandas() or .to_arrow()"
        )


class MutantScores(Tabular, list[float]):
    """The scores of mutants of one pair, in their order."""

    def __init__(self, scores: Sequence[float], record: Record, mutants: Sequence[str]) -> None:
        super().__init__(scores)
        self._record, self._mutants = record, tuple(mutants)

    def to_arrow(self) -> pa.Table:  # type: ignore[override]  # no setting is left open
        """A row for each mutant."""
        return mutants_table([(self._record, self)], self._mutants)
