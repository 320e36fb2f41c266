"""Metrics of swapped predictions, no matter on which scale a model predicts."""

import numpy as np
import pytest
from scipy.special import softmax
from support.cross_validations import write_run

from curr_ab.evaluation import compare_runs
from curr_ab.measures.metrics import metrics_for

RANKING = ["auroc", "aupr"]


def two_logits(classes=2, skills=(1.3, 0.6), folds=4, size=60):
    """Labels of each fold, and logits of a better and a worse model."""
    generator = np.random.default_rng(3)
    for _ in range(folds):
        labels = np.arange(size) % classes
        better, worse = (
            skill * np.eye(classes)[labels] + generator.normal(size=(size, classes)) for skill in skills
        )
        yield labels, better, worse


def write(folder, folds, change=lambda number, logits: logits):
    names = [f"class {number}" for number in range(folds[0][1].shape[1])]
    made = [
        {"labels": labels, "predictions": softmax(change(number, logits), axis=1)}
        for number, (labels, logits) in enumerate(folds)
    ]
    return write_run(folder, "classes", names, made)


def p_values(first, second, metrics=RANKING):
    return [row.p_predictions for row in compare_runs(first, second, metrics=metrics, draws=200).metrics]


def test_the_scale_of_a_model_does_not_change_p(tmp_path):
    """Raw probabilities of a bold and a timid model, once swapped, rank by whose they are."""
    folds = list(two_logits(skills=(1.3, 1.0)))
    better = write(tmp_path / "better", [(labels, one) for labels, one, _ in folds])
    worse = [(labels, one) for labels, _, one in folds]
    plain = write(tmp_path / "worse", worse)
    timid = write(tmp_path / "timid", worse, lambda _, one: 0.05 * one + np.array([3.0, 0.0]))
    assert p_values(better, timid) == p_values(better, plain)
    assert all(0.01 < p < 0.2 for p in p_values(better, plain))


def test_a_shift_of_each_fold_makes_no_difference(tmp_path):
    """Folds are scored one by one: pooled, a model whose folds lie apart would look worse."""
    folds = [(labels, one) for labels, one, _ in two_logits()]
    first = write(tmp_path / "first", folds)
    second = write(tmp_path / "second", folds, lambda number, one: one + np.array([0.0, 2.0 * number]))
    found = compare_runs(first, second, metrics=RANKING, draws=100).metrics
    assert [row.first for row in found] == [row.second for row in found]
    assert p_values(first, second) == [1, 1]


def test_what_is_permuted_is_what_is_shown(tmp_path):
    """The number that p is of: a mean over folds, although folds differ in their size."""
    from curr_ab.measures.fold_comparison import _difference_when_swapped, _units
    from curr_ab.measures.fold_predictions import read_run

    folds = [
        (labels[: 60 - 12 * n], a[: 60 - 12 * n], b[: 60 - 12 * n])
        for n, (labels, a, b) in enumerate(two_logits(3))
    ]
    runs = [
        write(tmp_path / name, [(fold[0], fold[place]) for fold in folds])
        for place, name in enumerate(("a", "b"), start=1)
    ]
    one, other = map(read_run, runs)
    num_units, units = _units(one)
    for row in compare_runs(*runs, draws=1).metrics:
        difference = _difference_when_swapped(metrics_for("classes", 3)[row.metric], one, other, units)
        none, all_of_them = difference(np.stack([np.zeros(num_units, bool), np.ones(num_units, bool)]))
        assert none == pytest.approx(row.first - row.second)
        assert all_of_them == pytest.approx(row.second - row.first)
