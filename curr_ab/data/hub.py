"""Data sets of the Hugging Face Hub, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from curr_ab.data.sources import HUB_PREFIX, MalformedSource
from curr_ab.extras import needs_extra

_BATCH = 4_096
_OPTIONS = {"split", "config", "revision"}


def read_hub(source: str) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """Column names and batches of `hf://owner/name?split=train&config=...&revision=...`."""
    with needs_extra("data"):
        from datasets import load_dataset
    parts = urlsplit(source)
    options = dict(parse_qsl(parts.query))
    if unknown := set(options) - _OPTIONS:
        raise MalformedSource(
            source, f"unknown option {min(unknown)!r}; known are {', '.join(sorted(_OPTIONS))}"
        )
    dataset = load_dataset(
        source.removeprefix(HUB_PREFIX).partition("?")[0],
        options.get("config"),
        split=options.get("split", "train"),
        revision=options.get("revision"),
        streaming=True,
    )
    tables = dataset.with_format("arrow").iter(batch_size=_BATCH)
    first = next(tables, None)
    if first is None:
        raise MalformedSource(source, "the data set is empty")

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.combine_chunks().to_batches()
        for table in tables:
            yield from table.combine_chunks().to_batches()

    return list(first.column_names), batches()
