"""docs/how-to/study.md names commands, keys and files that exist."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

from curr_ab.cli.main import build_parser
from curr_ab.study.preset import Launch, Preset, StudyData, change, read_preset

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "how-to" / "study.md").read_text()


def test_every_command_parses():
    (block,) = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert commands[0] == ["make", "study"] and len(commands) == 6
    for program, *words in commands[1:]:
        assert program == "curr-ab"
        args = build_parser().parse_args(words)
        assert read_preset(args.preset).name == args.preset


def test_make_study_is_the_command_of_the_document():
    makefile = (ROOT / "Makefile").read_text()
    (target,) = re.findall(r"^study: \$\(VENV\)/installed ##.*\n\t\$\(RUN\)/(.*)$", makefile, re.MULTILINE)
    assert target == "curr-ab study --preset mini --out studies/mini" and target in DOCUMENT
    assert "studies/" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_key_of_a_preset_is_explained():
    rows = re.findall(r"^\| (`.*?) \| ", DOCUMENT.partition("Presets are data")[2], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {item.name for item in fields(Preset)} - {"name"}
    for kind in (Launch, StudyData):
        for item in fields(kind):
            assert f"`{item.name}`" in DOCUMENT
    changes = re.findall(r"--set '?([^'`\s]+)", DOCUMENT)
    assert len(changes) == 3 and change(read_preset("mini"), changes).launch.gpus_per_cell == 1
