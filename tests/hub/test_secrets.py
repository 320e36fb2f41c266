"""A token is in nothing that a command leaves: output, logs of libraries, files, lists of processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from support.local_hub import COMMAND, WRITER

from tests.cli.test_main import COMMANDS
from tests.faults.commands import COMMANDS as WORKING
from tests.faults.commands import make_inputs
from tests.hub.conftest import assert_no_token

MODEL, TABLE = "brineylab/CurrAb-8M-F", "hf://datasets/curator/pairs/pairs.csv"
# What a command is given in place of the names of its least words; each is sought on the Hub, which fails.
ON_THE_HUB = {"./folder": MODEL, "demo": MODEL, "run": MODEL, "export": "adapter"}
ON_THE_HUB |= dict.fromkeys(("pairs.csv", "heavies.csv", "lights.csv", "assay.csv", "runs.csv"), TABLE)
ON_THE_HUB |= {"shards": "hf://datasets/curator/pairs", "runs/a": TABLE, "runs/b": TABLE}
# The errors of this Hub say the token that they were asked with.
FAILURES = [{"kind": "status", "status": status} for status in (401, 500)]

# All commands in one process: a fresh one for each would import for minutes.
PROGRAM = """
import json, logging, sys, traceback, urllib.request
logging.basicConfig(level=logging.DEBUG)
from curr_ab import load
from curr_ab.cli.main import main
from curr_ab.data.reading.pairs import read_pairs
from curr_ab.finetuning import load_finetuned

endpoint, failures, commands, model, table = json.loads(sys.argv[1])
for failure in failures:
    faults = [{"times": 9_999, "method": method, "path": "", **failure} for method in ("GET", "HEAD", "POST")]
    urllib.request.urlopen(urllib.request.Request(endpoint + "/_test/faults", json.dumps(faults).encode()))
    for words in commands:
        try:
            status = main(words)
        except SystemExit as error:
            status = error.code
        print(json.dumps([" ".join(words), status]), flush=True)
    for call in (lambda: load(model), lambda: load_finetuned(model), lambda: list(read_pairs(table))):
        try:
            call()
        except Exception:
            print(traceback.format_exc(), flush=True)
"""


# What else a command is given: fewer draws for laws, fewer attempts at a Hub that fails for good.
MORE = dict.fromkeys(("fit", "advise", "reproduce", "plan"), "--draws 20 --workers 1")
MORE |= {"publish": "--attempts 1"}


def words_of(command: str) -> list[str]:
    words = f"{command} {COMMANDS[command]} {MORE.get(command.rpartition(' ')[2], '')}".split()
    return [
        word if before in ("", "--out") else ON_THE_HUB.get(word, word)
        for before, word in pairwise(("", *words))
    ]


def watched(command: list[str], environment: dict[str, str], folder: Path) -> tuple[int, str]:
    """Status and output of a process; neither it nor its children show the token in their command lines."""
    said = folder / "said.txt"
    with said.open("w") as log:
        process = psutil.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            for one in (process, *process.children(recursive=True)):
                try:
                    assert WRITER not in " ".join(one.cmdline())
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.02)
    return process.returncode, said.read_text(errors="replace")


def loud(hub, folder: Path) -> dict[str, str]:
    """All that makes the libraries talk, and every place where a process leaves files."""
    (folder / "tmp").mkdir()
    talk = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug", "TRANSFORMERS_VERBOSITY": "debug"}
    places = {"TMPDIR": str(folder / "tmp"), "HF_MODULES_CACHE": str(folder / "modules"), "HOME": str(folder)}
    return hub.environment(**talk, **places, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="0")


@pytest.mark.heavy
def test_no_command_shows_a_token_when_the_hub_fails(hub, tmp_path) -> None:
    folder = tmp_path / "here"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    all_words = [words_of(command) for command in COMMANDS]
    request = json.dumps([hub.endpoint, FAILURES, all_words, MODEL, TABLE])
    status, said = watched([sys.executable, "-P", "-c", PROGRAM, request], loud(hub, folder), folder)
    assert status == 0, said[-3_000:]
    assert WRITER not in said
    assert_no_token(tmp_path)
    ended = [json.loads(line) for line in said.splitlines() if line.startswith('["')]
    assert [words for words, _ in ended] == [" ".join(words) for words in all_words] * len(FAILURES)
    asked = [path for _, path, status in hub.state()["log"] if status in (401, 500)]
    assert len(asked) > 40, "the commands have asked the Hub"


@pytest.fixture(scope="session")
def inputs(made_once) -> Path:
    return made_once("inputs-of-commands", make_inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKING)
def test_no_command_that_works_shows_a_token(hub, inputs, tmp_path, name) -> None:
    """Nor do the processes that it starts, or the folders that it leaves."""
    folder = tmp_path / "here"
    folder.mkdir()
    command = WORKING[name].arguments(inputs, folder)
    program = "import logging; logging.basicConfig(level=logging.DEBUG); " + COMMAND
    status, said = watched([sys.executable, "-P", "-c", program, *command], loud(hub, folder), folder)
    assert status == 0, said[-3_000:]
    assert WRITER not in said
    assert_no_token(folder)
