"""Folds hold relatives apart; the published ones by rows leak."""

import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.neighbors import KNeighborsClassifier

from curr_ab.data import builtin_path
from curr_ab.finetuning import Example, Examples, plant, read_examples, resolve_recipe, split_folds
from curr_ab.finetuning.folds import hold_out_validation
from curr_ab.words import UNKNOWN_LABEL

CLONE = resolve_recipe("specificity-binary", {"group_by": "clone", "early_stopping": 0})
ROWS = resolve_recipe("specificity-binary", {"fold_scheme": "rows", "early_stopping": 0})


def examples_of(rows, group="clone"):
    """Mappings with heavy, light, label and a group, as examples."""
    items = [
        Example(str(n), row["heavy"], row["light"], row["label"], row[group], n + 1)
        for n, row in enumerate(rows)
    ]
    return Examples(tuple(items), ("HD", "CoV"))


@pytest.fixture(scope="module")
def clonal():
    """Clones with five cells or more, each clone with a label by chance: there is nothing to learn."""
    clones = {}
    for row in pq.read_table(builtin_path(), columns=["heavy", "light", "clone", "donor"]).to_pylist():
        clones.setdefault(row["clone"], []).append(row)
    random = np.random.default_rng(0)
    rows = []
    for clone in [rows for rows in clones.values() if len(rows) >= 5][:200]:
        label = int(random.random() < 0.5)
        rows += [row | {"label": label} for row in clone]
    return examples_of(rows)


def memorised(examples, folds):
    """Accuracy of the nearest neighbour in residues, over all folds."""
    vectors = HashingVectorizer(analyzer="char", ngram_range=(3, 3), lowercase=False, n_features=2**14)
    residues = vectors.transform([one.heavy + one.light for one in examples])
    labels = np.array([one.label for one in examples])
    right = []
    for fold in folds:
        model = KNeighborsClassifier(1).fit(residues[fold.train], labels[fold.train])
        right.append(model.predict(residues[fold.test]) == labels[fold.test])
    return np.concatenate(right).mean()


@pytest.mark.heavy
def test_rows_leak_and_groups_do_not(clonal):
    """A model that remembers is right about the sisters of what it saw, and knows nothing."""
    assert len(clonal) > 500
    assert memorised(clonal, split_folds(clonal, ROWS)) > 0.97
    assert 0.43 < memorised(clonal, split_folds(clonal, CLONE)) < 0.57


@pytest.mark.parametrize("early_stopping", [0, 2])
@pytest.mark.parametrize("group", ["clone", "donor"])
@pytest.mark.parametrize("task", ["specificity-binary", "paratope", "affinity"])
@pytest.mark.heavy
def test_grouped_parts_share_no_group(task, group, early_stopping, tmp_path):
    pq.write_table(plant(task, 300), tmp_path / "pairs.parquet")
    recipe = resolve_recipe(task, {"group_by": group, "early_stopping": early_stopping})
    examples = read_examples(recipe, [str(tmp_path / "pairs.parquet")])
    folds = split_folds(examples, recipe)
    assert len(folds) == 5
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(300))
    for fold in folds:
        parts = [fold.train, fold.validation, fold.test]
        assert sorted(np.concatenate(parts)) == list(range(300))
        groups = [{one.group for one in examples.take(part)} for part in parts]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]
        assert bool(len(fold.validation)) == bool(early_stopping)
        assert 30 <= len(fold.test) <= 90


@pytest.mark.parametrize("recipe", [ROWS, CLONE])
def test_classes_are_in_equal_shares(clonal, recipe):
    share = np.mean([one.label for one in clonal])
    for fold in split_folds(clonal, recipe):
        assert abs(np.mean([one.label for one in clonal.take(fold.test)]) - share) < 0.1


def test_the_same_again(clonal):
    def test_parts(recipe):
        return [fold.test.tolist() for fold in split_folds(clonal, recipe)]

    assert test_parts(CLONE) == test_parts(CLONE)
    other = resolve_recipe("specificity-binary", {"group_by": "clone", "seed": 7})
    assert test_parts(other) != test_parts(CLONE)


def test_rows_are_the_published_folds(clonal):
    """Stratified by row, shuffled by seed 42."""
    from sklearn.model_selection import StratifiedKFold

    labels = [one.label for one in clonal]
    published = StratifiedKFold(n_splits=5, shuffle=True, random_state=42).split(labels, labels)
    for fold, (train, test) in zip(split_folds(clonal, ROWS), published, strict=True):
        assert (fold.train.tolist(), fold.test.tolist()) == (train.tolist(), test.tolist())


def test_identical_pairs_stay_together_whatever_their_groups(clonal):
    """The same cell under two donors' names would otherwise be learnt and asked for."""
    rows = [
        {"heavy": one.heavy, "light": one.light, "label": n % 2, "clone": f"donor {copy} of {n}"}
        for n, one in enumerate(clonal.items[:60])
        for copy in range(2)
    ]
    examples = examples_of(rows)
    for fold in split_folds(examples, CLONE):
        train = {(one.heavy, one.light) for one in examples.take(fold.train)}
        assert not train & {(one.heavy, one.light) for one in examples.take(fold.test)}


