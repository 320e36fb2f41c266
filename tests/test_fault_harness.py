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
from faults.tries import after_stops, contents, disturb_after, leftovers, run


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
    assert bench._judge("evaluate", wanted) == {"outcome": "wrong", "differs": ["out/weights.bin"]}
    wanted.by_itself = frozenset(["out/weights.bin"])
    assert bench._judge("evaluate", wanted) == {}


def log_of(folder, losses, states):
    """A log with these losses at their steps, and the states that are kept."""
    (folder / "log.jsonl").write_text(
        "".join(
            json.dumps({"step": step, "loss": loss, "gradient_norm": 1.0}) + "\n" for step, loss in losses
        )
    )
    for step in states:
        (folder / "states" / f"step-{step:08d}").mkdir(parents=True)
        (folder / "states" / f"step-{step:08d}" / "tensors").write_bytes(bytes([step]))


@pytest.mark.parametrize(
    ("losses", "states", "stops", "is_equal"),
    [
        ([(3, 5.0), (6, 4.0)], (3, 6), 0, True),
        ([(3, 5.0), (5, 4.2), (6, 3.6)], (5, 6), 1, True),  # asked to stop in step 5
        ([(2, 5.1), (3, 4.9), (5, 4.2), (6, 3.6)], (5, 6), 2, True),
        ([(3, 5.0), (5, 4.2), (6, 3.6)], (5, 6), 0, False),  # nobody asked
        ([(3, 5.0), (5, 4.2), (6, 4.1)], (5, 6), 1, False),  # the mean of both is another
        ([(3, 4.8), (5, 4.2), (6, 3.6)], (5, 6), 1, False),  # a line that no stop has touched
        ([(3, 5.0), (5, 4.2), (6, 3.6)], (3, 6), 1, False),  # not the last states
        ([(3, 5.0), (6, 4.0)], (5, 6), 1, False),  # a state of a step that nothing tells of
        ([(3, 5.0), (5, 4.2)], (3, 6), 1, False),
        ([(3, 5.0), (6, 4.0), (7, 4.0)], (3, 6), 1, False),
    ],
)
def test_a_stop_may_add_a_line_and_a_state_of_its_step_and_no_more(two, losses, states, stops, is_equal):
    one, other = two
    log_of(one, [(3, 5.0), (6, 4.0)], (3, 6))
    log_of(other, losses, states)
    wanted = contents(one)
    assert (after_stops(contents(other), wanted, stops) == wanted) is is_equal


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
