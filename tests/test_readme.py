"""What the README shows is what happens: code and commands run on `demo`, and print what stands below."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import ROOT, blocks_of, shell_lines

import curr_ab
from curr_ab.cli.main import main

INSTALLED = str(Path(curr_ab.__file__).parents[1])  # the checkout, or what a wheel left
README = (ROOT / "README.md").read_text()
BLOCKS = blocks_of(README)
# Lines that are not run, with the reason; that they can be understood is tested with those of the pages.
NOT_RUN = {
    r"^pip ": "the tests have no network",
    r"^curr-ab data prepare": "a minute; tests/data",
    r"^curr-ab pretrain": "minutes; tests/pretraining",
    r"^curr-ab evaluate": "of the model that was pretrained; tests/evaluation",
    r"^accelerate ": "a training on GPUs",
    r"^curr-ab (export|publish)": "of the weights of that training; tests/hub",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.heavy
@pytest.mark.usefixtures("place")
def test_code_prints_what_stands_below_it(capsys):
    names, compared = {}, 0
    for block, after in zip(BLOCKS, [*BLOCKS[1:], None], strict=True):
        if block.language != "python":
            continue
        exec(block.text, names)
        assert after.language == "text"
        assert capsys.readouterr().out.splitlines() == after.text.splitlines()
        compared += 1
    assert compared == 2


@pytest.mark.heavy
def test_first_lines_need_no_network_and_no_minute(tmp_path):
    """In a fresh process, where every connection fails, and with an empty cache."""
    first = next(number for number, block in enumerate(BLOCKS) if block.language == "python")
    no_network = (
        "import socket\ndef refuse(*_): raise OSError('no network')\nsocket.socket.connect = refuse\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", no_network + BLOCKS[first].text],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "hub"), "PYTHONPATH": INSTALLED},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == BLOCKS[first + 1].text.splitlines()


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # of libraries that commands use
def test_commands_run(place, capfd):
    lines = [line for block in BLOCKS for line in shell_lines(block)]
    unused = [one for one in NOT_RUN if not any(re.search(one, line) for line in lines)]
    assert unused == []
    for line in lines:
        if not any(re.search(one, line) for one in NOT_RUN):
            arguments = shlex.split(line, comments=True)
            assert main(arguments[1:]) == 0, line
            if "--out" in arguments:
                assert Path(place, arguments[arguments.index("--out") + 1]).exists(), line
    capfd.readouterr()


def test_it_takes_a_minute_to_read():
    assert len(README.splitlines()) <= 200
    [picture] = re.findall(r"!\[.+\]\((.+)\)", README)
    assert (ROOT / picture).stat().st_size < 150_000


def test_named_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE))
    assert {"study", "test"} <= named
    for command in named:
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command


def test_documents_are_not_behind_the_code():
    command = [sys.executable, ROOT / "docs" / "generate.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
