"""docs/how-to/prepare.md lists what the code has, and its examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.pair_files import plain_text

from curr_ab.data import PreparationPlan, TokenDataset, prepare
from curr_ab.data.preparing.clean import REASONS
from curr_ab.data.schema import FIELDS, PROVENANCE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "how-to" / "prepare.md").read_text()


def test_every_field_and_reason_is_documented() -> None:
    for field in (*FIELDS, *PROVENANCE):
        others = ", ".join(f"`{alias}`" for alias in field.bases) if not field.chain else ""
        assert f"| `{field.name}` | {field.type} | {field.meaning} | {others} |" in DOCUMENT
    for reason, meaning in REASONS.items():
        assert f"| `{reason}` | {meaning} |" in DOCUMENT


@pytest.mark.heavy
def test_examples_run(corpus, write, tmp_path, monkeypatch) -> None:
    header, *lines = plain_text(corpus[:100]).splitlines()
    header = header.replace("heavy", "VH").replace("light", "VL") + ",label"
    write("pairs.csv", "\n".join([header, *(f"{line},1" for line in lines)]) + "\n")
    monkeypatch.chdir(tmp_path)
    prepare("builtin", "shards", PreparationPlan(cluster="source"))
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, {})


@pytest.mark.heavy
def test_examples_of_shares_and_tasks_run(tmp_path) -> None:
    """But that for Slurm."""
    program = tmp_path / "bin" / "curr-ab"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m curr_ab "$@" --quiet\n')
    program.chmod(0o755)
    lines = re.search(r"^for share in .*?(?=^curr-ab data prepare 'oas)", DOCUMENT, re.DOTALL | re.M)[0]
    path = f"{program.parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", lines], check=True, cwd=tmp_path, env=os.environ | {"PATH": path})
    fingerprints = {TokenDataset(tmp_path / name).fingerprint for name in ("corpus", "corpus2")}
    assert len(fingerprints) == 1
