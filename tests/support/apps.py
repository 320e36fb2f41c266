"""The app in a process of its own, as a Space runs it: `python app.py` in its folder."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import curr_ab
from curr_ab.hub.space_settings import SpaceSettings
from curr_ab.hub.spaces import write_space

PATIENCE = 240  # seconds, for a machine that is busy


@contextmanager
def running_app(folder: Path, **environment: str) -> Iterator[str]:
    """The address of the app in a folder, which ends with the block; it finds no network."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    # Whoever looked for the network would look there; nobody listens.
    own |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    own |= {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}
    own |= {"PYTHONPATH": str(Path(curr_ab.__file__).parents[1]), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    log = folder / "app.log"
    with log.open("w") as file:
        command = [sys.executable, "-P", "app.py"]
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | own | environment, stdout=file, stderr=file
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(PATIENCE * 5):
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{address}/config", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise AssertionError(f"the app does not start: {log.read_text()}")
        yield address
        # Gradio reports at length what it refuses itself; no error may come from our code.
        assert "curr_ab/space" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


def write_app(parent: Path, name: str) -> Path:
    """The folder of a Space for a model of the package, with few pairs in its reference."""
    return write_space(name, parent, namespace="me", settings=SpaceSettings(reference_pairs=4))
