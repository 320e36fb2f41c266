"""Repositories of the Hub within reach: one short question before anything is loaded, and why not in words.

Without it transformers asks for a dozen files, each several times with growing pauses, and then names the
last file that it missed, not the cause.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_SECONDS = 5.0  # until an answer counts as none
_REMEMBERED = 300.0  # an answer, or that there was none
_DEADLINE = 8.0  # for all that is asked of one repository
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_HTTP = ("httpx", "httpcore", "requests", "urllib3")  # of the client, which was requests, httpx, now httpx2
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
_log = logging.getLogger("curr_ab")
TOKEN = re.compile(r"hf_\w{6,}")
_SECRETS = (
    (re.compile(rf"{TOKEN.pattern}|(?<=[Bb]earer )\S+"), "***"),
    (re.compile(r"(https?://)[^/\s@]+@"), r"\1***@"),
    (re.compile(r"(https?://[^\s?]+)\?\S+"), r"\1?***"),  # signed addresses of the storage
    (re.compile(r"(?i)\b((?:x-\w+-)?(?:signature|credential|security-token)=)[^&\s]+"), r"\1***"),
)


def without_secrets(text: str) -> str:
    """The text of a library or a server without tokens, passwords and signatures of addresses."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class OutOfReach(ValueError):
    """A repository that cannot be read; the message says why, and the way out."""


class NoAnswer(OutOfReach):
    """A Hub that gives no answer, or one that says nothing of the repository."""

    def __init__(self, message: str, reason: str, status: int | None) -> None:
        super().__init__(message)
        self.reason, self.status = reason, status


