"""Sources of pairs: files by name or pattern, compressed or not, and data sets on the Hub."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from curr_ab.extras import needs_extra
from curr_ab.options import OptionError

BUILTIN = "builtin"
HUB_PREFIX = "hf://"
_HUB_OPTIONS = {"split", "config", "revision"}
_HUB_BATCH = 4_096
_HEAD_BYTES = 1 << 18
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class MalformedSource(OptionError):
    """A source that cannot be read further; the message names the file and, where it has one, the line."""

    def __init__(
        self, source: str, problem: str, line: int | None = None, fields: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"{source}{f', line {line}' if line else ''}: {problem}", *fields)
        self._parts = (source, problem, line, fields)

    def __reduce__(self) -> tuple[type[MalformedSource], tuple[str, str, int | None, tuple[str, ...]]]:
        return type(self), self._parts  # workers send their errors pickled


def expand_sources(sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """List the sources in the order given, each once; a pattern gives its files in alphabetical order."""
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    names: dict[str, None] = {}
    for source in given:
        name = os.fspath(source)
        if name == BUILTIN or name.startswith(HUB_PREFIX):
            matches = [name]
        elif Path(name).is_dir():
            raise ValueError(f"{name} is a folder; name its files with a pattern, such as '{name}/*.csv.gz'")
        elif Path(name).exists():
            matches = [name]
        else:
            matches = sorted(match for match in glob.glob(name, recursive=True) if Path(match).is_file())
        if not matches:
            raise ValueError(f"no file matches {name}; correct the name or the pattern")
        names.update(dict.fromkeys(matches))
    return list(names)


def open_stream(path: str) -> pa.NativeFile:
    """Open a file as decompressed bytes; its content decides, not its name."""
    with open(path, "rb") as file:
        magic = file.read(4)
    for prefix, codec in _MAGIC.items():
        if magic.startswith(prefix):
            return pa.CompressedInputStream(pa.OSFile(path), codec)
    return pa.OSFile(path)


def read_head(path: str) -> bytes:
    """Read the first bytes after decompression, without a byte-order mark."""
    try:
        with open_stream(path) as stream:
            head = bytes(stream.read(_HEAD_BYTES))
    except OSError as error:
        raise damaged(path, error) from error
    if not head.strip():
        raise MalformedSource(path, "the file is empty")
    return head.removeprefix(_BYTE_ORDER_MARK)


def damaged(path: str, error: Exception) -> MalformedSource:
    """Make the error for a compressed stream that breaks off, with the last line that can be read."""
    lines = 0
    with open_stream(path) as stream:
        try:
            while block := stream.read(1 << 20):
                lines += block.count(b"\n")
        except OSError:
            return MalformedSource(path, f"the compressed file is damaged or cut off ({error})", lines + 1)
    return MalformedSource(path, str(error))


def unknown_columns(source: str, columns: Sequence[str], line: int | None = None) -> MalformedSource:
    """Make the error for a table in which no column is known to hold a sequence."""
    names = ", ".join(columns[:8]) + (", ..." if len(columns) > 8 else "")
    problem = f"no sequence column is known among {names}; name the columns that hold the chains"
    return MalformedSource(source, problem, line, ("heavy_column", "light_column"))


def read_hub(source: str) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """Open a data set on the Hub: column names and batches of `hf://owner/name?split=train&config=...&revision=...`."""
    with needs_extra("data"):
        from datasets import load_dataset
    parts = urlsplit(source)
    options = dict(parse_qsl(parts.query))
    if unknown := set(options) - _HUB_OPTIONS:
        raise MalformedSource(
            source, f"unknown option {min(unknown)!r}; choose from {', '.join(sorted(_HUB_OPTIONS))}"
        )
    dataset = load_dataset(
        source.removeprefix(HUB_PREFIX).partition("?")[0],
        options.get("config"),
        split=options.get("split", "train"),
        revision=options.get("revision"),
        streaming=True,
    )
    tables = dataset.with_format("arrow").iter(batch_size=_HUB_BATCH)
    first = next(tables, None)
    if first is None:
        raise MalformedSource(source, "the data set is empty")
    everything = chain([first], tables)
    return list(first.column_names), (
        batch for table in everything for batch in table.combine_chunks().to_batches()
    )
