"""docs/how-to/study.md names the presets, keys and files that exist."""

import re
from dataclasses import fields
from pathlib import Path

from curr_ab.study.preset import Launch, Preset, StudyData, change, preset_names, read_preset

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "how-to" / "study.md").read_text()


def test_every_preset_shown_exists():
    shown = set(re.findall(r"--preset (\w+) ", DOCUMENT))
    assert shown == set(preset_names())


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
