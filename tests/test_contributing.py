"""CONTRIBUTING.md names commands and files that exist; CITATION.cff says what a citation needs."""

import re
from pathlib import Path

import yaml

import curr_ab

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_make_commands_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"`make ([a-z-]+)`", TEXT)
    assert {"check", "fix", "test", "test-fast"} <= set(named) <= set(targets)


def test_the_files_exist():
    named = re.findall(r"`([\w/]+(?:/|\.py|\.md))`", TEXT)
    places = [ROOT, ROOT / "curr_ab"]
    assert named and not [name for name in named if not any((place / name).exists() for place in places)]


def test_a_word_has_one_meaning():
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    words = re.findall(r"^\| ([a-z][a-z ]*) \| ", glossary, re.MULTILINE)
    explained = [word for word in words if word != "word"]
    assert len(explained) == len(set(explained)) > 30


def test_the_citation_is_complete():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= found.keys() and found["type"] == "software"
    assert found["authors"] == [{"name": "The curr_ab developers"}]
    assert found["version"] == curr_ab.__version__
    (preprint,) = found["references"]
    assert {"type", "title", "authors"} <= preprint.keys() and preprint["doi"] == "10.1101/2025.09.02.673765"
