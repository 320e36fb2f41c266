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
from support.tiny_models import save_checkpoint, shake, tiny_config

import curr_ab
from curr_ab import CurrAbForMaskedLM
from curr_ab.family import member
from curr_ab.files import file_digest
from curr_ab.hub.exports import export
from curr_ab.hub.space_settings import SpaceSettings
from curr_ab.hub.space_verification import _compare
from curr_ab.hub.spaces import write_space
from curr_ab.hub.wheel import WHEEL, _package_files, write_wheel
from curr_ab.options import OptionError
from tests.hub.conftest import STRANGER, WRITER, running_hub

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
    assert found == ["BUILDING", "APP_STARTING", "RUNNING"]  # once more, as the variable restarts it
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
    assert json.loads((files / "reference.json").read_text())["model"] == "demo"


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


def test_a_space_that_sleeps_has_been_published_and_is_asked(space, again) -> None:
    """A free machine sleeps after two days; the first question wakes it."""
    space._call("POST", "space", {"name": NAME, "host": "http://127.0.0.1:9", "stages": ["SLEEPING"]})
    assert f"{NAME}: SLEEPING" in space.run(*again)
    for stage in ("SLEEPING", "RUNNING_BUILDING", "RUNNING_APP_STARTING"):
        space._call("POST", "space", {"name": NAME, "stages": [stage]})
        shown = space.run("verify", f"spaces/{NAME}", "--attempts", "1", code=2)
        assert "must be RUNNING" not in shown and f"spaces/{NAME}: verified" not in shown


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
    """And kept, where another publication names none."""
    space._call("POST", "space", {"name": NAME, "stages": ["RUNNING", "APP_STARTING", "RUNNING"]})
    space.run(*again)
    said = space.run(*again, "--hardware", "zero-a10g")
    assert f"{NAME}: hardware zero-a10g" in said
    space.state()
    for more in ((), ("--hardware", "zero-a10g")):
        assert f"{NAME}: hardware" not in space.run(*again, *more)
        assert changing(space.state()["log"]) == []
    said = space.run(*PUBLISH, "--dry-run")
    assert re.search(r"main: \d files", said), said  # the requirements of the machine that it has
    assert space.state()["repos"][NAME]["hardware"] == "zero-a10g"


@pytest.mark.parametrize("more", [("--hardware", "t4-small"), ("--variable", "GREETING=good morning")])
def test_the_app_of_before_is_not_taken_for_the_new_one(space, again, more) -> None:
    """After a change it runs on for a moment, on the machine of before; then the new one fails."""
    space._call("POST", "space", {"name": NAME, "stages": ["RUNNING"], "error": None})
    space.run(*again)
    stages = ["APP_STARTING", "RUNTIME_ERROR"]
    space._call("POST", "space", {"name": NAME, "after": stages})
    shown = space.run(*again, *more, code=2)
    assert f"{NAME} must be RUNNING; got RUNTIME_ERROR" in shown


def test_a_private_space_is_refused(hub, again) -> None:
    assert "its builder fetches the wheel without a login" in hub.run(*again, "--private", code=2)
    assert changing(hub.state()["log"]) == []


def test_a_space_that_is_private_already_is_refused(hub, again) -> None:
    hub.python(
        f"from huggingface_hub import HfApi; HfApi().create_repo('{NAME}', repo_type='space', "
        "space_sdk='gradio', private=True)"
    )
    hub.state()
    assert f"{NAME} must be public, as its builder fetches the wheel" in hub.run(*again, code=2)
    assert changing(hub.state()["log"]) == []


