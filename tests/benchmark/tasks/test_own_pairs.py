"""Tasks of any table of pairs: exchanged partners, and regions for the loss."""

from collections import Counter

import pytest
from support.benchmark_files import pairs, write_table

from curr_ab.benchmark.tasks.catalogue import read_task
from curr_ab.benchmark.tasks.folds import clone_groups, find_leaks
from curr_ab.domains import find_domains
from curr_ab.probes.sequence_features import sequence_features


def write(folder, chains):
    rows = [{"id": f"p{n}", "heavy": heavy, "light": light} for n, (heavy, light) in enumerate(chains)]
    return write_table(folder / "own.csv", rows)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return read_task("pairing", [write(tmp_path_factory.mktemp("pairing"), pairs(300))], folds=4)


def locus(light):
    return find_domains(light)[0].chain


def test_kappa_and_lambda_are_apart(tasks):
    assert [task.name for task in tasks] == ["pairing-kappa", "pairing-lambda"]
    for task, letter in zip(tasks, "KL", strict=True):
        assert {locus(light) for _, light in task.pairs} == {letter}


def test_every_chain_is_in_a_native_and_an_exchanged_pair(tasks):
    native = set(pairs(300))
    for task in tasks:
        assert [pair in native for pair in task.pairs] == [bool(label) for label in task.labels]
        for chain in (0, 1):
            counts = {
                label: Counter(
                    pair[chain] for pair, own in zip(task.pairs, task.labels, strict=True) if own == label
                )
                for label in (0, 1)
            }
            assert counts[0] == counts[1]


def test_features_of_single_chains_have_nothing_to_weigh(tasks):
    """So that the AUROC of such a baseline is 0.5 to the last digit."""
    for task in tasks:
        features = sequence_features("k-mers", task.pairs)
        for train, _ in task.folds:
            native, exchanged = (features[train[task.labels[train] == label]] for label in (1, 0))
            assert native.sum(axis=0) == pytest.approx(exchanged.sum(axis=0))


def test_no_chain_is_on_both_sides_of_a_fold(tasks):
    for task in tasks:
        assert find_leaks(task.ids, task.pairs, task.groups, task.folds) == []
        for train, test in task.folds:
            for chain in (0, 1):
                assert not {task.pairs[row][chain] for row in train} & {
                    task.pairs[row][chain] for row in test
                }


def test_partners_are_no_relatives(tmp_path):
    chains = pairs(60)
    heavy = chains[0][0]
    sister = heavy[:3] + ("L" if heavy[3] != "L" else "V") + heavy[4:]
    chains += [(sister, light) for _, light in chains[1:12] if locus(light) == locus(chains[0][1])]
    tasks = read_task("pairing", [write(tmp_path, chains)], folds=2)
    native = set(chains)
    for task in tasks:
        for pair, label in zip(task.pairs, task.labels, strict=True):
            assert label or pair not in native
    assert clone_groups([(heavy, None), (sister, None)])[0] == clone_groups([(sister, None)] * 2)[0]


def test_pairs_of_several_files_have_names_of_their_own(tmp_path):
    """Numbers begin anew in each file; predictions are found by names."""
    files = []
    for number in range(3):
        (tmp_path / f"lab{number}").mkdir()
        files.append(write(tmp_path / f"lab{number}", pairs(36)[12 * number : 12 * number + 12]))
    (task,) = read_task("loss", files)
    assert len(set(task.ids)) == len(task.ids) == 36
    assert task.ids[:1] == ("p0",) and task.ids[12] == "p0, record 1" and "own.csv" in task.ids[24]


def test_too_few_pairs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must have 40 pairs with light chains of one kind; got 20"):
        read_task("pairing", [write(tmp_path, pairs(20))])


def test_the_loss_has_the_region_of_each_residue(tmp_path):
    chains = pairs(12)
    chains[3] = chains[3][::-1]  # each in the column of the other
    (task,) = read_task("loss", [write(tmp_path, chains)])
    assert task.pairs[3] == chains[3][::-1]
    for (heavy, light), regions in zip(task.pairs, task.labels, strict=True):
        expected = [int(code) for chain in (heavy, light) for code in find_domains(chain)[0].region_mask]
        assert list(regions) == expected
    assert task.kind == "loss" and task.sign == -1 and task.folds is None
