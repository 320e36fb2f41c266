"""Spaces of the Hub: the folder of the app for a model, its machine and variables, the wait until it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.checkpoint_files import resolve
from curr_ab.family import REPO_PREFIX, find_demo
from curr_ab.files import file_digest, replacing
from curr_ab.hub.remote import HubError, Remote, with_backoff
from curr_ab.hub.repositories import SPACE_APP, SPACE_REFERENCE
from curr_ab.hub.space_settings import SpaceSettings
from curr_ab.hub.wheel import write_wheel
from curr_ab.pages import render

if TYPE_CHECKING:
    from huggingface_hub import SpaceRuntime

Say = Callable[[str], None]
_WAITS_S = (1.0, 2.0, 5.0, 10.0)  # between looks at the stage; the last one again and again
_BUILDING = ("BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING_APP_STARTING")
_LOGS = {"RUNTIME_ERROR": "container"}  # of other errors that of the build
# ZeroGPU has few versions of torch, and wants one by name. The build for CPUs is a tenth as large.
_TORCH = {"zero-a10g": "torch==2.11.0\n"}
_TORCH_CPU = "--extra-index-url https://download.pytorch.org/whl/cpu\ntorch>=2.8,<2.12\n"
_TORCH_GPU = "torch>=2.8,<2.12\n"


def write_space(name: str, parent: Path, *, namespace: str, settings: SpaceSettings | None = None) -> Path:
    """Write the folder of a Space that serves a model, below `parent`; it scores the reference pairs.

    `name` is `demo`, a member of the namespace or a repository: a Space has no other folder than its own.
    """
    from importlib.metadata import version

    from huggingface_hub import constants

    from curr_ab.extras import needs_extra
    from curr_ab.space.model import Model
    from curr_ab.space.reference import measure, write_reference

    with needs_extra("space"):
        import gradio  # noqa: F401  # its version is the one that the Space gets
    settings = settings or SpaceSettings()
    hardware, demo = settings.hardware, find_demo(name)
    source = name if demo else resolve(name, namespace)
    if not demo and Path(source).is_dir():
        raise ValueError(f"a Space must have a model of the Hub; got the folder {source}; publish it first")
    title = f"{REPO_PREFIX}{demo}" if demo else source.rpartition("/")[2]
    folder = parent / title
    folder.mkdir(parents=True)
    reference = measure(Model(source), settings.reference_pairs)
    write_reference(reference, folder / SPACE_REFERENCE)
    wheel = write_wheel(folder)
    # The builder installs the requirements before it has the other files: the wheel needs a whole address.
    # With its digest the line changes with the wheel, so that no layer of an earlier build is taken.
    address = f"{constants.ENDPOINT}/spaces/{namespace}/{title}/resolve/main/{wheel.name}"
    torch = _TORCH.get(hardware, _TORCH_CPU if hardware.startswith("cpu") else _TORCH_GPU)
    card = render(
        "hub/space_card.md",
        title=title,
        gradio=version("gradio"),
        description="Score, mutate, restore and pair antibodies",
        hardware=hardware,
        repository=None if demo else source,
        reference=reference,
    )
    app = (
        "from pathlib import Path\n\nfrom curr_ab.space import serve\n\n"
        f"serve({source!r}, folder=Path(__file__).parent)\n"
    )
    requirements = f"{torch}curr-ab @ {address}#sha256={file_digest(wheel)}\n"
    for file, text in {"README.md": card, SPACE_APP: app, "requirements.txt": requirements}.items():
        with replacing(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return folder


def start_space(remote: Remote, settings: SpaceSettings, say: Say) -> None:
    """Give a Space its machine and its variables, where it has others, and wait until it runs."""
    name, api = remote.repository.repo_id, remote.api
    runtime = with_backoff(name, remote.attempts, api.get_space_runtime, name)
    if settings.hardware != (runtime.requested_hardware or runtime.hardware or "cpu-basic"):
        hardware: Any = settings.hardware
        with_backoff(name, remote.attempts, api.request_space_hardware, name, hardware)
        say(f"{name}: hardware {settings.hardware}")
    if wanted := settings.named_variables():
        known = with_backoff(name, remote.attempts, api.get_space_variables, name)
        for key, value in wanted.items():
            if key not in known or known[key].value != value:
                with_backoff(name, remote.attempts, api.add_space_variable, name, key, value)
                say(f"{name}: variable {key}")
    if settings.wait_minutes:
        _wait(remote, settings.wait_minutes, say)


def _wait(remote: Remote, minutes: float, say: Say) -> None:
    name, api = remote.repository.repo_id, remote.api
    head = remote.call(api.repo_info).sha
    deadline, seen, looks = time.monotonic() + 60 * minutes, "", 0
    while True:
        runtime = with_backoff(name, remote.attempts, api.get_space_runtime, name)
        stage = str(getattr(runtime.stage, "value", runtime.stage))
        # The app of an earlier commit runs on until the build of the new one begins.
        is_old = runtime.raw.get("sha") not in (None, head)
        if stage != seen:
            say(f"{name}: {stage}")
            seen = stage
        if stage == "RUNNING" and not is_old:
            return
        if stage not in (*_BUILDING, "RUNNING"):
            raise HubError(_failure(name, stage, runtime))
        if time.monotonic() > deadline:
            raise HubError(
                f"{name} must be RUNNING within {minutes:g} minutes; it is {stage}; look at "
                f"{_page(name, 'build')}, or wait longer (wait_minutes)"
            )
        time.sleep(_WAITS_S[min(looks, len(_WAITS_S) - 1)])
        looks += 1


def _failure(name: str, stage: str, runtime: SpaceRuntime) -> str:
    reason = " ".join(str(runtime.raw.get("errorMessage") or "").split())[:200]
    if stage.endswith("_ERROR") or stage == "NO_APP_FILE":
        text = f"{name} must be RUNNING; got {stage}{f' ({reason})' if reason else ''}"
        return f"{text}; its log is {_page(name, _LOGS.get(stage, 'build'))}"
    return f"{name} must be RUNNING; got {stage}; start it again on {_page(name)}"


def _page(name: str, log: str = "") -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/spaces/{name}" + (f"?logs={log}" if log else "")