def test_what_cannot_be_published_is_refused_before_a_pair_is_scored(hub, exported) -> None:
    many = ("publish", "--namespace", "brineylab", "--space", "demo", "--reference-pairs", "944")
    started = time.monotonic()
    for args, line, token in (
        ((*many, "--space", "DEMO"), "two would be brineylab/CurrAb-demo", WRITER),
        ((*many, "--private"), "private must be no for brineylab/CurrAb-demo", WRITER),
        ((*many, "--hardware", "a-toaster"), "hardware must be one of cpu-basic", WRITER),
        (many, "may not write to brineylab", STRANGER),
        (("publish", exported, "--namespace", "brineylab", "--hardware", "t4-small"), "is no Space", WRITER),
    ):
        shown = hub.run(*args, code=2, token=token)
        assert line in shown, shown
    assert time.monotonic() - started < 60 * 5  # to be read in a report: scoring takes minutes
    assert changing(hub.state()["log"]) == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export of a member with few parameters."""
    model = shake(CurrAbForMaskedLM(tiny_config()), 1).eval()
    weights = save_checkpoint(model, tmp_path_factory.mktemp("weights"))
    folder = tmp_path_factory.mktemp("export") / "CurrAb-8M-F"
    export(member("8M-F"), weights, folder, rehearsal=True)
    return folder


def test_a_member_and_its_space_are_published_together_and_verified(hub, exported, tmp_path) -> None:
    name = member("8M-F").repo_id("brineylab")
    options = ("--namespace", "brineylab", "--reference-pairs", "4")
    said = hub.run("publish", exported, "--space", "8M-F", *options)
    assert f"{name}: model, new, public" in said and f"{name}: space, new, public" in said
    place = tmp_path / "CurrAb-8M-F"
    get = "from huggingface_hub import snapshot_download as get; "
    hub.python(f"{get}get('{name}', repo_type='space', local_dir={str(place)!r}); get('{name}')")
    header = yaml.safe_load((place / "README.md").read_text().split("---\n")[1])
    assert header["models"] == [name]
    # As in a Space, whose builder has put the model into the cache.
    with running_app(place, HF_HOME=str(hub.home), HF_ENDPOINT=hub.endpoint) as address:
        hub._call("POST", "space", {"name": name, "host": address, "stages": ["RUNNING"]})
        said = hub.run("verify", f"spaces/{name}")
    assert f"the score is that of {name} here" in said and f"spaces/{name}: verified" in said
    again = hub.run("publish", exported, "--space", "8M-F", *options)
    assert again.count("sent 0 files in 0 commits") == 2


def test_a_space_of_a_causal_model_says_what_it_does_and_is_verified(hub, tmp_path) -> None:
    name = "brineylab/CurrAb-CLM-demo"
    hub.run("publish", "--space", "clm-DEMO", "--namespace", "brineylab", "--reference-pairs", "4")
    place = tmp_path / "CurrAb-CLM-demo"
    get = "from huggingface_hub import snapshot_download as get; "
    hub.python(f"{get}get('{name}', repo_type='space', local_dir={str(place)!r})")
    card = (place / "README.md").read_text()
    assert "Score, pair and generate antibodies with `CLM-demo`" in card and "utate" not in card
    with running_app(place) as address:
        hub._call("POST", "space", {"name": name, "host": address, "stages": ["RUNNING"]})
        assert f"spaces/{name}: verified" in hub.run("verify", f"spaces/{name}")


def test_a_space_names_no_folder_of_who_verifies(hub, again, tmp_path) -> None:
    folder = shutil.copytree(again[1], tmp_path / "CurrAb-demo")
    reference = json.loads((folder / "reference.json").read_text())
    (folder / "reference.json").write_text(json.dumps(reference | {"model": "../mine"}))
    hub.run("publish", folder, "--namespace", "brineylab")
    hub._call("POST", "space", {"name": NAME, "host": "http://127.0.0.1:9", "stages": ["RUNNING"]})
    shown = hub.run("verify", f"spaces/{NAME}", code=2)
    assert "reference.json must name a model of the Hub; got '../mine'" in shown


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
        metadata = [name for name in wheel.namelist() if ".dist-info/" in name]
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert modules <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in metadata)
    # The same from what was installed, whatever has been left beside it.
    (place / "curr_ab" / "notes.md").write_text("a secret")
    program = "import sys; from pathlib import Path; from curr_ab.hub.wheel import write_wheel; "
    program += "print(write_wheel(Path(sys.argv[1])))"
    (tmp_path / "third").mkdir()
    more = [path for path in sys.path if path.endswith("site-packages")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place), *more])}
    subprocess.run([sys.executable, "-P", "-c", program, tmp_path / "third"], env=environment, check=True)
    with zipfile.ZipFile(tmp_path / "third" / WHEEL) as wheel:
        found = [name.removeprefix("curr_ab/") for name in wheel.namelist() if ".dist-info/" not in name]
        assert [name for name in wheel.namelist() if ".dist-info/" in name] == metadata
    assert found == names


def test_what_lies_beside_the_package_is_not_published(tmp_path) -> None:
    root = Path(curr_ab.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    shutil.copytree(root / "curr_ab", tmp_path / "curr_ab", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(root / name, tmp_path / name)
    before = dict(_package_files(tmp_path))
    assert before == dict(_package_files(root))
    for name in (
        "notes.md",
        ".env",
        "cli/main.py~",
        "cli/.main.py.swp",
        "hub/model.safetensors",
        "demo/.hidden",
        ".idea/settings.py",
        "mine/code.py",
        "data/pairs.parquet",
    ):
        (tmp_path / "curr_ab" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "curr_ab" / name).write_text("a secret")
    assert dict(_package_files(tmp_path)) == before


def test_a_space_has_a_model_of_the_hub(tmp_path) -> None:
    folder = shutil.copytree(curr_ab.resolve("demo"), tmp_path / "mine")
    with pytest.raises(ValueError, match="a Space must have a model of the Hub; got the folder"):
        write_space(str(folder), tmp_path / "out", namespace="me")


def test_a_token_is_no_variable() -> None:
    with pytest.raises(OptionError, match="variables must hold no token") as raised:
        SpaceSettings(variables=("TOKEN=hf_abcdefgh123",))
    assert "hf_abcdefgh123" not in str(raised.value)
    for key in ("API_KEY", "db_password", "TOKEN", "MY_SECRET"):
        with pytest.raises(OptionError, match=f"must hold no secret, .*; {key} is named so") as raised:
            SpaceSettings(variables=(f"{key}=swordfish",))
        assert "swordfish" not in str(raised.value)
    SpaceSettings(variables=("KEYBOARD=qwerty",))


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

    reference = {"model": "brineylab/CurrAb-8M-F", "corpus": "pairs", "checkpoint": "0" * 64}
    values = {"title": "CurrAb-8M-F", "gradio": "6.0.0", "description": "x", "hardware": "cpu-basic"}
    repository = member("8M-F").repo_id("brineylab")
    card = render("hub/space_card.md", **values, repository=repository, reference=reference)
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["models"] == [repository]
    assert header["preload_from_hub"][0].startswith(f"{repository} config.json,model.safetensors")
