"""Intervals hold the truth as often as they say, and equal models differ as rarely as p says."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support.benchmarks import planted

from curr_ab.benchmark import statistics as statistics_module
from curr_ab.benchmark.predictions import Predictions
from curr_ab.benchmark.scores import score_predictions
from curr_ab.benchmark.statistics import (
    Estimate,
    cross_validated,
    estimate,
    holm,
    interval_of,
    make_layout,
    paired_tests,
    sign_flip_p,
)
from curr_ab.measures.metrics import BINARY, NUMBER, score
from curr_ab.measures.statistics import exact_mcnemar

ROWS = np.arange(40)


def mean_of(values):
    return lambda rows: float(values[rows].mean())


def test_a_mean_has_its_textbook_error_and_its_own_values():
    values = np.random.default_rng(0).normal(size=40)
    found = estimate(mean_of(values), make_layout(ROWS, np.zeros(40, np.int64)), by_fold=False)
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(40))
    assert found.contributions == pytest.approx(values)


def test_a_mean_over_folds_has_the_error_of_its_folds():
    values, folds = np.random.default_rng(0).normal(size=40), ROWS % 4
    found = estimate(mean_of(values), make_layout(ROWS, folds), by_fold=True)
    spread = sum(values[folds == fold].var(ddof=1) / 10 for fold in range(4)) / 16
    assert found.standard_error == pytest.approx(math.sqrt(spread))
    assert found.contributions == pytest.approx(values)


def test_groups_are_what_is_independent():
    groups = ROWS // 4
    values = np.random.default_rng(1).normal(size=10)[groups]
    folds = np.zeros(40, np.int64)
    by_pair = estimate(mean_of(values), make_layout(ROWS, folds), by_fold=False)
    by_group = estimate(mean_of(values), make_layout(groups, folds), by_fold=False)
    assert len(by_group.without) == 10
    assert by_group.standard_error == pytest.approx(values[::4].std(ddof=1) / math.sqrt(10))
    assert by_group.standard_error > 1.9 * by_pair.standard_error


def test_folds_of_one_group_are_what_varies():
    groups = ROWS // 8
    values = np.random.default_rng(1).normal(size=5)[groups]
    found = estimate(mean_of(values), make_layout(groups, groups), by_fold=True)
    assert found.standard_error == pytest.approx(values[::8].std(ddof=1) / math.sqrt(5))


def test_very_many_units_are_joined_within_their_folds():
    folds = np.arange(3000) % 3
    layout = make_layout(np.arange(3000), folds)
    assert layout.num_units == 400
    mixed = [unit for unit in range(400) if len(set(folds[layout.units == unit])) > 1]
    assert len(mixed) <= 2  # where one fold ends and the next begins
    values = np.random.default_rng(2).normal(size=3000)
    found = estimate(mean_of(values), layout, by_fold=False)
    assert found.standard_error == pytest.approx(values.std() / math.sqrt(3000), rel=0.15)


def test_one_unit_has_no_interval():
    with pytest.raises(ValueError, match="2 or more units"):
        estimate(mean_of(np.ones(4)), make_layout(["a"] * 4, np.zeros(4, np.int64)), by_fold=False)


@pytest.mark.parametrize(("metric", "value"), [("accuracy", 1.0), ("auroc", 1.0), ("accuracy", 0.0)])
def test_a_perfect_score_of_few_pairs_is_not_certain(metric, value):
    found = Estimate(value, np.full(30, value), np.zeros(30, np.int64), np.array([value]))
    one = interval_of(found, metric)
    assert one.low <= value <= one.high
    assert one.high - one.low == pytest.approx(1 - 0.025 ** (1 / 30))


@pytest.mark.parametrize("metric", ["accuracy", "spearman", "mcc", "macro-f1"])
def test_ends_stay_where_the_metric_can_be(metric):
    random = np.random.default_rng(3)
    found = Estimate(0.97, 0.97 + 0.01 * random.normal(size=20), np.zeros(20, np.int64), np.array([0.97]))
    one = interval_of(found, metric)
    assert -1 <= one.low < 0.97 < one.high < 1


def test_few_pairs_that_differ_are_tested_exactly():
    right = np.array([[1] * 30 + [0] * 6, [1] * 25 + [0] * 11], bool)
    found = [
        estimate(mean_of(one.astype(float)), make_layout(range(36), np.zeros(36, np.int64)), by_fold=False)
        for one in right
    ]
    [test] = paired_tests({"a": found[0], "b": found[1]}, [("a", "b")], seed=0)
    assert test.difference == pytest.approx(5 / 36)
    assert test.p == pytest.approx(exact_mcnemar(*right), abs=0.01)


def test_all_signs_of_few_units_are_tried():
    [p] = sign_flip_p([np.array([1.0, 2.0, 3.0, 4.0])], seed=0)
    assert p == 2 / 16
    assert sign_flip_p([np.zeros(8)], seed=0) == [1.0]


def test_what_is_not_told_apart_from_a_guess_has_the_larger_error():
    random = np.random.default_rng(4)
    layout = make_layout(range(60), np.zeros(60, np.int64))
    guess, chance, clear = (
        estimate(mean_of(shift + 0.3 * random.normal(size=60)), layout, by_fold=False)
        for shift in (0.0, 0.01, 1.0)
    )
    shown = cross_validated(chance, guess)
    assert shown.standard_error == pytest.approx(math.sqrt(2) * chance.standard_error)
    assert cross_validated(clear, guess) is clear
    assert cross_validated(clear, guess, lower_is_better=True) is not clear
    assert cross_validated(guess, clear) is not guess  # worse than a guess is no signal
    [test], [plain] = (paired_tests({"a": one, "b": guess}, [("a", "b")], 0) for one in (shown, chance))
    assert test.high - test.low == pytest.approx(math.sqrt(2) * (plain.high - plain.low))
    assert test.p > plain.p


def test_a_score_of_one_test_part_has_the_error_of_given_predictions():
    """No pair of it trains a model, so that no product of two stands in it twice."""
    task = planted("number", shuffled=True, groups=False)
    noise = Predictions(np.random.default_rng(0).normal(size=len(task)))
    several = score_predictions(task, noise).found
    one = score_predictions(replace(task, folds=task.folds[:1]), noise).found
    assert (several.spread, one.spread) == (pytest.approx(math.sqrt(2)), 1)


def test_no_difference_is_found_whose_interval_holds_0():
    layout = make_layout(range(7), np.zeros(7, np.int64))
    values = np.array([1.0] * 6 + [20.0])  # one unit outweighs the others, which all have its sign
    found = {"a": estimate(mean_of(values), layout, by_fold=False)}
    found["b"] = estimate(mean_of(np.zeros(7)), layout, by_fold=False)
    [test] = paired_tests(found, [("a", "b")], 0)
    assert test.low < 0 < test.high
    assert test.p > 0.05
    assert sign_flip_p([values], 0) == [2 / 2**7]


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def simulated(random, num_pairs, group_size):
    """Truth and two equally good models of pairs, whose groups resemble each other; units and folds."""
    sizes = [1] * num_pairs if group_size == 1 else random.integers(1, 2 * group_size, num_pairs).tolist()
    units = np.repeat(np.arange(num_pairs), sizes)[:num_pairs]
    shared = 0.0 if group_size == 1 else 0.6

    def normal():
        own, of_unit = random.normal(size=num_pairs), random.normal(size=num_pairs)[units]
        return shared * of_unit + math.sqrt(1 - shared**2) * own

    truth, common = normal(), normal()
    models = [0.5 * truth + math.sqrt(0.375) * (common + normal()) for _ in range(2)]
    return truth, models, units, (random.permutation(num_pairs) % 5)[units]


def score_of(metric, truth, model):
    """The metric as a function of rows."""
    if metric in NUMBER:
        return lambda rows: score(NUMBER[metric], truth[rows], model[rows])
    positive = 1 / (1 + np.exp(-model))
    labels, shown = (truth > 0).astype(np.int64), np.stack([1 - positive, positive], axis=1)
    return lambda rows: score(BINARY[metric], labels[rows], shown[rows])


def by_sums(metric):
    """What `estimate` gives of a metric that sums over the items decide, which are taken off unit by unit."""

    def of_sums(sums):
        count, y, p, yy, pp, yp = sums
        squared = (yy - 2 * yp + pp) / count  # of a class and its prediction: the share that is wrong
        if metric == "accuracy":
            return 1 - squared
        if metric == "rmse":
            return np.sqrt(squared)
        return (count * yp - y * p) / np.sqrt((count * yy - y * y) * (count * pp - p * p))

    def fast(truth, model, layout):
        y, p = (one if metric in NUMBER else (one > 0).astype(float) for one in (truth, model))
        columns = (np.ones_like(y), y, p, y * y, p * p, y * p)
        of_units = np.stack([np.bincount(layout.units, one, layout.num_units) for one in columns])
        total = of_units.sum(axis=1)
        value = float(of_sums(total))
        without = of_sums(total[:, None] - of_units)
        return Estimate(value, without, np.zeros(layout.num_units, np.int64), np.array([value]))

    return fast


def fast_auroc(truth, model, layout):
    """What `estimate` gives, from the table of which positive item is above which negative one."""
    positive, negative = np.flatnonzero(truth > 0), np.flatnonzero(truth <= 0)
    wins = (model[positive][:, None] > model[negative]).astype(float)
    units = layout.units[positive], layout.units[negative]
    counts = [np.bincount(one, minlength=layout.num_units) for one in units]
    lost = np.bincount(units[0], wins.sum(axis=1), layout.num_units)
    lost += np.bincount(units[1], wins.sum(axis=0), layout.num_units)
    first, second = np.nonzero(units[0][:, None] == units[1])  # counted twice
    lost -= np.bincount(units[0][first], wins[first, second], layout.num_units)
    without = (wins.sum() - lost) / ((len(positive) - counts[0]) * (len(negative) - counts[1]))
    value = wins.mean()
    return Estimate(value, without, np.zeros(layout.num_units, np.int64), np.array([value]))


def fast_spearman(truth, model, layout):
    """What `estimate` gives by fold: ranks fall by the number of items left out that are below."""
    folds = [np.flatnonzero(layout.folds == fold) for fold in np.unique(layout.folds)]
    found = []
    for rows in folds:
        own = np.unique(layout.units[rows])
        kept = layout.units[rows] != np.append(-1, own)[:, None]  # the first leaves none out

        def ranks(values, kept=kept, rows=rows):
            below = kept.astype(float) @ (values[rows][:, None] < values[rows])
            return np.where(kept, below - (below * kept).sum(axis=1, keepdims=True) / kept.sum(1)[:, None], 0)

        ranked = ranks(truth), ranks(model)
        products = [(one * other).sum(axis=1) for one in ranked for other in ranked]
        found.append((own, products[1] / np.sqrt(products[0] * products[3])))
    values = np.array([one[0] for _, one in found])
    without, strata = np.empty(layout.num_units), np.empty(layout.num_units, np.int64)
    for place, (own, one) in enumerate(found):
        strata[own] = place
        without[own] = (values.sum() - values[place] + one[1:]) / len(values)
    return Estimate(float(values.mean()), without, strata, values)


# The same numbers in a hundredth of the time, so that thousands of draws can be made.
FAST = {metric: by_sums(metric) for metric in ("accuracy", "rmse", "mcc", "pearson")}
FAST |= {"auroc": fast_auroc, "spearman": fast_spearman}


def laid_out(units, folds, by_fold):
    return make_layout(units, folds if by_fold else np.zeros_like(folds))


@pytest.mark.parametrize("group_size", [1, 4])
@pytest.mark.parametrize(("metric", "by_fold"), [*((one, False) for one in FAST), ("spearman", True)])
def test_the_fast_ways_of_the_simulations_are_right(metric, by_fold, group_size):
    truth, models, units, folds = simulated(np.random.default_rng(6), 100, group_size)
    layout = laid_out(units, folds, by_fold)
    fast = FAST[metric](truth, models[0], layout)
    slow = estimate(score_of(metric, truth, models[0]), layout, by_fold=by_fold)
    assert fast.value == pytest.approx(slow.value)
    assert fast.without == pytest.approx(slow.without)
    assert fast.values == pytest.approx(slow.values)
    assert np.array_equal(fast.strata, slow.strata)


@pytest.mark.slow
@pytest.mark.parametrize("group_size", [1, 4])
@pytest.mark.parametrize(
    ("metric", "num_pairs", "by_fold"),
    [
        ("accuracy", 60, False),
        ("auroc", 60, False),
        ("spearman", 60, False),
        ("rmse", 60, False),
        ("mcc", 120, False),
        ("pearson", 120, False),
        ("spearman", 240, True),
        ("auroc", 500, False),
    ],
)
def test_intervals_and_tests_keep_their_word(metric, num_pairs, by_fold, group_size):
    """Of many draws: a rate of 5 % has itself an error of 0.7 % in a thousand, and of sixteen one errs."""
    random, draws = np.random.default_rng(5), 5000
    truth, models, *_ = simulated(random, 40_000, group_size)
    expected = score_of(metric, truth, models[0])(np.arange(len(truth)))
    held, found_different = 0, 0
    for draw in range(draws):
        truth, models, units, folds = simulated(random, num_pairs, group_size)
        layout = laid_out(units, folds, by_fold)
        found = [FAST[metric](truth, one, layout) for one in models]
        one = interval_of(found[0], metric)
        held += one.low <= expected <= one.high
        if (
            statistics_module._student_p(found[0].minus(found[1])) <= 0.05
        ):  # else the larger p is above it, too
            [test] = paired_tests(dict(zip("ab", found, strict=True)), [("a", "b")], draw)
            found_different += test.p <= 0.05
    assert 0.92 <= held / draws <= 0.97, held / draws
    assert found_different / draws <= 0.06, found_different / draws
