"""What the harness of faults calls equal, half-written and survived."""

from __future__ import annotations

import json

import pytest
from faults.table import summary
from faults.tries import contents, leftovers


@pytest.fixture
def two(tmp_path):
    """Two results that are equal but for the clock."""
    found = []
    for name, seconds in (("a", 1.5), ("b", 2.5)):
        folder = tmp_path / name / "out"
        folder.mkdir(parents=True)
        (folder / "weights.bin").write_bytes(b"\1\2\3")
        (folder / "log.jsonl").write_text(json.dumps({"loss": 3.1, "seconds": seconds}) + "\n")
        found.append(folder)
    return found


def test_times_alone_are_no_difference(two):
    one, other = two
    assert contents(one) == contents(other)
    (other / "log.jsonl").write_text(json.dumps({"loss": 3.2, "seconds": 2.5}) + "\n")
    assert contents(one) != contents(other)


def test_a_changed_byte_and_a_missing_file_are_differences(two):
    one, other = two
    (other / "weights.bin").write_bytes(b"\1\2\4")
    assert contents(one) != contents(other)
    (other / "weights.bin").unlink()
    assert contents(one).keys() != contents(other).keys()


def test_half_written_names_are_found(two):
    one, _ = two
    assert not leftovers(one.parent)
    (one.parent / ".out.tmp").mkdir()
    assert leftovers(one.parent) == [".out.tmp"]


def test_what_was_not_survived_is_counted(tmp_path):
    log = tmp_path / "log.jsonl"
    tries = ({"tries": 3}, {"tries": 1, "outcome": "wrong"}, {"tries": 2, "tracebacks": 1})
    log.write_text(
        "".join(json.dumps({"command": "embed", "fault": "full disk"} | one) + "\n" for one in tries)
    )
    cell = summary(log)["embed", "full disk"]
    assert (cell["tries"], cell["bad"], cell["wrong"], cell["tracebacks"]) == (6, 1, 1, 1)
