"""A local Hub in a process of its own, and clients of it. It loads none of the Hub's libraries."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from support.warm import run_warm

COMMAND = "import sys; from curr_ab.cli.main import main; sys.exit(main())"
SERVER = Path(__file__).parents[1] / "hub" / "server.py"
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

    def keep(self) -> None:
        """Remember all that is stored, to which `forget` comes back."""
        self._call("POST", "keep")

    def forget(self) -> None:
        self._call("POST", "forget")

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
