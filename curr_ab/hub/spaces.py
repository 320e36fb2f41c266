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
from curr_ab.hub.space_settings import CHEAPEST, SpaceSettings
from curr_ab.hub.wheel import write_wheel
from curr_ab.pages import render
from curr_ab.space.settings import APP, REFERENCE

if TYPE_CHECKING:
    from huggingface_hub import HfApi, SpaceRuntime

Say = Callable[[str], None]
_WAITS_S = (1.0, 2.0, 5.0, 10.0)  # between looks at the stage; the last one again and again
# A machine that sleeps has run, and wakes up when it is asked. The client's list of stages has it not.
RUNNING, SLEEPING = "RUNNING", "SLEEPING"
WHY_PUBLIC = "its builder fetches the wheel without a login"
_BUILDING = ("BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING_APP_STARTING")
_RESTART_S = 30.0  # after which a restart that was not seen has been too short to see
_LOGS = {"RUNTIME_ERROR": "container"}  # of other errors that of the build
# ZeroGPU has few versions of torch, and wants one by name. The build for CPUs is a tenth as large.
_TORCH = {"zero-a10g": "torch==2.11.0\n"}
_TORCH_CPU = "--extra-index-url https://download.pytorch.org/whl/cpu\ntorch>=2.8,<2.12\n"
_TORCH_GPU = "torch>=2.8,<2.12\n"


def write_space(
    name: str,
    parent: Path,
    *,
    namespace: str,
    settings: SpaceSettings | None = None,
    hardware: str = CHEAPEST,
) -> Path:
    """Write the folder of a Space that serves a model, below `parent`; it scores the reference pairs.

    `name` is a demo, a member of the namespace or a repository: a Space has no other folder than its own.
    `hardware` is the machine that it has, which counts where the settings name none.
    """
    from importlib.metadata import version

    from huggingface_hub import constants

    from curr_ab.extras import needs_extra
    from curr_ab.space.model import Model
    from curr_ab.space.reference import measure, write_reference

    with needs_extra("space"):
        import gradio  # noqa: F401  # its version is the one that the Space gets
    settings = settings or SpaceSettings()
    hardware, (source, title) = settings.hardware or hardware, space_source(name, namespace)
    folder = parent / title
    folder.mkdir(parents=True)
    model = Model(source)
    reference = measure(model, settings.reference_pairs)
    write_reference(reference, folder / REFERENCE)
    wheel = write_wheel(folder)
    # The builder installs the requirements before it has the other files: the wheel needs a whole address.
    # With its digest the line changes with the wheel, so that no layer of an earlier build is taken.
    address = f"{constants.ENDPOINT}/spaces/{namespace}/{title}/resolve/main/{wheel.name}"
    torch = _TORCH.get(hardware, _TORCH_CPU if hardware.startswith("cpu") else _TORCH_GPU)
    card = render(
        "hub/space_card.md",
        title=title,
        gradio=version("gradio"),
        description=f"{'Score, pair and generate' if model.is_causal else 'Score, mutate, restore and pair'} "
        "antibodies",
        hardware=hardware,
        repository=None if find_demo(source) else source,
        reference=reference,
    )
    app = (
        "from pathlib import Path\n\nfrom curr_ab.space import serve\n\n"
        f"serve({source!r}, folder=Path(__file__).parent)\n"
    )
    requirements = f"{torch}curr-ab @ {address}#sha256={file_digest(wheel)}\n"
    for file, text in {"README.md": card, APP: app, "requirements.txt": requirements}.items():
        with replacing(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return folder


def space_source(name: str, namespace: str) -> tuple[str, str]:
    """The model of a Space, by the name that a Space can load it by, and the title of the Space."""
    if demo := find_demo(name):
        return demo, f"{REPO_PREFIX}{demo}"
    source = resolve(name, namespace)
    if Path(source).is_dir():
        raise ValueError(f"a Space must have a model of the Hub; got the folder {source}; publish it first")
    return source, source.rpartition("/")[2]


def current_hardware(api: HfApi, name: str, attempts: int) -> str:
    """The machine that a Space has, or was asked for; the free one where there is no Space."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return _hardware(with_backoff(name, attempts, api.get_space_runtime, name))
    except RepositoryNotFoundError:
        return CHEAPEST


def stage_of(runtime: SpaceRuntime) -> str:
    """The stage in the Hub's words, also where the client does not know it."""
    return str(getattr(runtime.stage, "value", runtime.stage))


def _hardware(runtime: SpaceRuntime) -> str:
    return str(runtime.requested_hardware or runtime.hardware or CHEAPEST)


def start_space(remote: Remote, settings: SpaceSettings, say: Say) -> None:
    """Give a Space its machine and its variables, where it has others, and wait until it runs."""
    name, api = remote.repository.repo_id, remote.api
    runtime, restarts = with_backoff(name, remote.attempts, api.get_space_runtime, name), False
    if settings.hardware not in (None, _hardware(runtime)):
        hardware: Any = settings.hardware
        restarts = True
        with_backoff(name, remote.attempts, api.request_space_hardware, name, hardware)
        say(f"{name}: hardware {settings.hardware}")
    if wanted := settings.named_variables():
        known = with_backoff(name, remote.attempts, api.get_space_variables, name)
        for key, value in wanted.items():
            if key not in known or known[key].value != value:
                restarts = True
                with_backoff(name, remote.attempts, api.add_space_variable, name, key, value)
                say(f"{name}: variable {key}")
    if settings.wait_minutes:
        _wait(remote, settings.wait_minutes, say, restarts=restarts)


def _wait(remote: Remote, minutes: float, say: Say, *, restarts: bool) -> None:
    """Look at the stage until the app of the last commit runs; `restarts` says that it runs no longer."""
    name, api = remote.repository.repo_id, remote.api
    head = remote.call(api.repo_info).sha
    started = time.monotonic()
    deadline, seen, looks = started + 60 * minutes, "", 0
    while True:
        runtime = with_backoff(name, remote.attempts, api.get_space_runtime, name)
        stage = stage_of(runtime)
        # The app of an earlier commit runs on until the build of the new one begins, and that of another
        # machine or of other variables until the restart begins.
        is_old = runtime.raw.get("sha") not in (None, head)
        machines = {str(one) for one in (runtime.hardware, runtime.requested_hardware) if one}
        is_old |= len(machines) > 1
        restarts = restarts and stage in (RUNNING, SLEEPING) and time.monotonic() < started + _RESTART_S
        if stage != seen:
            say(f"{name}: {stage}")
            seen = stage
        if stage in (RUNNING, SLEEPING) and not is_old and not restarts:
            return
        if stage not in (*_BUILDING, RUNNING, SLEEPING):
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
