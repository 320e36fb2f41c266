"""What the harness of faults calls equal, half-written and survived."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest
from faults.bench import Bench, Reference, possible
from faults.table import summary
from faults.tries import contents, disturb_after, leftovers, run


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
    assert (cell["tries"], cell["bad"], cell["wrong"], cell["tracebacks"]) == (6, 2, 1, 1)


def test_a_key_that_only_contains_a_word_of_the_clock_is_compared(two):
    one, other = two
    for folder, number in ((one, 1), (other, 2)):
        (folder / "choice.json").write_text(json.dumps({"candidates": number, "hours": number}))
    found = [contents(folder) for folder in two]
    assert {key for key in found[0] if found[0][key] != found[1][key]} == {"out/choice.json/candidates"}


def test_what_differs_by_itself_is_not_wrong_and_all_else_is(two):
    one, other = two
    (other / "weights.bin").write_bytes(b"\1\2\4")
    bench = object.__new__(Bench)
    bench.place = other.parent
    wanted = Reference(contents(one), frozenset(), 1.0, 1)
    assert bench._judge("evaluate", "stop", wanted) == {"outcome": "wrong", "differs": ["out/weights.bin"]}
    wanted.by_itself = frozenset(["out/weights.bin"])
    assert bench._judge("evaluate", "stop", wanted) == {}


@pytest.mark.heavy
def test_a_small_disk_that_cannot_be_mounted_is_left_out_by_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "mount").write_text(f"#!{sys.executable}\nraise SystemExit(32)\n")
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert possible(("kill group", "full disk"), tmp_path) == ["kill group"]
    assert capsys.readouterr().out.startswith("full disk: left out")


@pytest.fixture
def scratch(tmp_path):
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.mark.parametrize(("whom", "status"), [("parent", -signal.SIGKILL), ("stop", 128)])
def test_a_command_is_met_while_it_works(whom, status, scratch, monkeypatch):
    """Never before it obeys signals, also where whoever started the harness ignores them."""
    monkeypatch.setattr("curr_ab.cli.main.main", work)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ended = run(["2"], scratch, disturb_after(0.3 if whom == "parent" else 0.0, whom))
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.status == (status if whom == "parent" else status + ended.signal_number)
    assert not ended.orphans


def work(arguments):
    from curr_ab.training.stop import Stopped, stoppable

    try:
        time.sleep(0.5)
        with stoppable():
            time.sleep(float(arguments[0]))
    except Stopped as stopped:
        return 128 + stopped.signal_number
    return 0


def test_whoever_goes_on_is_an_orphan_and_ended(scratch, monkeypatch):
    monkeypatch.setattr("curr_ab.cli.main.main", lambda arguments: 0 if os.fork() else time.sleep(60))
    monkeypatch.setattr("faults.tries.PATIENCE_S", 0.2)
    ended = run([], scratch)
    assert (ended.status, ended.orphans) == (0, 1)
