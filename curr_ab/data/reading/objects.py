"""Objects as tables: data frames, Arrow, data sets, lists and generators, under the same rules as files.

No library is imported for this: an object is known by what it can do.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from curr_ab.data.reading.sources import MalformedSource, expand_sources
from curr_ab.data.reading.table import BATCH_ROWS, SOURCE_NAME, Table, typed_table
from curr_ab.files import file_digest, replacing
from curr_ab.words import CHAINS

_ROWS = 64  # of a list or generator: few, because somebody may wait for the first result
_DIGITS = str.maketrans("0123456789", "abcdefghij")


def is_table(thing: Any) -> bool:
    """True for a thing with columns: a data frame, Arrow, a data set, or a mapping of columns."""
    is_known = isinstance(thing, Table) or _is_columns(thing)
    return is_known or (not isinstance(thing, type) and any(hasattr(thing, sign) for sign in _OPENERS))


def tables_of(given: Any, *, again: bool = False) -> list[str | Table]:
    """Files by name or pattern, and objects as tables: one, or a list of several.

    With `again` they can be read more than once, for which a generator is held in memory.
    """
    if is_files(given):
        return list(expand_sources(given))
    tables: list[str | Table] = []
    for name, thing in _named(given):
        if _is_name(thing):
            tables += expand_sources(thing)
        else:
            tables.append(_kept_table(thing, name) if again else table_of(thing, name))
    return tables


def is_files(given: Any) -> bool:
    """True for names of files, one or a list, rather than objects with pairs in them."""
    return _is_name(given) or (isinstance(given, list | tuple) and all(map(_is_name, given)))


def names_of_files(given: Any) -> list[str]:
    """The names, as they are given."""
    return [os.fspath(one) for one in ([given] if _is_name(given) else given)]


def _is_name(thing: Any) -> bool:
    return isinstance(thing, str | os.PathLike)


def _named(given: Any) -> list[tuple[str, Any]]:
    """The objects in a list of several, or the one, with their names in errors and results.

    The one may be a list of pairs or of Arrow's batches.
    """
    several = isinstance(given, list | tuple) and all(
        _is_name(one) or (is_table(one) and not isinstance(one, pa.RecordBatch)) for one in given
    )
    if not several or len(given) == 1:
        return [("pairs", given[0] if several else given)]
    return [(f"pairs {number}", one) for number, one in enumerate(given, start=1)]


@contextmanager
def files_of(given: Any, folder: Path | None = None) -> Iterator[list[str]]:
    """Names of files as they are given; objects stand in files of their own while the block runs.

    For work that other processes share or that is taken up again: they read a file, and cannot read an
    object. In a `folder`, equal objects have equal names.
    """
    if is_files(given):
        yield names_of_files(given)
        return
    with ExitStack() as stack:
        if folder is None:
            place = Path(stack.enter_context(TemporaryDirectory(prefix="curr_ab_objects_")))
        else:
            place = folder / ".objects"
            stack.callback(shutil.rmtree, place, ignore_errors=True)
        names = []
        for name, thing in _named(given):
            if _is_name(thing):
                names.append(os.fspath(thing))
                continue
            path = _write(table_of(thing, name), place / f"{name}.parquet")
            if folder is not None:
                path = path.rename(path.with_stem(f"{path.stem}-{file_digest(path)[:12]}"))
            names.append(str(path))
        yield names


def _write(table: Table, path: Path) -> Path:
    """Write the table to a Parquet file that is called in errors and results as the table is."""
    batches = table.read(table.names)
    first = next(batches, None)
    if first is None:
        first = pa.record_batch({name: pa.array([], pa.string()) for name in table.names})
    schema = first.schema.with_metadata({SOURCE_NAME: table.source})
    with replacing(path) as temporary, pa.parquet.ParquetWriter(temporary, schema) as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch.cast(schema))
    return path


def with_copies(table: Table, columns: Sequence[str]) -> tuple[Table, tuple[str, ...]]:
    """The table with copies of some columns as text, and the names of the copies.

    A copy keeps what the user wrote where the reader puts the column itself into other letters or units; of a
    column that is not there it is null.
    """
    # One word without a meaning: no rule of the reader must take a copy for the column of a chain.
    originals = {"kept" + str(place).translate(_DIGITS): name for place, name in enumerate(columns)}

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        wanted = {name: originals.get(name, name) for name in names}
        present = [name for name in dict.fromkeys(wanted.values()) if name in table.names]
        for batch in table.read(present):
            columns = dict(zip(present, batch.columns, strict=True))
            nothing = pa.nulls(batch.num_rows, pa.string())
            texts = {name: columns.get(of, nothing).cast(pa.string()) for name, of in originals.items()}
            yield pa.record_batch({name: (texts | columns)[name] for name in wanted})

    return replace(table, names=(*table.names, *originals), read=read), tuple(originals)


def table_of(pairs: Any, source: str = "pairs") -> Table:
    """The object as a table; `source` is its name in errors and results."""
    if isinstance(pairs, Table):
        return pairs
    if isinstance(pairs, Mapping) and pairs and all(hasattr(one, "with_format") for one in pairs.values()):
        return _of_splits(pairs, source)
    for sign, opener in _OPENERS.items():
        if hasattr(pairs, sign):
            return opener(pairs, source)
    if _is_columns(pairs):
        return _of_columns(pairs, source)
    if isinstance(pairs, Iterable) and not isinstance(pairs, str | bytes | Mapping):
        return _of_rows(pairs, source)
    raise ValueError(
        f"pairs must be a table, a data set or a list of pairs, such as [(heavy, light)]; got {_kind(pairs)}"
    )


def _kept_table(pairs: Any, source: str = "pairs") -> Table:
    """The table of an object, in memory where the object can be read but once."""
    table = table_of(pairs, source)
    if not _is_once(pairs):
        return table
    batches = list(table.read(table.names))
    return replace(table, read=lambda names: (batch.select(list(names)) for batch in batches))


def _is_once(pairs: Any) -> bool:
    """True for what reading uses up: a generator, or a reader of Arrow's."""
    return hasattr(pairs, "__next__") or hasattr(pairs, "read_next_batch")