def reach(source: str, names: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """The options with which the files of a folder or repository are read, or an error with the cause.

    `names` are files of which a checkpoint has one. Where the Hub cannot be reached and one lies in the
    cache, the cache alone is read.
    """
    if Path(source).is_dir() or options.get("local_files_only"):
        return options
    asked = {name: options.get(name) for name in ("revision", "token", "cache_dir", "subfolder")}
    period = int(time.monotonic() / _REMEMBERED)
    alone = _cache_alone(period, source, names, **asked)
    return {**options, "local_files_only": True} if alone else options


@cache
def _cache_alone(
    period: int,
    source: str,
    names: tuple[str, ...],
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | None,
    subfolder: str | None,
) -> bool:
    """True where the Hub cannot be reached and the cache has a file; an error where it has none.

    What was answered is remembered for a `period`: a notebook may be open before and after an outage.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    paths = tuple(f"{subfolder}/{name}" if subfolder else name for name in names)
    try:
        cached = any(
            isinstance(try_to_load_from_cache(source, path, cache_dir=cache_dir, revision=revision), str)
            for path in paths
        )
    except HFValidationError:
        raise OutOfReach(
            f"{source} is neither a folder nor the name of a repository, which is owner/name"
        ) from None
    if constants.HF_HUB_OFFLINE:
        if cached:
            return True
        raise OutOfReach(
            f"{source} is not in the cache ({cache_dir or constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE keeps "
            "the Hub away; unset it, or name a folder"
        )
    try:
        ask(source, paths, revision=revision, token=token)
    except NoAnswer as error:
        if not cached:
            raise
        _log.warning(
            "%s cannot be reached (%s); %s is read from the cache", constants.ENDPOINT, error.reason, source
        )
        return True
    return False


def ask(
    source: str,
    paths: tuple[str, ...],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    repo_type: str = "model",
) -> None:
    """Ask the Hub for one of the files; an error with the cause where it does not let them be read.

    A repository without any of them is no error: who reads it says so.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = source if repo_type == "model" else f"{repo_type}s/{source}"
    try:
        _within(_DEADLINE, lambda: _find_one(source, paths, revision, token, repo_type))
    except GatedRepoError as error:
        raise OutOfReach(
            f"{source} is gated: ask for access on {constants.ENDPOINT}/{page}, then log in with "
            "`hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise OutOfReach(
            f"no folder and no repository of the Hub is called {source}, or it is private; correct the name, "
            "or log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise OutOfReach(f"{source} has no revision {revision!r}{_revisions(source, token)}") from error
    except Exception as error:  # of the client for HTTP, which has been three libraries
        status = _status(error) if isinstance(error, HfHubHTTPError) else None
        if status in (401, 403):
            raise OutOfReach(
                f"{constants.ENDPOINT} refuses access to {source} ({status}); log in with `hf auth login`, "
                "or give a token that may read it"
            ) from error
        reason = f"it answers {status}" if status is not None else _words([*_causes(error)][-1])
        raise NoAnswer(
            f"{source} is not on this machine, and {constants.ENDPOINT} cannot be reached "
            f"({reason}{_proxy()}); connect and run it again, or name a folder or `demo`, which is part of "
            "the package",
            reason,
            status,
        ) from error


def _find_one(
    source: str, paths: tuple[str, ...], revision: str | None, token: str | bool | None, repo_type: str
) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    for path in paths:
        try:
            address = hf_hub_url(source, path, revision=revision, repo_type=repo_type)
            get_hf_file_metadata(address, token=token, timeout=_SECONDS)
            return
        except EntryNotFoundError:
            continue


def _within(seconds: float, function: Callable[[], None]) -> None:
    """Call it, and raise what it raises, or TimeoutError when it takes longer.

    The client's limit is one for each address of a host, and there is none for the look-up of its name.
    """
    raised: list[Exception | None] = []

    def call() -> None:
        try:
            function()
            raised.append(None)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)  # one that hangs does not keep the process
    thread.start()
    thread.join(seconds)
    if not raised:
        raise TimeoutError("no answer")
    if raised[0] is not None:
        raise raised[0]


@contextmanager
def downloads_explained(source: str, scratch: str | None = None) -> Iterator[None]:
    """One line with the cause where a download breaks off or the cache is full, which transformers hides.

    `scratch` is the folder that is written to where that is not the cache.
    """
    from huggingface_hub import constants

    try:
        yield
    except OutOfReach:
        raise
    except Exception as error:  # of the client for HTTP, which has been three libraries
        if Path(source).is_dir():
            raise
        causes = list(_causes(error))
        for cause in causes:
            if (number := getattr(cause, "errno", None)) in _UNWRITABLE:
                forbidden = number in (errno.EACCES, errno.EROFS)
                place = f"the cache ({constants.HF_HUB_CACHE})" if scratch is None else scratch
                setting = "set HF_HOME to" if scratch is None else "set scratch to"
                advice = f"{setting} another" if forbidden else f"make room, or {setting} a larger one"
                raise OutOfReach(f"cannot write into {place}: {os.strerror(number)}; {advice}") from error
        if any(type(cause).__module__.startswith(_HTTP) for cause in causes):
            raise OutOfReach(
                f"the download of {source} broke off ({_words(causes[-1])}); run the same command again, it "
                "goes on"
            ) from error
        raise


def _status(error: Any) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, the first cause last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    """An error in the system's words; a silence is called the same whoever noticed it."""
    if "Timeout" in type(error).__name__:
        return "no answer"
    text = without_secrets(" ".join(str(error).split()))
    return re.sub(r"^\[Errno -?\d+\] ", "", text) or type(error).__name__


def _proxy() -> str:
    """The proxy that is asked, without the password in it."""
    found = next((os.environ[name] for name in _PROXIES if os.environ.get(name)), None)
    return "" if found is None else ", through the proxy " + re.sub(r"^(\w+://)?.*@", r"\1", found)


def _revisions(source: str, token: str | bool | None) -> str:
    from huggingface_hub import HfApi

    try:
        refs = HfApi(token=token).list_repo_refs(source)
    except Exception:  # it was only for the message
        return ""
    return f"; it has {', '.join(ref.name for ref in (*refs.branches, *refs.tags))}"
