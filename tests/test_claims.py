"""Shares of one piece of work: every task is done, once while all live, and those of lost shares as well."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from curr_ab import claims
from curr_ab.claims import SharedWork
from curr_ab.share import Share
from curr_ab.workers import Workers


class Task:
    """Leaves a file, and takes its result from it when that is there."""

    def __init__(self, folder, number, seconds=0.0):
        self.path, self.number, self.seconds = folder / f"result{number}", number, seconds

    def done(self, by):
        if not self.path.exists():
            time.sleep(self.seconds)
            by.append(self.number)
            self.path.write_text(str(self.number))
        return int(self.path.read_text())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(claims, "_PAUSES", (0.01, 0.05))


def run(folder, share, tasks, did, title="stage", **options):
    with Workers(1, **options) as workers, SharedWork(folder, share, workers) as shared:
        return shared.run(lambda task: task.done(did), tasks, title)


def test_each_task_is_done_once_and_all_shares_have_all_results(tmp_path):
    tasks = [Task(tmp_path, number, 0.002) for number in range(40)]
    did = [[], [], []]
    with ThreadPoolExecutor(3) as pool:
        shares = [pool.submit(run, tmp_path / "claims", Share(i, 3), tasks, did[i]) for i in range(3)]
        assert [share.result() for share in shares] == [list(range(40))] * 3
    assert sorted(number for own in did for number in own) == list(range(40))
    assert all(did)


def test_a_share_begins_with_its_own_tasks_and_goes_on_with_what_is_left(tmp_path):
    tasks, did = [Task(tmp_path, number) for number in range(7)], []
    assert run(tmp_path / "claims", Share(1, 3), tasks, did) == list(range(7))
    assert did[:2] == [4, 1] and sorted(did) == list(range(7))


def test_the_task_of_a_lost_share_is_taken_over(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claims, "LOST_AFTER", 0.3)
    (tmp_path / "claims" / "stage").mkdir(parents=True)
    (tmp_path / "claims" / "stage" / "1.claim").write_text("node7")
    tasks, did = [Task(tmp_path, number) for number in range(3)], []
    began = time.monotonic()
    assert run(tmp_path / "claims", Share(0, 1), tasks, did, progress=True) == [0, 1, 2]
    assert did == [0, 2, 1] and time.monotonic() - began > 0.3
    assert "a share on node7 has given no sign of life for 0 seconds" in capsys.readouterr().err


def test_a_slow_share_keeps_its_task_while_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "LOST_AFTER", 0.3)
    slow, quick = [], []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, tmp_path / "claims", Share(0, 2), [Task(tmp_path, 0, 1.5)], slow)
        while not (tmp_path / "claims" / "stage" / "0.claim").exists():
            time.sleep(0.01)
        assert run(tmp_path / "claims", Share(1, 2), [Task(tmp_path, 0)], quick) == first.result() == [0]
    assert (slow, quick) == ([0], [])


def test_a_share_that_was_thought_lost_ends_well(tmp_path):
    """Its task is done twice."""
    claim = tmp_path / "claims" / "stage" / "0.claim"

    def removes_its_claim(task):
        claim.unlink()
        return task

    with Workers(1) as workers, SharedWork(tmp_path / "claims", Share(0, 1), workers) as shared:
        assert shared.run(removes_its_claim, ["done"], "stage") == ["done"]
    assert claim.with_suffix(".done").exists()


def test_an_error_leaves_the_task_to_the_others(tmp_path):
    def fails(task):
        raise LookupError("not here")

    tasks, did = [Task(tmp_path, number) for number in range(3)], []
    with (
        pytest.raises(LookupError),
        Workers(1) as workers,
        SharedWork(tmp_path / "claims", Share(0, 2), workers) as shared,
    ):
        shared.run(fails, tasks, "stage")
    assert not [*(tmp_path / "claims" / "stage").iterdir()]  # else they would wait until it is thought lost
    assert run(tmp_path / "claims", Share(1, 2), tasks, did) == [0, 1, 2]
    assert sorted(did) == [0, 1, 2]


def test_signs_of_life_end_with_the_work(tmp_path):
    threads = threading.enumerate()
    run(tmp_path / "claims", Share(0, 1), [Task(tmp_path, 0)], [])
    assert threading.enumerate() == threads
