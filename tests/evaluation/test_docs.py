"""docs/how-to/evaluate.md names commands, options and files that exist, and its code runs."""

import re
import shlex
from pathlib import Path

import pytest

from curr_ab.cli.main import build_parser
from curr_ab.evaluation import PLANS

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "how-to" / "evaluate.md").read_text()


def test_every_command_parses():
    lines = "".join(re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)).splitlines()
    suites = set()
    for program, *arguments in map(shlex.split, lines):
        if program == "curr-ab":
            parsed = build_parser().parse_args(arguments)
            suites.add(getattr(parsed, "suite", None))
    assert suites == {*PLANS, None}


@pytest.mark.heavy
def test_python_runs(folder, corpus, tmp_path, capsys):
    block = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)[0]
    variables = {"model": folder, "shards": corpus, "out": tmp_path}
    exec(block, variables)
    assert variables["results"]
    assert "| ours | test-loss (place all, pairs 100) | loss |" in capsys.readouterr().out


def test_everything_named_exists():
    for path in re.findall(r"train_scripts/[\w/.-]*\w", DOCUMENT):
        assert (ROOT / path).exists(), path
    for suite in re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE):
        assert suite in PLANS
    options = {f"--{name.replace('_', '-')}" for plan in PLANS.values() for name in vars(plan())}
    for option in re.findall(r"`(--[a-z-]+)", DOCUMENT):
        assert option in options | {"--out", "--metric", "--json"}, option


def test_defaults_are_those_stated():
    fitness = PLANS["fitness"]()
    assert (fitness.shots, fitness.repeats) == ((8, 32, 128), 10)
    assert PLANS["specificity"]().protocol == "grouped"
    assert all(plan().dtype == "float32" for plan in PLANS.values())
    from curr_ab.measures.statistics import DRAWS

    assert DRAWS == 500


def test_the_sections_of_the_docs():
    text = DOCUMENT[DOCUMENT.index("## Metrics\n") : DOCUMENT.index("## Published figures\n")]
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(block, {})
    lines = [line for line in text.splitlines() if line.startswith("curr-ab ")]
    assert [line.split()[1] for line in lines] == ["finetune", "finetune", "compare"]
    for line in lines:
        assert callable(build_parser().parse_args(shlex.split(line)[1:]).run)
