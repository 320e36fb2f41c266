"""The client as pip installs it, which sends and fetches large files through Xet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.test_publishing import local_files, remote_files, writes

WITH_XET = {"HF_HUB_DISABLE_XET": "0"}
NAME = "brineylab/CurrAb-350M-F"
DOWNLOAD = f"from huggingface_hub import snapshot_download; print(snapshot_download({NAME!r}))"


def test_large_files_go_through_xet_both_ways(hub, family) -> None:
    """Errors of its storage included; nothing goes through LFS, and a second publish sends nothing."""
    folder = family / "CurrAb-350M-F"
    command = ("publish", folder, "--namespace", "brineylab")
    hub.faults(
        {"method": "POST", "path": "^/xet/v1/xorbs/", "kind": "status", "status": 500},
        {"method": "POST", "path": "^/xet/v1/shards", "kind": "lost"},
    )
    said = hub.run(*command, **WITH_XET)
    assert "large files go through Xet (hf_xet " in said
    assert hub.faults() == []
    state = hub.state()
    assert remote_files(state, "350M-F") == local_files(folder)
    assert set(state["repos"][NAME]["branches"]) == {"main", "step5000", "step10000"}
    paths = [path for _, path, status in state["log"] if status == 200]
    assert any(path.startswith("/xet/v1/xorbs/") for path in paths)
    assert not any("/lfs/" in path for path in paths)
    assert hub.run(*command, **WITH_XET).endswith("sent 0 files in 0 commits\n")
    assert writes(hub.state()["log"]) == []
    shown = subprocess.run(
        [sys.executable, "-c", DOWNLOAD],
        env=hub.environment(token=None, **WITH_XET),
        capture_output=True,
        text=True,
        check=True,
    )
    assert local_files(Path(shown.stdout.strip())).items() >= local_files(folder).items()
    paths = [path for _, path, _ in hub.state()["log"]]
    assert any(path.startswith("/xet/v1/reconstructions/") for path in paths)
    assert not any("/lfs/" in path for path in paths)


@pytest.mark.slow
def test_verify_downloads_through_xet(hub, family) -> None:
    hub.run("publish", family / "CurrAb-350M-F", "--namespace", "brineylab", **WITH_XET)
    assert "350M-F: verified" in hub.run("verify", "350M-F", **WITH_XET)


def test_a_hub_without_xet_is_named_with_the_way_out(hub, family) -> None:
    """The client does not fall back to LFS by itself."""
    command = ("publish", family / "CurrAb-8M-F", "--namespace", "brineylab")
    hub.faults({"method": "GET", "path": "xet-write-token", "kind": "status", "status": 404, "times": 99})
    said = hub.run(*command, code=2, **WITH_XET)
    assert said.endswith("curr-ab: this Hub takes no uploads through Xet; set HF_HUB_DISABLE_XET=1\n")
    said = hub.run(*command, HF_HUB_DISABLE_XET="1")
    assert "large files go through LFS (HF_HUB_DISABLE_XET is set)" in said
    assert remote_files(hub.state(), "8M-F") == local_files(family / "CurrAb-8M-F")
