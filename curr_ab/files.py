"""Files and folders that appear whole or not at all, their digests, and the lock of a folder."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath
from typing import Any

from curr_ab.quantities import format_bytes

_MOST_JSON = 256 << 20  # bytes of a record; an index of 100,000 shards is a third of it
_OWNER = ".owner"  # the lock of a scratch folder


@contextmanager
def _full_disk_named(folder: Path, name: str, unfinished: Path, size: int | None = None) -> Iterator[None]:
    """One sentence with the folder for a full disk, whichever library met it, and what is missing there.

    What is `unfinished` gives its room back.
    """
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if number not in (errno.ENOSPC, errno.EDQUOT) and "No space left" not in str(error):
            raise
        free = _num_bytes(unfinished) + (shutil.disk_usage(folder).free if folder.exists() else 0)
        takes = "takes more"
        if size is not None and size > free:
            takes = f"takes about {format_bytes(size)}, {format_bytes(size - free)} more"
        why = f"{format_bytes(free)} are free, and {name} {takes}"
        if number == errno.EDQUOT:  # the disk may have room
            why = "your quota there is used up"
        explained = OSError(
            f"no space is left in {folder.resolve()} ({why}); make room and run the same command again"
        )
        explained.errno = number or errno.ENOSPC
        raise explained from error


def _num_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 where neither is there."""
    return sum(one.stat().st_size for one in (path, *path.rglob("*")) if one.is_file())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name next to `path`; it takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nobody else's name: a killed run may leave a worker that still writes while the next run begins, and
    # machines that share the folder have processes of the same number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with _full_disk_named(path.parent, path.name, temporary):
            yield temporary
        _let_read(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(
    folder: Path, *, size: int | None = None, made_here: bool = True, on_disk: bool = True
) -> Iterator[Path]:
    """An empty folder next to `folder`; it takes the place of `folder` when the block ends without an error.

    Where several processes fill it, one makes it and puts it in place; the others learn its name. Its files
    are on the disk before it has its name, which takes some 15 ms a file; without `on_disk` a power cut may
    leave holes in them. A full disk is told by the `size`, in bytes, where that is known before.
    """
    folder = folder.resolve()  # of a link the folder behind it is replaced, on its own disk
    unfinished = folder.with_name(f".{folder.name}.tmp")
    if not made_here:
        yield unfinished
        return
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    unfinished.mkdir(parents=True)
    try:
        with _full_disk_named(folder.parent, folder.name, unfinished, size):
            yield unfinished
            for path in unfinished.rglob("*"):
                _let_read(path)
            if on_disk:
                _sync(unfinished)
        old = _set_aside(folder)
        unfinished.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _let_read(path: Path) -> None:
    """Give a file the rights that the umask leaves: safetensors writes files that nobody else may read."""
    if path.is_file() and os.name != "nt":
        umask = os.umask(0o077)  # meanwhile threads make files that are too private, not too open
        os.umask(umask)
        with suppress(OSError):  # some file systems have no rights
            path.chmod(path.stat().st_mode | (0o666 & ~umask))


def _sync(folder: Path) -> None:
    """Wait until all that the folder holds is on the disk, its names too."""
    if os.name == "nt":  # where only a file that is open for writing can be synced
        return
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems refuse it for folders
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove a folder whole: a process that is killed meanwhile leaves no half of it under its name."""
    shutil.rmtree(_set_aside(folder), ignore_errors=True)


def _set_aside(folder: Path) -> Path:
    """The name under which the folder, if there is one, waits to be deleted."""
    old = folder.with_name(f".{folder.name}.old.tmp")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    return old


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder into which nobody else writes now."""
    for left in list(folder.rglob(".*.tmp")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def remove_half_written(path: Path) -> None:
    """Remove what killed processes left of a file that nobody else writes now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*.tmp"):
        left.unlink(missing_ok=True)


@contextmanager
def scratch_folder(prefix: str, parent: str | Path | None = None) -> Iterator[Path]:
    """A temporary folder; those of the same prefix whose processes were killed go first.

    Each is locked by its process. It has its prefix once it is locked: before, nobody looks at it.
    """
    import filelock

    parent = Path(parent or tempfile.gettempdir())
    if os.name == "nt":  # where what is open cannot be renamed
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name:
            yield Path(name)
        return
    for left in parent.glob(f"{prefix}*/{_OWNER}"):
        with suppress(OSError, filelock.Timeout), filelock.FileLock(left, blocking=False):
            shutil.rmtree(left.parent, ignore_errors=True)
    with _full_disk_named(parent, "a folder", parent / f".{prefix}"):
        new = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=parent))
    owner = filelock.FileLock(new / _OWNER)
    folder = new.with_name(new.name.removeprefix("."))
    try:
        with owner:
            new.rename(folder)
            yield folder
    finally:
        for path in (new, folder):
            shutil.rmtree(path, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys, atomically."""
    with replacing(path) as temporary:
        text = json.dumps(value, indent=1, sort_keys=True) + "\n"
        temporary.write_text(text, encoding="utf-8", newline="\n")  # the same bytes on every system


@contextmanager
def as_written(path: str | Path) -> Iterator[None]:
    """Refuse in one line a record whose values are missing or of another kind than this package writes.

    The block reads the record and does no more: a mistake of ours in it would be blamed on the file.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
        problem = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} must be as curr-ab writes it ({problem}); copy or make it again") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, such as a configuration or a record."""
    if path.stat().st_size > _MOST_JSON:
        raise ValueError(f"{path} must be at most {_MOST_JSON >> 20} MB; got {path.stat().st_size >> 20} MB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; got a {type(content).__name__}")
    return content


def is_beside(name: object) -> bool:
    """True for the bare name of a file, which leads out of no folder on any system."""
    bare = isinstance(name, str) and PureWindowsPath(name).name == name
    return bare and "\0" not in str(name) and str(name) not in ("", ".", "..")


def write_parquet(path: Path, table: Any, *, level: int | None = None) -> None:
    """A compressed Parquet file, atomically."""
    import pyarrow.parquet

    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd", compression_level=level)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_PATIENCE = 30.0  # seconds for which the others wait while the first or the last is alone in the folder


class ClaimedError(ValueError):
    """Another process holds the folder."""


@contextmanager
def claimed(folder: Path, doing: str, *, wait: bool = False, lock_name: str = ".lock") -> Iterator[None]:
    """Hold the folder; `doing` says what another process does there, as in "trains in".

    The lock ends with its holder, also when that is killed. Locks of other names are for work beside each
    other in one folder.
    """
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / lock_name)
    try:
        with warnings.catch_warnings():
            # On a disk without locks filelock would go on with a mark that outlives its holder.
            warnings.filterwarnings("error", ".*flock", UserWarning)
            lock.acquire(blocking=wait)
    except filelock.Timeout as error:
        raise ClaimedError(f"another process {doing} {folder}; wait for it or stop it") from error
    except (OSError, NotImplementedError, UserWarning) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{folder} cannot be locked ({reason}); choose a folder on another disk") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claimed_together(
    folder: Path, doing: str, *, first: Callable[[], None], last: Callable[[], None]
) -> Iterator[None]:
    """Hold the folder beside others who hold it this way, on any machine, and beside nobody else.

    Whoever comes when nobody is there does `first`, and who leaves nobody behind, without an error, `last`.
    """
    try:
        import fcntl  # filelock's locks have one holder each
    except ImportError as error:
        raise ValueError(f"{folder} can be shared on Linux and macOS alone; leave the share out") from error

    def holds(kind: int) -> bool:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # file systems differ in what they say
            return False
        except OSError as error:
            reason = f"cannot be locked ({error.strerror}); choose a folder on another disk"
            raise ValueError(f"{folder} {reason}") from error
        return True

    waits_until = time.monotonic() + _PATIENCE
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = (folder / ".lock").open("a+b")
        except FileNotFoundError:  # the last one removed the folder meanwhile
            continue
        with lock as file:
            alone = holds(fcntl.LOCK_EX)
            is_removed = os.fstat(file.fileno()).st_nlink == 0  # by the last one, between our two steps
            if alone and not is_removed:
                first()
            # In between, nobody holds it; who comes then finds what `first` left.
            if not is_removed and holds(fcntl.LOCK_SH):
                yield
                if holds(fcntl.LOCK_EX):
                    last()
                return
        if time.monotonic() > waits_until:
            raise ValueError(f"another process {doing} {folder}; wait for it or stop it")
        time.sleep(0.05)
