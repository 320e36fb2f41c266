"""The same pairs in every kind of object that people hold pairs in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset

ODD = [{"a": 1}, [1], None]  # of an extra column that Arrow cannot hold


def _columns(rows: Sequence[tuple[str, str, str]]) -> dict[str, list[Any]]:
    ids, heavy, light = map(list, zip(*rows, strict=True))
    numbers = [None if len(chain) % 5 == 0 else len(chain) / 2 for chain in heavy]
    return {"name": ids, "VH": heavy, "VL": light, "kd": numbers}


def _table(rows: Sequence[tuple[str, str, str]]) -> pa.Table:
    return pa.table(_columns(rows))


def _recoded(rows: Sequence[tuple[str, str, str]], kind: pa.DataType | None) -> pa.Table:
    table = _table(rows)
    column = table["VH"].dictionary_encode() if kind is None else table["VH"].cast(kind)
    return table.set_column(1, "VH", column)


def _frame(rows: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(_columns(rows)).assign(odd=[ODD[place % 3] for place in range(len(rows))])


def _splits(rows: Sequence[tuple[str, str, str]]) -> datasets.DatasetDict:
    whole = datasets.Dataset.from_dict(_columns(rows))
    return datasets.DatasetDict(train=whole.select([0]), test=whole.select(range(1, len(rows))))


class Capsule:
    """An object of another library, of which nothing is known but its stream."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


# Objects by name, each made of (id, heavy, light); those in ONCE can be read but once.
OBJECTS: dict[str, Callable[[Any], Any]] = {
    "pandas": _frame,
    "pandas with categories": lambda rows: _frame(rows).astype({"VH": "category"}),
    "pandas with an index": lambda rows: _frame(rows).set_index("name"),
    "pandas with an index of text": lambda rows: _frame(rows).set_index("name").rename_axis(None),
    "a part of a pandas frame": lambda rows: pd.concat([_frame(rows[:1]), _frame(rows)])[1:],
    "Polars": lambda rows: pl.DataFrame(_columns(rows)),
    "Polars with categories": lambda rows: pl.DataFrame(_columns(rows)).cast({"VH": pl.Categorical}),
    "Polars with objects": lambda rows: pl.DataFrame(_columns(rows)).with_columns(
        pl.Series("odd", [object() for _ in rows], dtype=pl.Object)
    ),
    "lazy Polars": lambda rows: pl.LazyFrame(_columns(rows)),
    "Arrow table": _table,
    "Arrow dictionary": lambda rows: _recoded(rows, None),
    "Arrow views": lambda rows: _recoded(rows, pa.string_view()),
    "Arrow large text": lambda rows: _recoded(rows, pa.large_string()),
    "Arrow batch": lambda rows: _table(rows).to_batches()[0],
    "Arrow batches": lambda rows: _table(rows).to_batches(2),
    "Arrow reader": lambda rows: _table(rows).to_reader(2),
    "Arrow data set": lambda rows: pyarrow.dataset.dataset(_table(rows)),
    "capsule": lambda rows: Capsule(_table(rows)),
    "data set": lambda rows: datasets.Dataset.from_dict(_columns(rows)),
    "a selection of a data set": lambda rows: datasets.Dataset.from_dict(_columns([*rows, *rows])).select(
        range(len(rows), 2 * len(rows))
    ),
    "formatted data set": lambda rows: datasets.Dataset.from_dict(_columns(rows)).with_format("numpy"),
    "streamed data set": lambda rows: datasets.Dataset.from_dict(_columns(rows)).to_iterable_dataset(),
    "generated data set": lambda rows: datasets.IterableDataset.from_generator(
        lambda: iter(_table(rows).to_pylist())
    ),
    "data set with splits": _splits,
    "columns": _columns,
    "columns of NumPy": lambda rows: {
        name: np.array(column, dtype=object) for name, column in _columns(rows).items()
    },
    "mappings": lambda rows: _table(rows).to_pylist(),
    "named tuples": lambda rows: list(_frame(rows).itertuples()),
    "generator of mappings": lambda rows: iter(_table(rows).to_pylist()),
    "generator of batches": lambda rows: iter(_table(rows).to_batches(2)),
}
ONCE = {"Arrow reader", "generator of mappings", "generator of batches"}
