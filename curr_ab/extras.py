"""Optional dependencies: names imported when first asked for, and advice where an extra is missing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any


class MissingExtra(ImportError, ValueError):
    """A ValueError too, because the command line shows those in one line."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn the failed import of somebody else's module into advice."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library == "curr_ab":
            raise
        raise MissingExtra(f'{library} is missing: pip install "curr-ab[{extra}]"', name=library) from error


def lazy_names(
    package: str, homes: Mapping[str, str], extra: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose names are imported when first asked for.

    So the command line lists its commands without torch.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        with nullcontext() if extra is None else needs_extra(extra):
            module = importlib.import_module(home if home.startswith("curr_ab.") else f"{package}.{home}")
        return getattr(module, name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
