"""A local Hub in a process of its own, tiny checkpoints, and exports of all 15 members made of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from support.tiny_models import save_checkpoint, shake, tiny_config
from support.warm import run_warm

from curr_ab import MEMBERS, CurrAbForMaskedLM, member
from curr_ab.hub.exports import export
from curr_ab.hub.fresh_process import FreshProcess

COMMAND = "import sys; from curr_ab.cli.main import main; sys.exit(main())"
SERVER = Path(__file__).parent / "server.py"
WRITER = "hf_WriterTokenThatMustNeverBeSeen"
STRANGER = "hf_StrangerTokenThatMustNeverBeSeen"


class LocalHub:
    """The server, as tests see it: faults to inject, what is stored, and clients in fresh processes."""

    def __init__(self, port: int, home: Path) -> None:
        self.endpoint, self.home = f"http://127.0.0.1:{port}", home

    def _call(self, method: str, path: str, body: object = None):
        request = urllib.request.Request(
            f"{self.endpoint}/_test/{path}",
            json.dumps(body).encode() if body is not None else None,
            method=method,
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def faults(self, *faults: dict) -> list[dict]:
        """Set what goes wrong; what was set before and has not happened comes back."""
        return self._call("POST", "faults", [{"times": 1, **fault} for fault in faults])

    def damage(self, member: str, revision: str = "main", **what: object) -> None:
        name = f"brineylab/CurrAb-{member}"
        self._call("POST", "break", {"name": name, "revision": revision, **what})

    def state(self) -> dict:
        return self._call("GET", "state")

    def environment(self, token: str | None = WRITER, **more: str) -> dict[str, str]:
        """A client of this Hub alone; without Xet, unless a test asks for it."""
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHONPATH"))
        }
        chosen = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.home), "HF_HUB_DISABLE_XET": "1"}
        chosen |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | ({"HF_TOKEN": token} if token else {})
        return {**inherited, **chosen, **more}

    def start(self, *args: str | Path, token: str | None = WRITER, **more: str) -> subprocess.Popen:
        """`curr-ab`, as it is installed, in a fresh process with the real client."""
        return subprocess.Popen(
            [sys.executable, "-P", "-c", COMMAND, *map(str, args)],
            env=self.environment(token, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str | Path, code: int = 0, token: str | None = WRITER, **more: str) -> str:
        """Its output, both streams; neither shows a token."""
        done = run_warm(COMMAND, list(map(str, args)), environment=self.environment(token, **more))
        shown = done.stdout + done.stderr
        assert WRITER not in shown and STRANGER not in shown
        assert done.returncode == code, shown
        assert "Traceback" not in shown
        return shown

    def python(self, program: str, token: str | None = WRITER) -> str:
        """Output of a fresh Python with the real client and this Hub."""
        done = run_warm(program, environment=self.environment(token))
        assert done.returncode == 0, done.stderr
        return done.stdout


def start_hub(home: Path) -> tuple[LocalHub, subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, SERVER, str(port)], stdout=log, stderr=log)
    hub = LocalHub(port, home / "hf")
    for _ in range(600):
        try:
            hub.state()
            return hub, process
        except OSError:
            assert process.poll() is None, (home / "server.log").read_text()
            time.sleep(0.05)
    raise AssertionError("the local Hub does not start")


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
