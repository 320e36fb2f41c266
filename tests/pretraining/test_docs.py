"""docs/how-to/pretrain.md names files, options and commands that exist."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

from curr_ab.cli.main import build_parser
from curr_ab.cli.pretrain import add_arguments
from curr_ab.cli.shell import Parser
from curr_ab.pretraining.plan import PretrainingPlan

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "how-to" / "pretrain.md").read_text()


def commands():
    blocks = "".join(re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in blocks.splitlines() if line.strip()]


def test_every_command_parses():
    launched = Parser()
    add_arguments(launched)
    programs = set()
    for program, *arguments in commands():
        programs.add(program)
        if program == "curr-ab":
            build_parser().parse_args(arguments)
        elif program == "accelerate":
            script = arguments.index("train_scripts/pretrain.py")
            launched.parse_args(arguments[script + 1 :])
    assert programs == {"pip", "curr-ab", "accelerate", "sbatch"}


def test_everything_named_exists():
    for path in re.findall(r"train_scripts/[\w/.]*\w", DOCUMENT):
        assert (ROOT / path).exists(), path
    known = {field.name for field in fields(PretrainingPlan)}
    for name in re.findall(r"`([a-z0-9_]+_[a-z0-9_]+)`", DOCUMENT):
        assert name in known, name