def _kind(thing: Any) -> str:
    return f"a {type(thing).__name__}"


def _opener(
    pairs: Any, source: str, advice: str, first: Iterable[Any], again: Callable[[Any], Iterable[Any]] = iter
) -> Callable[[], Iterator[Any]]:
    """What gives the content of an object from its beginning, each time that it is called, where it can."""
    left = [first]

    def opened() -> Iterator[Any]:
        if not left and _is_once(pairs):
            raise MalformedSource(source, f"{_kind(pairs)} can be read once; give a {advice}")
        return iter(left.pop() if left else again(pairs))

    return opened


def _of_stream(pairs: Any, source: str) -> Table:
    """Whatever gives an Arrow stream: Arrow's tables and readers, and those of other libraries."""
    reader = _reader(pairs)
    opened = _opener(pairs, source, "table", reader, _reader)
    return typed_table(source, "Arrow", reader.schema.names, lambda _: opened(), reader.schema)


def _reader(pairs: Any) -> pa.RecordBatchReader:
    """A reader; Arrow's own objects give one directly: before 25 it crashes where it exports text views."""
    if isinstance(pairs, pa.RecordBatch):
        pairs = pa.Table.from_batches([pairs])
    if isinstance(pairs, pa.Table):
        return pairs.to_reader()
    is_reader = isinstance(pairs, pa.RecordBatchReader)
    return pairs if is_reader else pa.RecordBatchReader.from_stream(pairs)


def _of_arrow_data_set(pairs: Any, source: str) -> Table:
    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return iter(pairs.to_batches(columns=list(names)))

    return typed_table(source, "Arrow", pairs.schema.names, read)


def _of_polars(pairs: Any, source: str) -> Table:
    """A frame of Polars, of which a lazy one reads the columns that are wanted alone."""

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        frame = pairs.select(list(names))
        frame = frame.collect(engine="streaming") if hasattr(frame, "collect") else frame
        yield from pa.RecordBatchReader.from_stream(frame)

    # What Polars calls objects, nobody else can read.
    names = [name for name, kind in pairs.collect_schema().items() if str(kind) != "Object"]
    return typed_table(source, "Polars", names, read)


def _of_pandas(frame: Any, source: str) -> Table:
    """A data frame; an index with names, or of text, is a column too."""
    levels = [name for name in frame.index.names if name is not None and name not in frame.columns]
    if levels:
        frame = frame.reset_index(level=levels)
    elif frame.index.nlevels == 1 and frame.index.inferred_type == "string" and "id" not in frame.columns:
        frame = frame.rename_axis("id").reset_index()
    places = {str(name): place for place, name in enumerate(frame.columns)}

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(frame), BATCH_ROWS):
            rows = frame.iloc[start : start + BATCH_ROWS]
            yield pa.record_batch({name: _of_series(rows.iloc[:, places[name]]) for name in names})

    return typed_table(source, "pandas", frame.columns, read)


