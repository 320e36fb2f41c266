"""One process at a time in a folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
