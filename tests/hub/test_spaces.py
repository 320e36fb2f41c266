"""Spaces against the local Hub, over HTTP: an app is published, run, verified, and changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from random import Random

import pytest
import yaml
from support.apps import running_app

import curr_ab
from curr_ab.family import member
from curr_ab.files import file_digest
from curr_ab.hub.space_settings import SpaceSettings
from curr_ab.hub.space_verification import _compare
from curr_ab.hub.spaces import write_space
from curr_ab.hub.wheel import WHEEL, write_wheel
from curr_ab.options import OptionError
from tests.hub.conftest import running_hub

NAME = "brineylab/CurrAb-demo"
PUBLISH = ("publish", "--space", "demo", "--namespace", "brineylab", "--reference-pairs", "4")
# Requests that change nothing: to look, and to ask whether a card is valid.
LOOKS = ("GET", "HEAD")

pytestmark = pytest.mark.heavy


def changing(log: list) -> list:
    return [(method, path) for method, path, _ in log if method not in LOOKS and "validate-yaml" not in path]


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A Hub with the Space of `demo`, what its publication said, and the requests of a second one."""
    with running_hub(tmp_path_factory.mktemp("space")) as hub:
        hub.said = hub.run(*PUBLISH, "--variable", "GREETING=hello", "--collection", "Apps")
        hub.first = hub.state()
        hub.said_again = hub.run(*PUBLISH, "--variable", "GREETING=hello")
        hub.second = hub.state()
        yield hub


@pytest.fixture(scope="module")
def files(space, tmp_path_factory):
    """The files of the Space as the Hub serves them."""
    place = tmp_path_factory.mktemp("files") / "CurrAb-demo"
    script = "import sys; from huggingface_hub import snapshot_download as get; "
    script += "get('brineylab/CurrAb-demo', repo_type='space', local_dir=sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, place], env=space.environment(), check=True)
    return place


@pytest.fixture(scope="module")
def again(files, tmp_path_factory):
    """The command that publishes these files once more; it needs no model."""
    folder = tmp_path_factory.mktemp("again") / "CurrAb-demo"
    shutil.copytree(files, folder, ignore=shutil.ignore_patterns(".*", "uploads", "app.log"))
    return ("publish", folder, "--namespace", "brineylab")


def test_a_space_is_made_and_runs(space) -> None:
    assert f"{NAME}: space, new, public" in space.said
    found = re.findall(rf"{NAME}: ([A-Z_]+)$", space.said, re.MULTILINE)
    assert found == ["APP_STARTING", "RUNNING"]  # the first look, at the machine, saw BUILDING
    repo = space.first["repos"][NAME]
    wanted = {"README.md", "app.py", "requirements.txt", "reference.json", WHEEL}
    assert wanted <= set(repo["branches"]["main"]) <= {*wanted, ".gitattributes"}
    (collection,) = space.first["collections"].values()
    assert [(item["type"], item["id"]) for item in collection["items"]] == [("space", NAME)]
    assert (repo["hardware"], repo["variables"]) == ("cpu-basic", {"GREETING": "hello"})


def test_a_second_publication_sends_nothing(space) -> None:
    assert "sent 0 files in 0 commits" in space.said_again
    assert changing(space.second["log"]) == []
    assert space.second["repos"] == space.first["repos"]


def test_the_header_is_what_the_hub_wants(files) -> None:
    header = yaml.safe_load((files / "README.md").read_text().split("---\n")[1])
    assert header["sdk"] == "gradio" and header["app_file"] == "app.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", header["sdk_version"])
    assert header["python_version"] == "3.12"  # text: a number would lose its last zero
    assert len(header["short_description"]) <= 60
    assert "models" not in header  # `demo` comes with the package


def test_the_wheel_is_fetched_by_its_address_and_digest(files, space) -> None:
    line = (files / "requirements.txt").read_text().splitlines()[-1]
    address, digest = line.removeprefix("curr-ab @ ").split("#sha256=")
    assert address == f"{space.endpoint}/spaces/{NAME}/resolve/main/{WHEEL}"
    assert digest == file_digest(files / WHEEL)


def test_the_app_of_the_space_answers_and_is_verified(files, space) -> None:
    with running_app(files) as address:
        space._call("POST", "space", {"name": NAME, "host": address, "stages": ["RUNNING"]})
        said = space.run("verify", f"spaces/{NAME}")
    assert "the score is that of demo here" in said and f"spaces/{NAME}: verified" in said


def test_an_app_that_cannot_be_reached_is_not_verified(space) -> None:
    space._call("POST", "space", {"name": NAME, "host": "http://127.0.0.1:9", "stages": ["RUNNING"]})
    shown = space.run("verify", f"spaces/{NAME}", "--attempts", "1", code=2)
    assert "verified" not in shown.replace("not verified", "")
    space._call("POST", "space", {"name": NAME, "stages": ["PAUSED"]})
    assert "it must be RUNNING; it is PAUSED" in space.run("verify", f"spaces/{NAME}", code=2)


