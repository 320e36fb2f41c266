"""The error of a missing optional dependency, which names the extra that brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtra(ImportError, ValueError):
    """A ValueError too, because the command line shows those in one line."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn the failed import of somebody else's module into advice."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "curr_ab":
            raise
        raise MissingExtra(
            f'{error.name} is missing: pip install "curr-ab[{extra}]"', name=error.name
        ) from error