def test_one_fold_tests_on_a_fifth(clonal):
    (fold,) = split_folds(clonal, replace(CLONE, folds=1))
    assert 0.15 < len(fold.test) / len(clonal) < 0.25
    assert (fold.number, len(fold.train) + len(fold.test)) == (1, len(clonal))


def test_validation_of_the_last_fit(clonal):
    stopping = resolve_recipe("specificity-binary", {"group_by": "clone", "early_stopping": 2})
    train, validation = hold_out_validation(clonal, stopping)
    assert sorted([*train, *validation]) == list(range(len(clonal)))
    assert not {one.group for one in clonal.take(train)} & {one.group for one in clonal.take(validation)}
    assert len(hold_out_validation(clonal, CLONE)[1]) == 0


def test_a_single_group_leaves_nothing_to_hold_out(clonal):
    rows = [vars(one) | {"clone": f"donor{n % 2}"} for n, one in enumerate(clonal.items[:90])]
    for fold in split_folds(examples_of(rows), replace(CLONE, folds=2, early_stopping=2)):
        assert len(fold.validation) == 0 and len(fold.train) + len(fold.test) == 90


def test_fewer_groups_than_folds(clonal):
    rows = [vars(one) | {"clone": f"donor{n % 3}"} for n, one in enumerate(clonal.items[:90])]
    with pytest.raises(ValueError, match="'clone' has 3 groups that share no pair, fewer than the 5 parts"):
        split_folds(examples_of(rows), CLONE)


def test_a_fold_without_positives(clonal):
    """All positives of one donor: whoever tests on another's pairs measures nothing."""
    rows = [
        vars(one) | {"clone": f"donor{n % 6}", "label": int(n % 6 == 0)}
        for n, one in enumerate(clonal.items[:90])
    ]
    problem = "part has no example of 'CoV'; take fewer folds"
    with pytest.raises(ValueError, match=rf"fold \d: the (training|test) {re.escape(problem)}"):
        split_folds(examples_of(rows), CLONE)


def labelled(clonal, labels):
    """One pair for each label."""
    rows = [vars(one) | {"label": label} for one, label in zip(clonal.items, labels, strict=False)]
    return examples_of(rows, "group")


def test_a_fold_that_cannot_be_measured_is_refused_before_it_is_trained(clonal):
    """One number in a part, or residues of one class."""
    affinity = resolve_recipe("affinity", {"folds": 5})
    with pytest.raises(
        ValueError, match=r"fold \d: the (test|training) part has one number only; take fewer"
    ):
        split_folds(labelled(clonal, [1.0] + [0.0] * 19), affinity)
    paratope = resolve_recipe("paratope", {"folds": 3, "fold_scheme": "rows", "group_by": None})
    with pytest.raises(ValueError, match=r"fold \d: the (test|training) part has no example of 'paratope'"):
        split_folds(labelled(clonal, [(0, 1, UNKNOWN_LABEL)] + [(0, 0, UNKNOWN_LABEL)] * 19), paratope)


COLUMNS = {"label_columns": ("a", "b"), "folds": 2, "fold_scheme": "rows", "group_by": None}


def test_nothing_is_held_out_where_auto_has_regressions_alone(clonal):
    """Of several columns no method is tried that has epochs to stop between."""
    examples = labelled(clonal, [(float(n), float(n % 7)) for n in range(60)])
    recipe = resolve_recipe("developability", {**COLUMNS, "method": "auto", "early_stopping": 2})
    assert all(len(fold.train) + len(fold.test) == 60 for fold in split_folds(examples, recipe))
    assert len(hold_out_validation(examples, recipe)[1]) == 0
    trained = replace(recipe, method="lora")
    assert all(len(fold.validation) for fold in split_folds(examples, trained))


def test_numbers_of_the_validation_part_are_exact(clonal):
    examples = labelled(clonal, [float(n) for n in range(60)])
    items = [replace(one, bounds=(1,)) if n % 5 else one for n, one in enumerate(examples.items)]
    changes = {"folds": 2, "fold_scheme": "rows", "group_by": None, "early_stopping": 1, "method": "lora"}
    changes["validation_fraction"] = 0.03
    recipe = resolve_recipe("developability", changes)
    with pytest.raises(ValueError, match="must have numbers that are no bounds; it has none"):
        split_folds(replace(examples, items=tuple(items)), recipe)


def test_residues_of_the_validation_part_are_known(clonal):
    """Else its loss is the mean of nothing."""
    examples = labelled(clonal, [(0, 1)] * 30 + [(UNKNOWN_LABEL,) * 2] * 60)
    changes = {"folds": 2, "fold_scheme": "rows", "group_by": None, "early_stopping": 1}
    refused = 0
    for seed in range(20):
        recipe = resolve_recipe("paratope", {**changes, "seed": seed, "validation_fraction": 0.05})
        try:
            folds = split_folds(examples, recipe)
        except ValueError as error:
            refused += "the part held out for early_stopping must have labelled residues" in str(error)
        else:
            assert all((0, 1) in {examples[n].label for n in fold.validation} for fold in folds)
    assert 0 < refused < 20