def _of_series(series: Any) -> pa.Array:
    if series.dtype == object:  # anything at all, and of another kind in each batch
        return _texts(series.mask(series.isna(), None).tolist())
    column = pa.array(series, from_pandas=True)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _of_data_set(pairs: Any, source: str) -> Table:
    """A data set of the library `datasets`, on disk or streamed."""
    if pairs.features is None:  # a stream of which nobody has said the columns, so that each row has its own
        return _of_rows(pairs, source)

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        tables = pairs.select_columns(list(names)).with_format("arrow").iter(batch_size=BATCH_ROWS)
        return (batch for table in tables for batch in table.to_batches())

    return typed_table(source, "data set", pairs.column_names, read)


def _of_splits(pairs: Mapping[str, Any], source: str) -> Table:
    """All splits of a data set, one after the other; a column `split` says which."""
    tables = {name: _of_data_set(one, source) for name, one in pairs.items()}
    shared = [
        name for name in next(iter(tables.values())).names if all(name in t.names for t in tables.values())
    ]
    added = [] if "split" in shared else ["split"]

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for split, table in tables.items():
            for batch in table.read([name for name in names if name not in added] or shared[:1]):
                own = [pa.repeat(pa.scalar(split), batch.num_rows)] if added else []
                yield pa.record_batch([*batch.columns, *own], names=[*batch.schema.names, *added])

    return typed_table(source, "data set", [*shared, *added], read)


def _is_columns(thing: Any) -> bool:
    """True for a mapping of columns, and of the splits of a data set; false for one of a record's fields."""
    values = list(thing.values()) if isinstance(thing, Mapping) else []
    return bool(values) and all(hasattr(one, "__len__") and not isinstance(one, str) for one in values)


def _of_columns(pairs: Mapping[str, Any], source: str) -> Table:
    columns = {
        str(name): one.to_pylist() if hasattr(one, "to_pylist") else list(one) for name, one in pairs.items()
    }
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise MalformedSource(source, f"columns must be of one length; got {shown}")

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, max(lengths.values()), BATCH_ROWS):
            yield pa.record_batch({name: _texts(columns[name][start : start + BATCH_ROWS]) for name in names})

    return typed_table(source, "columns", columns, read)


def _of_rows(pairs: Iterable[Any], source: str) -> Table:
    """Pairs, mappings or batches, one after the other; the first rows say which columns there are."""
    rows = iter(pairs)
    first = list(islice(rows, 1))
    if first and is_table(first[0]):
        return _of_batches(pairs, first[0], rows, source)
    first += islice(rows, _ROWS - 1)
    names = list(dict.fromkeys(name for number, row in enumerate(first, 1) for name in _fields(row, number)))
    opened = _opener(pairs, source, "list", chain(first, rows))

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        remaining, number = opened(), 0
        while block := list(islice(remaining, _ROWS)):
            fields = [_fields(row, number + place) for place, row in enumerate(block, 1)]
            yield pa.record_batch({name: _texts([row.get(name) for row in fields]) for name in wanted})
            number += len(block)

    return typed_table(source, "list", names or CHAINS, read)


def _of_batches(pairs: Iterable[Any], first: Any, rest: Iterator[Any], source: str) -> Table:
    """A stream of tables with the same columns, such as Arrow's batches."""
    opened = _opener(pairs, source, "list", chain([first], rest))

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return (batch for one in opened() for batch in table_of(one, source).read(names))

    return typed_table(source, "Arrow", table_of(first, source).names, read)


def _fields(row: Any, number: int) -> Mapping[str, Any]:
    """The row as a mapping; the error names its record."""
    if isinstance(row, Mapping):
        return {str(name): value for name, value in row.items()}
    if hasattr(row, "_asdict"):  # a named tuple
        return dict(row._asdict())
    if hasattr(row, "__dataclass_fields__"):
        return {name: getattr(row, name) for name in row.__dataclass_fields__}
    if not isinstance(row, str | bytes) and hasattr(row, "__getitem__") and len(row) == 2:
        return dict(zip(CHAINS, row, strict=True))
    raise ValueError(f"record {number:,}: a pair must be written as (heavy, light); got {row!r}")


def _texts(values: Sequence[Any]) -> pa.Array:
    """Values of any kind as text; None, and what data frames write for it, is null."""
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return str(value)
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "NaT"):
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


# By what an object can do; a data frame of pandas has a stream, too, which stumbles over columns of objects.
_OPENERS: dict[str, Callable[[Any, str], Table]] = {
    "with_format": _of_data_set,
    "collect_schema": _of_polars,
    "iloc": _of_pandas,
    "__arrow_c_stream__": _of_stream,
    "__arrow_c_array__": lambda pairs, source: _of_stream(pa.table(pairs), source),
    "scanner": _of_arrow_data_set,
}
