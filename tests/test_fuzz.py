"""Damaged and hostile files for everything that reads one: an answer or one line, soon, and nothing else.

`make fuzz` tries 100,000 of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.readers import READERS
from fuzz.run import counts, digest, try_reader

TESTS = Path(__file__).parent
NUM = counts(1_500)
SELDOM_REFUSED = ("germlines", "log of a training")  # text in which each line stands alone
DIGEST = "from fuzz.run import digest; print(digest(sys.argv[1], 30, 0, pathlib.Path(sys.argv[2])))"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_soon(tmp_path, name):
    found = try_reader(name, NUM[name], 0, tmp_path)
    assert found.failures == []
    assert found.read + found.refused == NUM[name]
    assert found.refused or name in SELDOM_REFUSED


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(tmp_path, name):
    for path in READERS[name].make(tmp_path):
        READERS[name].read(path)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["tables", "prepared data", "probe"])
def test_what_is_drawn_depends_on_the_seed_alone(tmp_path, name):
    """Not on what a process has imported, on its hashes, nor on its folders."""
    more = "import sys, pathlib, decimal, unittest, xml.dom, curr_ab.cli.main; " + DIGEST
    environment = {**os.environ, "PYTHONHASHSEED": "7", "HF_HUB_OFFLINE": "1"}
    other = tmp_path / "elsewhere" / "and deeper"
    other.mkdir(parents=True)
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", more, name, str(other)],
        capture_output=True, text=True, check=True, cwd=TESTS, env=environment,
    )  # fmt: skip
    (tmp_path / "here").mkdir()
    assert made.stdout.split()[-1] == digest(name, 30, 0, tmp_path / "here")
    (tmp_path / "again").mkdir()
    assert digest(name, 30, 1, tmp_path / "again") != made.stdout.split()[-1]
