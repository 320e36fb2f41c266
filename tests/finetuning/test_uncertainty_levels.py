"""Coverage of intervals and sets on groups that were not seen, and calibration, on simulated arrays."""

import numpy as np
import pytest

from curr_ab.finetuning.uncertainty import check_folds
from curr_ab.finetuning.uncertainty_levels import (
    HeldOut,
    all_levels,
    calibration_error,
    errors_of,
    fit_temperature,
    place_of,
    reaches,
    tempered,
)

REPETITIONS = 400


def grouped_errors(random, num_groups):
    """Errors with an effect of the group, and who belongs to which; large groups are predicted better."""
    sizes = random.geometric(0.2, num_groups)
    groups = np.repeat(np.arange(num_groups), sizes)
    effects = random.normal(0, 2, num_groups) * np.where(sizes < 4, 4, 1)
    return np.abs(effects[groups] + random.normal(0, 1, len(groups))), groups


def coverage(level, units_of, num_groups=60):
    """Mean share of an unseen group inside the reach, over many runs."""
    covered = []
    for seed in range(REPETITIONS):
        random = np.random.default_rng(seed)
        errors, groups = grouped_errors(random, num_groups)
        new, _ = grouped_errors(random, 1)
        covered.append((new <= reaches(errors, units_of(groups), [level])[0]).mean())
    return float(np.mean(covered))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_intervals_cover_new_groups_as_often_as_they_say(level):
    assert level - 0.03 < coverage(level, lambda groups: groups) < level + 0.03


def test_groups_weigh_the_same_whatever_their_size():
    """One group of a thousand near-copies is one observation."""
    errors = np.concatenate([np.zeros(1000), np.arange(1, 20)])
    groups = np.concatenate([np.zeros(1000, int), np.arange(1, 20)])
    assert reaches(errors, groups, [0.5])[0] == 10
    assert reaches(errors, np.arange(len(errors)), [0.5])[0] == 0


def test_few_units_promise_nothing():
    """Nine units show 90 %, eight do not; and the reach is the largest error of all."""
    errors = np.arange(9.0)
    assert reaches(errors, np.arange(9), [0.9])[0] == 8
    assert reaches(errors[:8], np.arange(8), [0.9])[0] == np.inf


def test_a_level_is_found_among_those_stored():
    levels = all_levels()
    for level in (0.001, 0.29, 0.57, 0.9, 0.999):
        assert levels[place_of(level)] == pytest.approx(level)
    assert levels[place_of(0.9001)] == pytest.approx(0.901)  # never less than was asked for
    assert place_of(0.9999) == len(levels)  # beyond them


def overconfident(random, num_items, num_classes, factor):
    """Labels drawn by true probabilities, and what a model says that exaggerates its logits."""
    logits = random.normal(0, 1.5, (num_items, num_classes))
    true = tempered(np.exp(logits), 1.0)
    labels = (true.cumsum(axis=1) < random.random((num_items, 1))).sum(axis=1)
    return labels, tempered(np.exp(logits), 1 / factor)


@pytest.mark.parametrize(("num_classes", "factor"), [(2, 4.0), (3, 3.0), (3, 0.4)])
def test_calibration_error_falls(num_classes, factor):
    random = np.random.default_rng(1)
    labels, predictions = overconfident(random, 1200, num_classes, factor)
    units = np.arange(len(labels))
    held_out = HeldOut(labels=labels, predictions=predictions, units=units, folds=units % 5)
    assert fit_temperature(held_out) == pytest.approx(factor, rel=0.2)

    checked = check_folds(held_out, "classes")  # each fold by the temperature of the others
    assert checked["raw_calibration_error"] > 0.1
    assert checked["calibration_error"] < checked["raw_calibration_error"] / 2
    assert checked["calibration_error"] < 0.05
    assert checked["coverage"] > 0.87


def test_sets_cover_new_groups():
    """With a preference for a class in each group, which items of it share."""
    covered = []
    for seed in range(REPETITIONS):
        random = np.random.default_rng(seed)
        groups = np.repeat(np.arange(60), random.geometric(0.3, 60))
        pull = random.normal(0, 2, (60, 3))[groups]
        logits = random.normal(0, 1, (len(groups), 3))
        labels = (logits + pull + random.gumbel(size=logits.shape)).argmax(axis=1)
        everything = HeldOut(
            labels=labels, predictions=tempered(np.exp(logits), 0.5), units=groups, folds=groups
        )
        seen, new = everything.take(groups > 0), everything.take(groups == 0)
        temperature = 1.5  # whatever it is, sets must hold
        [reach] = reaches(errors_of(seen, temperature), seen.units, [0.9])
        covered.append((errors_of(new, temperature) <= reach).mean())
    assert 0.87 < np.mean(covered) < 0.93


def test_temperature_keeps_the_order():
    random = np.random.default_rng(0)
    probabilities = tempered(np.exp(random.normal(0, 3, (50, 4))), 1.0)
    for temperature in (0.05, 0.7, 20.0):
        changed = tempered(probabilities, temperature)
        assert (changed.argsort(axis=1) == probabilities.argsort(axis=1)).all()
        assert np.allclose(changed.sum(axis=1), 1)


def test_calibration_error_of_a_known_case():
    """Eight of ten right at a confidence of 0.9, all of five at 0.6."""
    probabilities = np.array([[0.1, 0.9]] * 10 + [[0.6, 0.4]] * 5)
    labels = np.array([1] * 8 + [0] * 2 + [0] * 5)
    assert calibration_error(labels, probabilities) == pytest.approx((10 * 0.1 + 5 * 0.4) / 15)


def test_too_few_units_leave_coverage_out():
    held_out = HeldOut(
        labels=np.zeros(6), predictions=np.arange(6.0), units=np.arange(6) // 2, folds=np.arange(6) // 3
    )
    assert check_folds(held_out, "number") == {}


def test_a_handful_that_is_all_right_is_not_sharpened_without_end():
    """Five new ones, one of which is wrong, would have to pay for it."""
    few = HeldOut(
        labels=np.arange(5) % 2,
        predictions=np.array([[0.7, 0.3], [0.3, 0.7]] * 3)[:5],
        units=np.arange(5),
        folds=np.arange(5),
    )
    assert 0.3 < fit_temperature(few) < 1
