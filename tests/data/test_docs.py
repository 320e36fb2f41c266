"""docs/data.md lists what the code has, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.pair_files import plain_text

from curr_ab.data import PreparationPlan, prepare
from curr_ab.data.preparing.clean import REASONS
from curr_ab.data.schema import FIELDS, PROVENANCE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


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
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
