"""Calls to the Hub that are repeated when they may succeed, and whose failure is one line without secrets."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")
LONGEST_WAIT_S = 300.0
# Too early, too many, and errors of the server; 409 and 412 have meanings of their own.
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
# The client has changed its HTTP library twice; these are the names that they all use for a lost connection.
_TRANSIENT_NAMES = {"TimeoutException", "Timeout", "NetworkError", "ConnectionError", "RemoteProtocolError"}
_TRANSIENT_NAMES |= {"ChunkedEncodingError", "ProtocolError"}
_SECRETS = (
    (re.compile(r"hf_\w{6,}|(?<=[Bb]earer )\S+"), "***"),
    (re.compile(r"(https?://)[^/\s@]+@"), r"\1***@"),
    (re.compile(r"(https?://[^\s?]+)\?\S+"), r"\1?***"),  # signed addresses of the storage
)


class HubError(OSError):
    """The Hub, or the way to it, failed; the message is one line."""


def with_backoff(
    what: str,
    attempts: int,
    call: Callable[Arguments, Answer],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Answer:
    """Call until it succeeds, waiting 1, 2, 4, … seconds, or as long as the server asks.

    The client itself repeats the calls that read and upload; creating, committing, tagging it does once.
    """
    for attempt in range(1, attempts + 1):
        try:
            return call(*args, **kwargs)
        except Exception as error:
            if not is_transient(error):
                raise
            if attempt == attempts:
                times = f"{attempts} attempts" if attempts > 1 else "one attempt"
                raise HubError(
                    f"{what}: {one_line(error)} (after {times}); nothing is lost, run the same command again"
                ) from None
            wait = min(max(2.0 ** (attempt - 1), _asked_wait(error)), LONGEST_WAIT_S)
            print(f"{what}: {one_line(error)}; again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)
    raise AssertionError("there is at least one attempt")


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error reports, if any."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later; the cause counts too, as the client wraps errors."""
    status = status_of(error)
    if status is not None:
        return status in _TRANSIENT_STATUS
    # Xet says "network error" of everything; of an answer that refuses it gives the status in words.
    if (refused := re.search(r"HTTP status client error \((\d+)", str(error))) is not None:
        return int(refused[1]) in _TRANSIENT_STATUS
    if any(base.__name__ in _TRANSIENT_NAMES for base in type(error).__mro__):
        return True
    # `snapshot_download` hides what happened behind an error of the cache.
    return error.__cause__ is not None and is_transient(error.__cause__)


def _asked_wait(error: BaseException) -> float:
    """Seconds that the server names, in the header of the standard or in the Hub's own."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    found = re.search(r"^(\d+)$", headers.get("Retry-After", "")) or re.search(
        r"\bt=(\d+)", headers.get("RateLimit", "")
    )
    return float(found[1]) if found else 0.0


def one_line(error: BaseException) -> str:
    """The message of an error in one line, without tokens and without signatures of addresses."""
    messages = [str(error)]
    # "Error while uploading" says nothing without its cause; a refusal of what we sent says it all.
    if error.__cause__ is not None and status_of(error) is None and not isinstance(error, ValueError):
        messages.append(str(error.__cause__))
    text = " ".join(" ".join(messages).split()) or type(error).__name__
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    if re.search(r"\(404 .*xet-write-token", text):
        return "this Hub takes no uploads through Xet; set HF_HUB_DISABLE_XET=1"
    return text[:400]
