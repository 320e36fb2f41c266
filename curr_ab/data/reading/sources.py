"""Sources of pairs by name: files here and elsewhere, patterns, parts of files; the error of a bad one."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_ab.data.reading.remote import Commits, RemoteFile, find_remote, shown
from curr_ab.options import OptionError

BUILTIN = "builtin"


def printable(text: str) -> str:
    """The text with its control letters escaped, for names that come from outside go to a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


class MalformedSource(OptionError):
    """A source that cannot be read further; the message names the file and, where it has one, the line."""

    def __init__(
        self,
        source: str,
        problem: str,
        line: int | None = None,
        fields: tuple[str, ...] = (),
        ready: Mapping[str, str] | None = None,
    ) -> None:
        place = f"{source}{f', line {line}' if line else ''}"
        super().__init__(printable(f"{place}: {problem}"), *fields, ready=ready)
        self._parts = (str(source), problem, line, fields, ready)

    def __reduce__(self) -> tuple[type[MalformedSource], tuple[Any, ...]]:
        return type(self), self._parts  # workers send their errors pickled


def locate(source: str) -> tuple[str, str | None]:
    """Path of a file and the part of it that is named behind '#': a sheet, or a file in a zip archive."""
    if isinstance(source, RemoteFile):
        return source.path or source, source.part
    path, separator, part = source.partition("#")
    while separator and not os.path.exists(source):
        if os.path.isfile(path):
            return path, part
        more, separator, part = part.partition("#")  # a '#' may belong to the name
        path = f"{path}#{more}"
    return source, None


def _matches(pattern: str) -> list[str]:
    return sorted(match for match in glob.glob(pattern, recursive=True) if not Path(match).is_dir())


def expand_sources(sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """List the sources in the order given, each once; a pattern gives its files in alphabetical order."""
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    names: dict[str, str] = {}
    commits: Commits = {}
    for source in given:
        name = os.fspath(source)
        matches = [name]
        if not isinstance(name, RemoteFile):  # that was found before
            name = name.removeprefix("file://")
            matches = find_remote(name, commits) if "://" in name else _local_files(name)
        if not matches:
            raise ValueError(f"no file matches {printable(shown(name))}; correct the name or the pattern")
        for match in matches:
            other = names.setdefault(match, match)
            if getattr(other, "address", None) != getattr(match, "address", None):
                raise MalformedSource(match, "two addresses differ in their query alone; copy the files here")
    return list(names)


def _local_files(name: str) -> list[str]:
    if Path(name).is_dir():
        folder = printable(name)
        raise ValueError(f"{folder} is a folder; name its files with a pattern, such as '{folder}/*.csv.gz'")
    if name == BUILTIN or os.path.exists(locate(name)[0]):
        return [name]
    matches = _matches(name)
    if not matches and "#" in name:
        pattern, _, part = name.rpartition("#")
        matches = [f"{match}#{part}" for match in _matches(pattern)]
    return matches