@pytest.mark.parametrize(
    ("stages", "error", "log"),
    [
        (["BUILDING", "BUILD_ERROR"], "No matching distribution", "?logs=build"),
        (["APP_STARTING", "RUNTIME_ERROR"], "exit code 1", "?logs=container"),
        (["PAUSED"], None, ""),
    ],
)
def test_a_space_that_does_not_run_is_one_clear_line(space, again, stages, error, log) -> None:
    space._call("POST", "space", {"name": NAME, "stages": stages, "error": error})
    last = space.run(*again, code=2).splitlines()[-1]
    assert f"{NAME} must be RUNNING; got {stages[-1]}" in last
    assert f"{space.endpoint}/spaces/{NAME}{log}" in last
    assert error is None or error in last


def test_the_wait_is_bounded(space, again) -> None:
    space._call("POST", "space", {"name": NAME, "stages": ["BUILDING"], "error": None})
    shown = space.run(*again, "--wait-minutes", "0.03", code=2)
    assert f"{NAME} must be RUNNING within 0.03 minutes; it is BUILDING" in shown
    space.run(*again, "--wait-minutes", "0")


def test_hardware_is_asked_for_once(space, again) -> None:
    space._call("POST", "space", {"name": NAME, "stages": ["RUNNING"]})
    said = space.run(*again, "--hardware", "zero-a10g")
    assert f"{NAME}: hardware zero-a10g" in said
    space.state()
    assert "hardware" not in space.run(*again, "--hardware", "zero-a10g")
    assert changing(space.state()["log"]) == []


def test_a_private_space_is_refused(hub, again) -> None:
    assert "its builder fetches the wheel without a login" in hub.run(*again, "--private", code=2)
    assert changing(hub.state()["log"]) == []


def test_killed_at_any_moment_it_is_finished_with_nothing_doubled(hub, again) -> None:
    moments = []
    started = time.monotonic()
    hub.run(*again, "--dry-run")
    whole = time.monotonic() - started
    random = Random(7)
    for _ in range(10):
        process = hub.start(*again)
        time.sleep(random.uniform(0.4, 1.6) * whole)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        moments.append(process.returncode)
    assert f"{NAME}: RUNNING" in hub.run(*again)
    assert -signal.SIGKILL in moments
    repo = hub.state()["repos"][NAME]
    assert repo["commits"] <= 2  # the Hub's own, and ours
    assert "sent 0 files in 0 commits" in hub.run(*again)


def test_the_wheel_is_the_package_and_the_same_each_time(tmp_path) -> None:
    one, other = (write_wheel(tmp_path / name) for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    place = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", place, one]
    subprocess.run([*map(str, install)], check=True)
    package = Path(curr_ab.__file__).parent
    for path in ("demo/model.safetensors", "modeling/modeling_curr_ab.py", "space/style.css"):
        assert (place / "curr_ab" / path).read_bytes() == (package / path).read_bytes()
    with zipfile.ZipFile(one) as wheel:
        names = [name.removeprefix("curr_ab/") for name in wheel.namelist() if ".dist-info/" not in name]
    there = {
        path.relative_to(package).as_posix()
        for place, _, found in os.walk(package, followlinks=True)
        for path in (Path(place, name) for name in found)
        if "__pycache__" not in path.parts
    }
    assert set(names) == there


def test_a_space_has_a_model_of_the_hub(tmp_path) -> None:
    folder = shutil.copytree(curr_ab.resolve("demo"), tmp_path / "mine")
    with pytest.raises(ValueError, match="a Space must have a model of the Hub; got the folder"):
        write_space(str(folder), tmp_path / "out", namespace="me")


def test_a_token_is_no_variable() -> None:
    with pytest.raises(OptionError, match="variables must hold no token") as raised:
        SpaceSettings(variables=("TOKEN=hf_abcdefgh123",))
    assert "hf_abcdefgh123" not in str(raised.value)


def test_another_answer_is_a_problem() -> None:
    here = {"model": "demo", "checkpoint": "a", "mode": "group", "log_likelihood": {"pair": -100.0}}
    ways = [
        ({}, []),
        ({"checkpoint": "b"}, ["checkpoint must be a, as here; it says b"]),
        ({"model": "other"}, ["model must be demo, as here; it says other"]),
        ({"log_likelihood": {"pair": -100.05}}, []),
        ({"log_likelihood": {"pair": -101.0}}, ["log_likelihood of pair must be -100.0000, as here"]),
        ({"log_likelihood": {}}, ["log_likelihood of pair is missing"]),
    ]
    for change, wanted in ways:
        problems = _compare(json.loads(json.dumps(here | change)), here, lambda line: None, "me/it")
        assert len(problems) == len(wanted)
        assert all(problem.startswith(text) for problem, text in zip(problems, wanted, strict=True))


def test_a_member_s_space_names_its_repository() -> None:
    """And the files that the builder fetches beforehand."""
    from curr_ab.pages import render

    reference = {"corpus": "pairs", "checkpoint": "0" * 64}
    values = {"title": "CurrAb-8M-F", "gradio": "6.0.0", "description": "x", "hardware": "cpu-basic"}
    repository = member("8M-F").repo_id("brineylab")
    card = render("hub/space_card.md", **values, repository=repository, reference=reference)
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["models"] == [repository]
    assert header["preload_from_hub"][0].startswith(f"{repository} config.json,model.safetensors")
