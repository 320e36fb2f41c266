"""docs/how-to/publish.md: its example runs, and its figures are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import curr_ab.hub
from curr_ab.hub.manifest import TOLERANCE
from tests.hub.test_exporting import save_published

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "how-to" / "publish.md").read_text()


def test_the_tolerance_is_that_of_the_code() -> None:
    assert f"within {TOLERANCE:g} of each other" in DOCUMENT


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch, capsys) -> None:
    save_published(tmp_path / "RUN", 500_000, 77.64)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out.splitlines()[-1] == "exports/CurrAb-8M-H []"


def test_public_names_are_the_truth() -> None:
    assert sorted(curr_ab.hub.__all__) == sorted(curr_ab.hub._LAZY)
