"""Repositories on the Hub: their state, their differences from local files, and calls that are repeated."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from curr_ab.files import file_digest
from curr_ab.hub.manifest import HUB_FILES
from curr_ab.hub.repositories import Repository
from curr_ab.options import OptionError
from curr_ab.reach import without_secrets

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")
LONGEST_WAIT_S = 300.0
# Too early, too many, and errors of the server; 409 and 412 mean that a branch has moved.
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
# The client has changed its HTTP library twice; these are the names that they all use for a lost connection.
_TRANSIENT_NAMES = {"TimeoutException", "Timeout", "NetworkError", "ConnectionError", "RemoteProtocolError"}
_TRANSIENT_NAMES |= {"ChunkedEncodingError", "ProtocolError"}


@dataclass(frozen=True)
class Changes:
    """The files to send and to delete, so that a revision becomes equal to the local one."""

    revision: str
    is_new: bool
    sent: dict[str, Path]
    deleted: list[str]

    @property
    def is_empty(self) -> bool:
        return not (self.is_new or self.sent or self.deleted)


@dataclass(frozen=True)
class RemoteState:
    """State of a repository on the Hub: the commits of its branches and tags, its visibility."""

    heads: dict[str, str]
    tags: dict[str, str]
    private: bool


@dataclass(frozen=True)
class Remote:
    """A repository as the Hub has it, with calls that are repeated when they fail in passing."""

    api: HfApi
    repository: Repository
    attempts: int

    def call(self, function: Callable[..., Answer], **options: Any) -> Answer:
        """Call a function of the API for this repository."""
        name, kind = self.repository.repo_id, self.repository.repo_type
        return with_backoff(name, self.attempts, function, name, repo_type=kind, **options)

    def state(self) -> RemoteState | None:
        """State of the repository; None where it does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = self.call(self.api.repo_info)
            refs = self.call(self.api.list_repo_refs)
        except RepositoryNotFoundError:
            return None
        return RemoteState(
            heads={ref.name: ref.target_commit for ref in refs.branches},
            tags={ref.name: ref.target_commit for ref in refs.tags},
            private=bool(info.private),
        )

    def changes(self, revision: str, head: str | None) -> Changes:
        """Compare a revision with the commit of its branch; all files are sent where there is none."""
        local = self.repository.revisions[revision]
        if head is None:
            return Changes(revision, is_new=True, sent=dict(local), deleted=[])
        remote = self.call(self._tree, revision=head)
        sent = {name: path for name, path in local.items() if not _is_same(path, remote.get(name))}
        deleted = [name for name in remote if name not in local and name not in HUB_FILES]
        return Changes(revision, is_new=False, sent=sent, deleted=deleted)

    def _tree(self, name: str, **options: Any) -> dict[str, RepoFile]:
        from huggingface_hub.hf_api import RepoFile

        entries = self.api.list_repo_tree(name, recursive=True, **options)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _is_same(path: Path, remote: RepoFile | None) -> bool:
    if remote is None or path.stat().st_size != remote.size:
        return False
    if remote.lfs is not None:
        return digest(path) == remote.lfs.sha256
    return git_blob_id(path) == remote.blob_id


def digest(path: Path) -> str:
    """SHA-256 of a file, computed once for each state of it: weights are compared, planned and sent."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


def git_blob_id(path: Path) -> str:
    """Name that git gives to the content of a file."""
    content = path.read_bytes()  # whole, as the Hub keeps only small files in git
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class HubError(OSError):
    """Failure of the Hub or of the network; the message is one line."""


def with_backoff(
    target: str,
    attempts: int,
    call: Callable[Arguments, Answer],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Answer:
    """Call until that succeeds, waiting 1, 2, 4, … seconds, or as long as the server asks.

    The client repeats reading and uploading by itself, but not creating, committing and tagging.
    """
    for attempt in range(1, attempts + 1):
        try:
            return call(*args, **kwargs)
        except (KeyError, TypeError, AttributeError) as error:  # of the client, which reads the answer
            raise HubError(
                f"{target}: the answer of the Hub cannot be read ({type(error).__name__}: {error})"
            ) from None
        except Exception as error:
            if not is_transient(error):
                raise
            if attempt == attempts:
                times = f"{attempts} attempts" if attempts > 1 else "one attempt"
                raise HubError(
                    f"{target}: {one_line(error)} (after {times}); nothing is lost; run the command again"
                ) from None
            wait = min(max(2.0 ** (attempt - 1), _asked_wait(error)), LONGEST_WAIT_S)
            print(f"{target}: {one_line(error)}; again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)
    raise AssertionError("there is at least one attempt")


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error reports, if any."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def is_transient(error: BaseException) -> bool:
    """True where the same call may succeed later; the cause counts, too, as the client wraps errors."""
    status = status_of(error)
    if status is not None:
        return status in _TRANSIENT_STATUS
    # Xet calls everything a network error; when the server refuses, the status is in its words.
    if (refused := re.search(r"HTTP status client error \((\d+)", str(error))) is not None:
        return int(refused[1]) in _TRANSIENT_STATUS
    if any(base.__name__ in _TRANSIENT_NAMES for base in type(error).__mro__):
        return True
    # `snapshot_download` hides the cause behind an error of the cache.
    return error.__cause__ is not None and is_transient(error.__cause__)


def _asked_wait(error: BaseException) -> float:
    """Seconds that the server asks to wait, in the standard's header or in the Hub's own."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    seconds = re.search(r"^(\d+)$", headers.get("Retry-After", "")) or re.search(
        r"\bt=(\d+)", headers.get("RateLimit", "")
    )
    return float(seconds[1]) if seconds else 0.0


def one_line(error: BaseException) -> str:
    """Message of an error in one line, without tokens and without signatures of addresses."""
    messages = [str(error)]
    # "Error while uploading" says nothing without its cause; a refusal of our files says it all.
    if error.__cause__ is not None and status_of(error) is None and not isinstance(error, ValueError):
        messages.append(str(error.__cause__))
    text = without_secrets(" ".join(" ".join(messages).split()) or type(error).__name__)
    if re.search(r"\(404 .*xet-write-token", text):
        return "this Hub takes no uploads through Xet; set HF_HUB_DISABLE_XET=1"
    return text[:400]


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """The client's errors are many lines long, and show addresses with signatures."""
    try:
        yield
    except (HubError, OptionError):
        raise
    except Exception as error:
        if status_of(error) is None and not isinstance(error, OSError | RuntimeError | ValueError):
            raise
        raise (ValueError if isinstance(error, ValueError) else HubError)(one_line(error)) from None
