"""Files that appear whole or not at all: a killed run leaves nothing half-written under a final name."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name next to `path`; it takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id, because a killed run may leave a worker that still writes while the next run begins.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, such as a configuration or a record."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; got a {type(content).__name__}")
    return content


def write_parquet(path: Path, table: Any, *, level: int | None = None) -> None:
    """A compressed Parquet file, atomically."""
    import pyarrow.parquet

    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd", compression_level=level)


@contextmanager
def claimed(folder: Path, doing: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder; `doing` says what another process does there, as in "trains in"."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ValueError(f"another process {doing} {folder}; wait for it or stop it") from error
        except OSError as error:
            raise ValueError(f"{folder} cannot be locked ({error.strerror}); choose another disk") from error
        yield
