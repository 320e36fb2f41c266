"""The examples of docs/how-to/generate.md run as they stand there."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from support.tiny_models import PAIRS, save_checkpoint

import curr_ab
from curr_ab.cli.main import build_parser, main
from curr_ab.inference import settings

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "generate.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for line in TEXT.splitlines() if line.startswith("curr-ab ")]


@pytest.mark.heavy
def test_python(causal, tmp_path, monkeypatch):
    folder = str(save_checkpoint(causal, tmp_path / "model"))
    ours, theirs = (block.replace("runs/tiny-clm", folder) for block in BLOCKS)
    variables = {"heavy": PAIRS[0][0], "torch": torch}
    exec(ours.replace("n=3,", "n=3, any_sequence=True,"), variables)
    assert variables["one"].record.light
    exec(theirs, variables)
    assert isinstance(variables["light"], str)
    assert "CurrAbForCausalLM" in type(variables["model"]).__name__


@pytest.mark.heavy
def test_commands(causal, tmp_path, monkeypatch):
    """Every command runs, with a model that was trained on nothing."""
    save_checkpoint(causal, tmp_path / "MODEL")
    monkeypatch.chdir(tmp_path)
    for name, chain in (("heavies.csv", 0), ("lights.csv", 1)):
        Path(name).write_text(
            f"id,{('heavy', 'light')[chain]}\n" + "".join(f"{n},{p[chain]}\n" for n, p in enumerate(PAIRS))
        )
    assert len(COMMANDS) == 3
    for line in COMMANDS:
        few = (
            line.replace("--n 100", "--n 2")
            .replace("--out lights.csv", "--out made.csv")
            .replace("--out heavies.csv", "--out made2.csv")
        )
        assert main([*shlex.split(few)[1:], "--any-sequence", "--quiet", "--max-length", "20"]) == 0
    assert curr_ab


def test_options_of_the_page_are_there():
    own = TEXT[TEXT.index("## What is given") :]
    flags = set(re.findall(r"--[a-z][a-z-]*", own))
    [generate] = build_parser()._subparsers._group_actions
    known = set(generate.choices["generate"]._option_string_actions)
    assert flags <= known, flags - known
    assert settings.GenerationPlan().n == 1
