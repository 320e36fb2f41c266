"""The examples of docs/inference.md run as they stand there."""

import re
import shlex
from pathlib import Path

import torch
from support.tiny_models import PAIRS

import curr_ab
from curr_ab.cli.inference import BulkOptions
from curr_ab.cli.main import build_parser
from curr_ab.options import read_options
from curr_ab.share import Share

TEXT = (Path(__file__).parents[2] / "docs" / "inference.md").read_text()


def test_python(folder, tokenizer, monkeypatch):
    monkeypatch.setattr(
        curr_ab, "load", lambda name: curr_ab.checkpoints.load(folder, device="cpu", dtype=torch.float32)
    )
    heavy, light = PAIRS[0]
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        variables = {"heavy": heavy[:44], "light": light[:40]}
        exec(block, variables)
        assert variables["one"].pll() < 0


def test_commands():
    """Every command line is one that the program understands."""
    lines = [line for block in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("curr-ab ")]
    assert len(commands) == 6
    for line in commands:
        assert callable(build_parser().parse_args(shlex.split(line)[1:]).run)


def test_commands_on_several_machines(monkeypatch):
    """What Slurm and the launchers are given is understood, too."""
    text = "".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
    commands = [match[1] for match in re.finditer(r"(?:curr-ab|-m curr_ab) (embed [^\n\"]*)", text)]
    assert len(commands) == 4
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    for command in commands:
        args = build_parser().parse_args(shlex.split(command))
        options = read_options(args, BulkOptions)
        assert options.join or options.share == Share(0, 4)
