"""Faults on the way: the command repeats it, or stops with one line, and a rerun finishes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.hub.conftest import STRANGER, WRITER
from tests.hub.test_publishing import local_files, remote_files

NAME = "brineylab/CurrAb-350M-F"
API = f"^/api/models/{NAME}"


@pytest.fixture
def publish(hub, family):
    """Publish the member with step checkpoints."""
    folder = family / "CurrAb-350M-F"
    command = ("publish", folder, "--namespace", "brineylab", "--collection", "CurrAb")

    def run(*more: str, code: int = 0, **environment: str) -> str:
        return hub.run(*command, *more, code=code, **environment)

    run.command, run.folder = command, folder
    return run


def assert_whole(hub, folder) -> None:
    """Nothing is missing and nothing is doubled."""
    state = hub.state()
    assert list(state["repos"]) == [NAME]
    repo = state["repos"][NAME]
    assert set(repo["branches"]) == {"main", "step5000", "step10000"} and list(repo["tags"]) == ["v0.1.0"]
    assert remote_files(state, "350M-F") == local_files(folder)
    for step in ("step5000", "step10000"):
        assert remote_files(state, "350M-F", step) == local_files(folder / "revisions" / step)
    assert repo["commits"] == 4  # the Hub's own, and one for each revision
    (collection,) = state["collections"].values()
    assert [item["id"] for item in collection["items"]] == [NAME]


def test_errors_that_pass_are_waited_out(hub, publish) -> None:
    """Each call of a publication fails once, in one of the ways a Hub fails."""
    hub.faults(
        {"method": "GET", "path": "whoami", "kind": "status", "status": 502},
        {"method": "POST", "path": "repos/create", "kind": "lost"},  # the second attempt meets a 409
        {"method": "GET", "path": f"{API}/refs", "kind": "status", "status": 500},
        {"method": "POST", "path": f"{API}/branch/step5000", "kind": "lost"},
        {"method": "PUT", "path": "^/lfs/.*/2$", "kind": "cut", "after": 100_000},
        {
            "method": "POST",
            "path": f"{API}/commit/step5000",
            "kind": "status",
            "status": 429,
            "retry_after": 2,
        },
        {
            "method": "POST",
            "path": f"{API}/commit/step10000",
            "kind": "lost",
        },  # the client sees that it was done
        {"method": "POST", "path": f"{API}/tag", "kind": "lost"},
        {"method": "POST", "path": "^/api/collections$", "kind": "status", "status": 503},
        {"method": "POST", "path": "items$", "kind": "lost"},
    )
    said = publish()
    assert hub.faults() == []  # all of them happened
    log = hub.state()["log"]
    assert ["POST", "/api/repos/create", 409] in log
    assert_whole(hub, publish.folder)
    assert "again in 1 s" in said and "again in 2 s" in said and "sent 52 files in 3 commits" in said


def test_a_stale_parent_is_compared_anew(hub, publish) -> None:
    """Somebody commits between our look and our commit: 412; what they added is not part of the export."""
    hub.faults({"method": "POST", "path": f"{API}/commit/main", "kind": "race", "name": NAME})
    publish()
    state = hub.state()
    assert ["POST", f"/api/models/{NAME}/commit/main", 412] in state["log"]
    assert remote_files(state, "350M-F") == local_files(publish.folder)
    assert state["repos"][NAME]["commits"] == 5  # theirs too


def test_what_does_not_pass_ends_in_one_line_and_a_rerun_finishes(hub, publish) -> None:
    hub.faults(
        {"method": "POST", "path": f"{API}/commit/step10000", "kind": "status", "status": 500, "times": 9}
    )
    said = publish("--attempts", "2", code=2).splitlines()
    assert said[-1].startswith(f"curr-ab: {NAME} step10000: Server error '500 Internal Server Error'")
    assert said[-1].endswith("(after 2 attempts); nothing is lost; run the command again")
    before = hub.state()["log"]
    assert any(path.startswith("/lfs/") for _, path, _ in before)
    hub.faults()
    publish()
    # The large files had arrived: they are not sent again.
    assert not any(method == "PUT" for method, _, _ in hub.state()["log"])
    assert_whole(hub, publish.folder)


def test_a_killed_run_is_carried_on(hub, publish) -> None:
    """Killed in the middle of a large file: parts of it lie on the Hub, and no commit."""
    hub.faults({"method": "PUT", "path": "^/lfs/.*/3$", "kind": "slow", "seconds": 60})
    process = hub.start(*publish.command)
    for _ in range(600):
        if any(path.endswith("/2") for _, path, _ in hub.state()["log"]):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    said = "".join(process.communicate())
    assert WRITER not in said and process.returncode == -signal.SIGKILL
    assert hub.state()["repos"][NAME]["commits"] == 1
    hub.faults()
    publish()
    assert_whole(hub, publish.folder)


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
from curr_ab.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def with_full_disk(hub, *args) -> str:
    """`curr-ab` in a process that cannot write more than 400 kB into a file; weights have more."""
    command = [sys.executable, "-P", "-c", FULL_DISK, *map(str, args)]
    shown = subprocess.run(command, env=hub.environment(), capture_output=True, text=True, check=False)
    assert shown.returncode == 2, shown.stderr
    return shown.stdout + shown.stderr


def test_downloads_survive_a_full_disk_cuts_and_slowness(hub, publish, tmp_path) -> None:
    """A full disk stops with one line and leaves nothing; what passes is repeated; the rerun finishes."""
    publish()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    said = with_full_disk(hub, "verify", "350M-F", "--scratch", scratch)
    assert said.startswith("curr-ab: ") and "File too large" in said and said.count("\n") == 1
    assert list(scratch.iterdir()) == []
    hub.faults(
        {"method": "GET", "path": f"{API}/refs", "kind": "status", "status": 429, "retry_after": 1},
        {"method": "GET", "path": "^/lfs/", "kind": "cut", "after": 300_000},
        {"method": "HEAD", "path": "tokenizer.json", "kind": "slow", "seconds": 2},
        {"method": "GET", "path": "training.json", "kind": "slow", "seconds": 2},
        {"method": "GET", "path": "config.json", "kind": "status", "status": 503},
    )
    limits = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    assert "350M-F: verified" in hub.run("verify", "350M-F", "--scratch", scratch, **limits)
    assert hub.faults() == []


@pytest.mark.slow
def test_an_export_that_meets_a_full_disk_leaves_nothing(hub, run_folder, tmp_path) -> None:
    out = tmp_path / "exports" / "CurrAb-350M-F"
    command = ("export", "350M-F", "--rehearsal", "--weights", run_folder, "--out", out)
    said = with_full_disk(hub, *command)
    assert said.splitlines()[-1].startswith("curr-ab: ") and "File too large" in said
    assert list(out.parent.iterdir()) == []
    assert "loads as stock and as remote code" in hub.run(*command)


def test_errors_show_no_secrets() -> None:
    from curr_ab.hub.remote import one_line

    error = RuntimeError(
        f"PUT https://me:{WRITER}@storage.example/lfs/1?X-Amz-Signature=secret failed\n"
        f"authorization: Bearer {STRANGER} lfs/2?X-Amz-Credential=secret/eu&X-Amz-Signature=secret"
    )
    text = one_line(error)
    assert "\n" not in text and "storage.example/lfs/1" in text
    for secret in (WRITER, STRANGER, "secret"):
        assert secret not in text
