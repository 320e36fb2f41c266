"""What stands on both sides of a fold is refused by name, or marked where the user keeps it."""

from dataclasses import replace

import numpy as np
import pytest
from support.benchmarks import planted

from curr_ab.benchmark import near_pairs as near_module
from curr_ab.benchmark.leaks import near_leaks
from curr_ab.benchmark.near_pairs import near_pairs
from curr_ab.benchmark.report import write_report
from curr_ab.benchmark.tasks.options import TaskOptions


def leaky(how):
    """A task whose pair 7, in fold 4, is also in fold 1 as pair 0 is."""
    task = planted("number")
    pairs, groups = list(task.pairs), list(task.groups)
    if how == "pair":
        pairs[7] = pairs[0]
    elif how == "clone":
        heavy, light = pairs[0]
        pairs[7] = (heavy[:5] + ("A" if heavy[5] != "A" else "C") + heavy[6:], light)
    else:
        groups[7] = groups[0]
    return replace(task, pairs=tuple(pairs), groups=tuple(groups))


@pytest.mark.parametrize(
    ("how", "words"),
    [("pair", "the same pair"), ("clone", "2 or fewer residues differ"), ("group", "the same group")],
)
def test_a_leak_is_refused_by_name(bench, seeing, how, words):
    with pytest.raises(ValueError, match=rf"are pair0 and pair7 \({words}\)") as error:
        bench([leaky(how)], [seeing])
    assert "leaks to keep" in str(error.value)
    assert seeing.asked == []


def test_a_leak_that_is_kept_is_marked(bench, seeing):
    found = bench([leaky("clone")], [seeing], options=TaskOptions(leaks="keep"))
    page = write_report(found).read_text()
    assert "Leaks were kept" in page and "pair0 and pair7" in page
    assert "pair0 and pair7" in page.replace("\\", "") and found.tasks[0].leaks
    assert "Leaks were kept" in (found.folder / "report.md").read_text()


def test_relatives_in_two_studies_are_marked_and_not_refused(bench, seeing):
    """Folds that hold studies apart cannot hold clones apart, too; a pair that stands in both is refused."""
    options = TaskOptions(group_by="source")
    found = bench([leaky("clone")], [seeing], options=options)
    assert found.tasks[0].leaks == ("pair0 and pair7 (2 or fewer residues differ)",)
    assert "Leaks were kept" in write_report(found).read_text()
    with pytest.raises(ValueError, match="the same pair"):
        bench([leaky("pair")], [seeing], options=options)


def test_no_leak_is_seen_where_there_is_none(bench, seeing):
    found = bench([planted("number")], [seeing])
    assert found.tasks[0].leaks == ()
    assert "Leaks were kept" not in write_report(found).read_text()


def test_three_differences_are_another_clone():
    task = planted("number")
    heavy, light = task.pairs[0]

    def changed(places):
        letters = list(heavy)
        for place in places:
            letters[place] = "A" if letters[place] != "A" else "C"
        return ("".join(letters), light)

    for places, leaks in (((0, 12), 1), ((0, 8, 16), 0), ((3,), 1)):
        pairs = [*task.pairs[:7], changed(places), *task.pairs[8:]]
        assert len(near_leaks(task.ids, pairs, task.folds)) == leaks, places


def test_a_leak_out_of_the_one_test_part_is_seen():
    """As of owners' data sets that have a training and a test file."""
    task = leaky("clone")
    rest = np.setdiff1d(np.arange(len(task.pairs)), [0])
    assert near_leaks(task.ids, task.pairs, [(rest, np.array([0]))]) == [
        "pair0 and pair7 (2 or fewer residues differ)"
    ]


@pytest.mark.parametrize(
    ("change", "is_near"),
    [
        (lambda heavy, light: (heavy[1:], light), True),
        (lambda heavy, light: (heavy[:-1], light), True),
        (lambda heavy, light: (heavy, light + "A"), True),
        (lambda heavy, light: (heavy[1:] + "Q", light), True),  # another window of the same read
        (lambda heavy, light: (heavy[1:], light[1:]), True),
        (lambda heavy, light: (heavy[1:9] + "W" + heavy[10:], light), True),
        (lambda heavy, light: (heavy[1:9] + "W" + heavy[10:-1] + "W", light), False),
        (lambda heavy, light: (heavy[1:-1], light[1:]), False),
        (lambda heavy, light: (heavy[:9] + heavy[10:], light), False),  # a deletion is another rearrangement
    ],
)
def test_reads_of_one_clone_may_lack_a_residue_at_an_end(change, is_near):
    task = planted("number")
    pairs = [*task.pairs[:7], change(*task.pairs[0]), *task.pairs[8:]]
    assert near_pairs(pairs) == ([(0, 7)] if is_near else [])


def test_near_pairs_are_found_in_a_crowd(monkeypatch):
    """Of a common light chain thousands share a part; of mutants of one antibody some are enough."""
    task = planted("number")
    pairs = [(heavy, task.pairs[0][1]) for heavy, _ in task.pairs]
    heavy = pairs[100][0]
    pairs[107] = ("A" + heavy[1:20] + "A" + heavy[21:], pairs[0][1])
    monkeypatch.setattr(near_module, "_MOST_OF_A_KIND", 10)
    monkeypatch.setattr(near_module, "_COMPARED", 3)
    assert near_pairs(pairs) == [(100, 107)]
    mutants = [(heavy[:row] + "X" + heavy[row + 1 :], pairs[0][1]) for row in range(20)]
    assert 3 * 16 <= len(near_pairs(mutants)) < 190


def test_mutants_that_are_ranked_are_no_leak(bench, seeing):
    task = replace(leaky("clone"), kind="ranking")
    assert bench([task], [seeing], shots=()).failures == ()
