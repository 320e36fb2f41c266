"""A local Hub in a process of its own, tiny checkpoints, and exports of all 15 members made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from support.local_hub import STRANGER, WRITER, LocalHub, start_hub
from support.tiny_models import save_checkpoint, shake, tiny_config

from curr_ab import MEMBERS, CurrAbForMaskedLM, member
from curr_ab.hub.exports import export
from curr_ab.hub.fresh_process import FreshProcess


@contextmanager
def running_hub(home: Path) -> Iterator[LocalHub]:
    hub, process = start_hub(home)
    yield hub
    process.kill()  # it may be in the middle of being slow
    process.wait()
    log = (home / "server.log").read_text()
    assert "Traceback" not in log, log
    assert_no_token(home)


def assert_no_token(folder: Path) -> None:
    """No file below the folder holds a token."""
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert WRITER.encode() not in content and STRANGER.encode() not in content, path


@pytest.fixture
def hub(tmp_path):
    """An empty Hub."""
    with running_hub(tmp_path) as hub:
        yield hub


@pytest.fixture(scope="session")
def world(tmp_path_factory, family):
    """A Hub with all 15 members on it, for tests that leave it as it is; and what publishing them said."""
    with running_hub(tmp_path_factory.mktemp("world")) as hub:
        hub.said = {"dry": publish_family(hub, family, "--dry-run")}
        hub.before = hub.state()
        hub.said["publish"] = publish_family(hub, family)
        hub.after = hub.state()
        yield hub
    assert_no_token(family)


def publish_family(hub: LocalHub, family: Path, *more: str) -> str:
    folders = [family / f"CurrAb-{name}" for name in MEMBERS]
    return hub.run("publish", *folders, "--namespace", "brineylab", "--collection", "CurrAb", *more)


def save_tiny(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    return save_checkpoint(shake(CurrAbForMaskedLM(tiny_config()), seed).eval(), folder)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run with two step checkpoints, as training leaves it."""
    folder = tmp_path_factory.mktemp("run")
    for step in (5000, 10000):
        place = save_tiny(folder / "checkpoints" / f"step{step}", step)
        record = {"format": "curr-ab training 1", "member": "350M-F", "step": step, "training_flops": 1.5e18}
        record |= {"plan": {"steps": 10000, "seed": 7}, "hours": 2.0, "devices": "one CPU"}
        (place / "training.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="session")
def fresh_process():
    """One process that proves all exports of the session."""
    with FreshProcess() as process:
        yield process


@pytest.fixture(scope="session")
def family(made_once, tmp_path_factory, run_folder, fresh_process):
    """Exports of all 15 members, with tiny models; 350M-F has step checkpoints. Nobody changes them."""

    def make(folder):
        unfinished = folder.with_suffix(".unfinished")
        for number, name in enumerate(MEMBERS):
            source = run_folder
            if name != "350M-F":
                source = save_tiny(tmp_path_factory.mktemp("weights") / name, number)
            export(
                member(name),
                source,
                unfinished / f"CurrAb-{name}",
                rehearsal=True,
                fresh_process=fresh_process,
            )
        unfinished.rename(folder)

    return made_once("exports", make)
