"""The process that loads checkpoints as other people do."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys

import psutil
import pytest

from curr_ab.checkpoint_files import DEMO_FOLDERS
from curr_ab.hub.fresh_process import LOADER, FreshProcess
from curr_ab.words import EXAMPLE_PAIR


@pytest.mark.heavy
def test_each_folder_is_loaded_by_its_own_code(tmp_path) -> None:
    """Also where two have one name, as the steps of two exports have."""
    first, second, ran = tmp_path / "a" / "step500", tmp_path / "b" / "step500", tmp_path / "ran"
    for folder in (first, second):
        shutil.copytree(DEMO_FOLDERS["demo"], folder)
    code = second / "modeling_curr_ab.py"
    code.write_text(f"{code.read_text()}\nopen({str(ran)!r}, 'w').close()\n")
    with FreshProcess() as process:
        process.load(first, "remote", EXAMPLE_PAIR, None)
        assert not ran.exists()
        process.load(second, "remote", EXAMPLE_PAIR, None)
    assert ran.exists()


def test_one_that_is_killed_is_told_with_what_may_be_why(tmp_path) -> None:
    others = psutil.Process().children()
    with FreshProcess() as process:
        with pytest.raises(ValueError, match="does not load"):
            process.load(tmp_path / "no folder", "stock", EXAMPLE_PAIR, None)  # it runs now
        (loader,) = set(psutil.Process().children()) - set(others)
        loader.kill()
        with pytest.raises(ChildProcessError, match=r"was killed \(signal 9; out of memory\?\)"):
            process.load(tmp_path / "no folder", "stock", EXAMPLE_PAIR, None)


@pytest.fixture
def with_code(tmp_path):
    """A copy of `demo` whose code does something of its own first."""

    def make(name: str, code: str):
        shutil.copytree(DEMO_FOLDERS["demo"], tmp_path / name)
        module = tmp_path / name / "modeling_curr_ab.py"
        module.write_text(f"{module.read_text()}\n{code}\n")
        return tmp_path / name

    return make


@pytest.mark.heavy
def test_what_it_leaves_in_the_temporary_folder_goes_with_it(with_code, tmp_path, monkeypatch) -> None:
    folder = with_code("careless", "import tempfile; tempfile.mkdtemp()")
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    with FreshProcess() as process:
        process.load(folder, "remote", EXAMPLE_PAIR, None)
    assert not list(temporary.iterdir())


@pytest.mark.heavy
def test_code_of_a_repository_finds_no_token_no_home_and_no_network(with_code, tmp_path, monkeypatch) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "SOME_PASSWORD"):
        monkeypatch.setenv(name, "never-to-be-seen")
    found = tmp_path / "found.json"
    with socket.create_server(("127.0.0.1", 0)) as server:
        folder = with_code(
            "curious",
            f"""
import json, os, socket
from huggingface_hub import get_token
try:
    socket.create_connection({server.getsockname()!r}, timeout=5).close()
    reached = True
except OSError:
    reached = False
seen = dict(os.environ), get_token(), os.path.expanduser("~"), reached
open({str(found)!r}, "w").write(json.dumps(seen))
""",
        )
        with FreshProcess() as process:
            process.load(folder, "remote", EXAMPLE_PAIR, None)
    environment, token, home, reached = json.loads(found.read_text())
    assert "never-to-be-seen" not in environment.values() and token is None
    assert "curr-ab-" in home
    # Not every system lets a process leave its network.
    sys_lets = "import loader, os; before = os.readlink('/proc/self/ns/net'); loader.leave_network(); "
    sys_lets += "print(before != os.readlink('/proc/self/ns/net'))"
    said = subprocess.run(
        [sys.executable, "-c", sys_lets], cwd=LOADER.parent, capture_output=True, text=True, check=True
    )
    assert reached == (said.stdout.strip() == "False")


@pytest.mark.heavy
def test_code_of_one_repository_does_not_change_how_others_are_loaded(with_code) -> None:
    false = "{'model_class': 'Forged', 'input_ids': [], 'logits': [[0.0]]}"
    hostile = with_code("hostile", f"import __main__; __main__.answer = lambda request: {false}")
    honest = DEMO_FOLDERS["demo"]
    with FreshProcess() as process:
        process.load(hostile, "remote", EXAMPLE_PAIR, None)
        assert process.load(honest, "remote", EXAMPLE_PAIR, None).model_class == "Forged"
        assert process.load(honest, "stock", EXAMPLE_PAIR, None).model_class == "EsmForMaskedLM"
        process.forget_code()
        assert process.load(honest, "remote", EXAMPLE_PAIR, None).model_class == "CurrAbForMaskedLM"
