"""Data sets on the Hub as tables: `hf://owner/name?split=train&config=...&revision=...`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from curr_ab.data.reading.sources import HUB_PREFIX, MalformedSource
from curr_ab.data.reading.table import Table, check_names, kinds_not_text, plain_batch
from curr_ab.extras import needs_extra

_OPTIONS = {"split", "config", "revision"}
_BATCH_ROWS = 4_096


def _stream(source: str) -> Iterator[pa.Table]:
    with needs_extra("data"):
        from datasets import load_dataset
    parts = urlsplit(source)
    options = dict(parse_qsl(parts.query))
    if unknown := set(options) - _OPTIONS:
        raise MalformedSource(
            source, f"unknown option {min(unknown)!r}; choose from {', '.join(sorted(_OPTIONS))}"
        )
    dataset = load_dataset(
        source.removeprefix(HUB_PREFIX).partition("?")[0],
        options.get("config"),
        split=options.get("split", "train"),
        revision=options.get("revision"),
        streaming=True,
    )
    tables: Iterator[pa.Table] = dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS)
    return tables


def open_hub(source: str) -> Table:
    """Open a data set on the Hub; the batch that shows its columns is fetched once."""
    tables = _stream(source)
    first = next(tables, None)
    if first is None:
        raise MalformedSource(source, "the data set is empty")
    check_names(source, first.column_names)
    begun = [chain([first], tables)]

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for table in begun.pop() if begun else _stream(source):
            for batch in table.combine_chunks().to_batches():
                yield plain_batch(batch, names)

    kinds = kinds_not_text(first.schema)
    return Table(source, "Hub data set", tuple(first.column_names), read, not_text=kinds)
