"""Learning curves: nested parts of whole groups, a law that is found again, and advice that follows."""

import itertools

import numpy as np
import pytest

from curr_ab.finetuning.learning_curve import LearningCurve, Point, fit_law, measure_curve, nested_parts

SIZES = (50, 100, 200, 400)


def points(factor=2.0, exponent=0.5, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    return [
        Point(fold, size, 1 - factor * size**-exponent + noise * random.normal())
        for fold in range(1, 6)
        for size in SIZES
    ]


def test_parts_are_nested_and_groups_come_whole():
    indices = np.arange(10, 90)
    groups = np.repeat(np.arange(16), 5)
    parts = nested_parts(indices, groups.tolist(), seed=0, fold=1)
    assert [len(part) for part in parts] == [10, 20, 40, 80]
    for small, large in itertools.pairwise(parts):
        assert set(small) <= set(large)
    for part in parts:
        held = np.bincount(groups[part - 10], minlength=16)
        assert set(held.tolist()) <= {0, 5}
    other = nested_parts(indices, groups.tolist(), seed=0, fold=2)
    assert not np.array_equal(parts[0], other[0])


def test_a_planted_law_is_found():
    law = fit_law(points(noise=0.003))
    assert law.exponent == pytest.approx(0.5, abs=0.05) and law.factor == pytest.approx(2, rel=0.2)
    assert law.low < 0.5 < law.high
    assert law.score(1_600) == pytest.approx(1 - 2 / 40, abs=0.01)


def test_more_labels_are_advised_where_they_help():
    curve = LearningCurve("auroc", "regressions", tuple(points(noise=0.01)), fit_law(points(noise=0.01)))
    assert curve.law.more_labels > 400 and curve.law.fewest <= curve.law.more_labels
    assert "labels in the place of 400 would probably raise auroc" in curve.sentence


def test_little_is_promised_of_flat_curves():
    """Of a hundred curves that do not rise an interval of 95 % says so of all but a few."""
    promised = 0
    for seed in range(100):
        flat = tuple(points(factor=0.5, exponent=0.0, noise=0.01, seed=seed))
        curve = LearningCurve("auroc", "regressions", flat, fit_law(flat))
        promised += "do not tell whether more of them would help" not in curve.sentence
    assert promised <= 8


def test_one_fold_has_points_and_no_law():
    parts = [(1, nested_parts(np.arange(80), None, 0, 1))]
    curve = measure_curve("spearman", "regressions", parts, lambda fold, part: len(part) / 100)
    assert curve.law is None and [point.score for point in curve.points] == [0.1, 0.2, 0.4, 0.8]


def test_a_curve_is_read_as_it_was_written(tmp_path):
    curve = LearningCurve("auroc", "regressions", tuple(points()), fit_law(points(noise=0.01)))
    curve.write(tmp_path)
    assert LearningCurve.read(tmp_path) == curve
