"""Folds: whole groups with like shares of classes and numbers, clones by their CDR3s, and leaks."""

import numpy as np
import pytest
from support.benchmark_files import pairs, variants

from curr_ab.benchmark.tasks.folds import clone_groups, find_leaks, given_folds, grouped_folds
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.domains import find_domains

OPTIONS = TaskOptions(folds=4)


def test_folds_hold_groups_whole_and_cover_every_row_once():
    groups = [f"g{number % 30}" for number in range(120)]
    folds = grouped_folds(groups, [number % 3 for number in range(120)], OPTIONS)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(120))
    assert find_leaks(groups, [(one, None) for one in map(str, range(120))], groups, folds) == []
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(120))


def test_folds_have_like_shares_of_the_classes():
    random = np.random.default_rng(0)
    groups = random.integers(0, 60, 400)
    labels = (groups % 5 == 0).astype(int)  # whole groups are of one class, a fifth of them
    folds = grouped_folds(groups.tolist(), labels, OPTIONS)
    assert max(abs(labels[test].mean() - labels.mean()) for _, test in folds) < 0.03


def test_folds_have_like_quantiles_of_a_number():
    values = np.linspace(0.0, 1.0, 200)
    for _, test in grouped_folds(range(200), values, OPTIONS):
        assert abs(np.median(values[test]) - 0.5) < 0.1


def test_folds_are_fixed_by_the_seed():
    groups, labels = [f"g{number // 3}" for number in range(90)], [number % 2 for number in range(90)]
    one, again, other = (
        [test.tolist() for _, test in grouped_folds(groups, labels, TaskOptions(seed=seed))]
        for seed in (1, 1, 2)
    )
    assert one == again != other


def test_more_folds_than_groups_are_refused():
    with pytest.raises(ValueError, match="folds must be at most the number of groups, 3; got 4; take fewer"):
        grouped_folds(["a", "b", "c", "c"], [0, 1, 0, 1], OPTIONS)


def test_a_column_of_folds_must_have_two_values():
    with pytest.raises(ValueError, match="must have two or more values; got 1"):
        given_folds(["1", "1.0"], str)


def test_leaks_name_the_records_on_both_sides():
    folds = given_folds(["0", "0", "1", "1"], str)
    shared = [("H1", "L1"), ("H2", "L2"), ("H1", "L1"), ("H3", "L3")]
    assert find_leaks("abcd", shared, None, folds) == ["a and c (the same pair)"]
    assert find_leaks("abcd", [("H", str(n)) for n in range(4)], ["x", "y", "z", "y"], folds) == [
        "b and d (the same group)"
    ]


def test_clones_are_chains_with_a_close_cdr3_of_one_length():
    unrelated = pairs(6)
    heavy, light = unrelated[0]
    place = find_domains(heavy)[0].cdr3

    def mutant(*places):
        letters = list(heavy)
        for at in places:
            letters[at] = "A" if letters[at] != "A" else "G"
        return "".join(letters), light

    length = place.stop - place.start
    near = mutant(place.start + 1)
    far = mutant(*range(place.start, place.start + length // 2))
    groups = clone_groups([*unrelated, near, far, (heavy[: place.start] + heavy[place.start + 1 :], light)])
    assert len(set(groups[:6])) == 6
    assert groups[6] == groups[0]
    assert groups[7] not in groups[:7]
    assert groups[8] not in groups[:8]  # a residue shorter


def test_a_short_cdr3_may_differ_in_two_residues():
    heavy, light = pairs(1)[0]
    place = find_domains(heavy)[0].cdr3
    short = [heavy[: place.start] + cdr3 + heavy[place.stop :] for cdr3 in ("ARGYDY", "ARVFDY", "TRVFDF")]
    one, two, three = clone_groups([(heavy, light) for heavy in short])
    assert one == two == three  # the last by the one between them
    assert len(set(clone_groups([(short[0], light), (short[2], light)]))) == 2


def test_a_chain_between_two_joins_them_into_one_clone():
    heavy, light = pairs(1)[0]
    place = find_domains(heavy)[0].cdr3
    steps = [heavy]
    for at in range(place.start, place.stop, 2):
        last = steps[-1]
        steps.append(last[:at] + ("A" if last[at] != "A" else "G") + last[at + 1 :])
    assert len(set(clone_groups([(steps[0], light), (steps[-1], light)]))) == 2
    assert len(set(clone_groups([(one, light) for one in steps]))) == 1


def test_single_light_chains_have_clones_too():
    lights = [(None, light) for _, light in pairs(3)]
    assert len(set(clone_groups(lights))) == 3
    assert all(group.startswith("light") for group in clone_groups(lights))
    assert clone_groups([("GGGG", None), ("GGGG", None)]) == ("chain GGGG",) * 2


def test_thousands_of_variants_of_one_antibody_are_one_clone():
    assert len(set(clone_groups(variants(250)))) == 1
