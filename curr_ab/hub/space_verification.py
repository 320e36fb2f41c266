"""Verification of a Space: its API is asked for one score, which must be the model's on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curr_ab.family import find_demo
from curr_ab.finetuning.adapter_record import is_repository
from curr_ab.hub.remote import HubError, is_transient, one_line, status_of, with_backoff
from curr_ab.hub.spaces import RUNNING, SLEEPING, stage_of
from curr_ab.space.settings import REFERENCE
from curr_ab.words import EXAMPLE_PAIR

SPACE_PREFIX = "spaces/"
TOLERANCE = 1e-3  # of log-likelihoods, of each other's size: float32 on another processor, or on a GPU
# Stages in which an app answers: the first call wakes one that sleeps.
_ANSWERING = (RUNNING, "RUNNING_BUILDING", "RUNNING_APP_STARTING", SLEEPING)
_SECONDS = 300.0  # for the answer: a Space that sleeps wakes up first


def verify_space(name: str, *, attempts: int, say: Callable[[str], None]) -> list[str]:
    """The problems of a Space (`OWNER/NAME`); empty where all is well."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="curr-ab")
    try:
        info = with_backoff(name, attempts, api.space_info, name)
        runtime = with_backoff(name, attempts, api.get_space_runtime, name)
        stage = stage_of(runtime)
        if stage not in _ANSWERING:
            return [f"it must be RUNNING; it is {stage}"]
        if not info.host:
            return ["the Hub names no address of it"]
        model = _model_of(api, name, attempts)
        answer = _ask(info.host, private=bool(info.private))
    except HubError:
        raise
    except Exception as error:  # of two clients, whose errors are many lines
        if status_of(error) is None and not is_transient(error) and not isinstance(error, OSError):
            return [f"it gives no score to compare: {one_line(error)}"]
        raise HubError(f"{name}: {one_line(error)}") from None
    from curr_ab.space.answers import Answers
    from curr_ab.space.model import Model

    return _compare(answer, Answers(Model(model), None).score(*EXAMPLE_PAIR), say, name)


def _model_of(api: Any, name: str, attempts: int) -> str:
    """The model that the reference of the Space is of: a demo, or a repository, but no folder here."""
    from curr_ab.space.reference import read_reference

    path = with_backoff(
        name, attempts, api.hf_hub_download, name, REFERENCE, repo_type="space", force_download=True
    )
    model = read_reference(Path(path)).model
    if not find_demo(model) and not is_repository(model):
        raise ValueError(f"{REFERENCE} must name a model of the Hub; got {model!r}")
    return model


def _ask(address: str, *, private: bool) -> dict[str, Any]:
    from curr_ab.extras import needs_extra

    with needs_extra("space"):
        from gradio_client import Client
    # Only a private Space gets the token: a public one needs none, and its program is somebody's.
    how: dict[str, Any] = {"verbose": False, "download_files": False, "analytics_enabled": False}
    client = Client(address, token=None if private else False, **how)
    answer = client.submit(*EXAMPLE_PAIR, api_name="/score").result(timeout=_SECONDS)
    if not isinstance(answer, dict):
        raise ValueError(f"it answers with {type(answer).__name__}")
    return answer


def _compare(
    seen: dict[str, Any], expected: dict[str, Any], say: Callable[[str], None], name: str
) -> list[str]:
    problems = [
        f"{key} must be {expected[key]}, as here; it says {seen.get(key)}"
        for key in ("model", "checkpoint", "mode")
        if seen.get(key) != expected[key]
    ]
    largest = 0.0
    for part, value in expected["log_likelihood"].items():
        other = (seen.get("log_likelihood") or {}).get(part)
        if not isinstance(other, int | float):
            problems.append(f"log_likelihood of {part} is missing")
            continue
        difference = abs(other - value) / abs(value)
        largest = max(largest, difference)
        if not difference <= TOLERANCE:
            problems.append(f"log_likelihood of {part} must be {value:.4f}, as here; it says {other:.4f}")
    if not problems:
        say(f"{SPACE_PREFIX}{name}: the score is that of {expected['model']} here, within {largest:.1g}")
    return problems
