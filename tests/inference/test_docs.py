"""The examples of the pages on inference run as they stand there."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from support.tiny_models import PAIRS

import curr_ab
from curr_ab.cli.inference import BulkOptions
from curr_ab.cli.main import build_parser, main
from curr_ab.options import read_options
from curr_ab.share import Share

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
NAMES = ("embed", "score", "mutate", "restore", "pair", "number", "many-pairs")
TEXT = "\n".join((HOW_TO / f"{name}.md").read_text() for name in NAMES)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_python(folder, tokenizer, monkeypatch):
    monkeypatch.setattr(
        curr_ab, "load", lambda name: curr_ab.checkpoints.load(folder, device="cpu", dtype=torch.float32)
    )
    heavy, light = PAIRS[0]
    functions, _ = BLOCKS
    variables = {"heavy": heavy[:44], "light": light[:40]}
    exec(functions, variables)
    assert variables["one"].pll() < 0


@pytest.mark.heavy
def test_reading_a_folder(folder, table, simulated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--records-per-part", "25", "--dtype", "float32", "--quiet", "--precision", "float16"]
    assert main(["embed", str(folder), str(table), "--out", "embeddings/", *options]) == 0
    _, reading = BLOCKS
    reading = reading.replace("1_000", "20").replace("P10", simulated[20].id).replace("P20", simulated[30].id)
    variables = {"wanted": simulated[40].id}
    exec(reading, variables)
    assert variables["one"]["id"].to_pylist() == [simulated[40].id]
    assert variables["some"]["id"].to_list() == [one.id for one in simulated[20:40]]
    assert sorted(row[0] for row in variables["between"]) == [one.id for one in simulated[20:31]]


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
