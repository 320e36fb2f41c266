"""The folder of a preparation: what is finished or begun in it, who holds it, and what is removed."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from curr_ab.claims import SharedWork
from curr_ab.data.preparing.parts import source_digest, source_identity
from curr_ab.data.report import DROPPED_NAME, NOTES_NAME
from curr_ab.data.shards import INDEX_NAME
from curr_ab.files import claimed, claimed_together, read_object, remove_leftovers, write_json
from curr_ab.share import Share
from curr_ab.workers import Workers

WORK_NAME, STARTED_NAME = ".work", "request.json"
_BYTES_PER_PAIR = 1_600  # while it runs: docs/how-to/large-data.md


Stage = Callable[[Callable[[Any], Any], Sequence[Any], str], list[Any]]  # as `Workers.run`


class OtherRequest(ValueError):
    """A folder that holds data, or unfinished work, of other sources or settings."""


def finished(out: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The index if this very request was finished before; a folder of another request is refused."""
    if not (out / INDEX_NAME).exists():
        return None
    index = read_object(out / INDEX_NAME)
    if index["fingerprint"] == request.get("fingerprint"):  # rebuilt, from wherever it was published
        return index
    if index["request"] != request:
        raise OtherRequest(f"{out} holds data prepared from other sources or settings; choose another folder")
    sources = {str(source): source for source in request["sources"]}  # whose addresses no record holds
    for name, size, modified, digest in index.get("sources", ()):  # the oldest have none
        source = sources.get(name, name)
        if source_identity(source) != [name, size, modified] and source_digest(source) != digest:
            raise OtherRequest(
                f"{name} has changed since {out} was prepared from it; choose another folder or delete it"
            )
    return index


def _started(request: dict[str, Any]) -> dict[str, Any]:
    """What the unfinished work of a request remembers of it."""
    return {name: value for name, value in request.items() if name != "keep_going"}  # parts see to that


def _begin(out: Path, request: dict[str, Any], *, progress: bool) -> None:
    """Take up the unfinished work of this request, or begin anew where it is of another one."""
    if finished(out, request) is not None:  # by the process that held the lock
        return
    work = out / WORK_NAME
    started, wanted = work / STARTED_NAME, _started(request)
    if started.exists() and read_object(started) != wanted:
        if progress:
            print(
                f"{out} holds unfinished work on other sources or settings; beginning anew", file=sys.stderr
            )
        started.unlink()  # last of all it would stand for what is gone
        for folder in work.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
    for left in ("scratch", "claims"):  # of a run that was killed
        shutil.rmtree(work / left, ignore_errors=True)
    write_json(started, wanted)


@contextmanager
def working(
    out: Path, request: dict[str, Any], workers: Workers, share: Share | None
) -> Iterator[Stage | None]:
    """Hold the folder while there is work to do; gives what runs a stage, and none where all is finished."""
    if finished(out, request) is not None:
        yield None
        remove_work(out)
        return
    with _held(out, request, share, progress=workers.progress), _full_disk_explained(out):
        if finished(out, request) is not None:
            yield None
            return
        try:
            if share is None:
                yield workers.run
            else:
                with SharedWork(out / WORK_NAME / "claims", share, workers) as shared:
                    yield shared.run
        except FileNotFoundError:
            # Where a disk locks for each machine alone, another share may have removed the work by now.
            if share is None or finished(out, request) is None:
                raise


@contextmanager
def _held(out: Path, request: dict[str, Any], share: Share | None, *, progress: bool) -> Iterator[None]:
    """Hold the folder, alone or together with the other shares; the lock lies where all goes at the end."""
    work, doing = out / WORK_NAME, "prepares in"
    begin, end = partial(_begin, out, request, progress=progress), partial(remove_work, out)
    if share is None:
        with claimed(work, doing):
            begin()
            yield
            end()
        return
    with claimed_together(work, doing, first=begin, last=end):
        if finished(out, request) is None and read_object(work / STARTED_NAME) != _started(request):
            raise OtherRequest(f"shares at work in {out} have other sources or settings; wait for them")
        yield


@contextmanager
def _full_disk_explained(out: Path) -> Iterator[None]:
    """One sentence for a full disk, whichever library met it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) and "No space left" not in str(error):
            raise
        written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        message = (
            f"no space is left in {out.resolve()}: {written / 1e6:,.0f} MB are written, and a preparation "
            f"takes about {_BYTES_PER_PAIR / 1e3} kB there for each pair; make room and run the same command "
            "again, it goes on"
        )
        raise OSError(message) from error


def remove_others(
    out: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]], tables: Container[str]
) -> None:
    """Remove the shards and tables that an unfinished run on other sources or settings left."""
    for split, entries in splits.items():
        names = [entry["name"] for entry in entries]
        for path in out.glob(f"{split}-[0-9]*.*"):
            if path.name.partition(".")[0] not in names:
                path.unlink()
    for name in (DROPPED_NAME, NOTES_NAME):
        if name not in tables:
            (out / name).unlink(missing_ok=True)


def remove_work(out: Path) -> None:
    """Remove the files that only an unfinished run needs."""
    shutil.rmtree(out / WORK_NAME, ignore_errors=True)
    remove_leftovers(out)
