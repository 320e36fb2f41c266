"""Statistics: known p-values, error rates where nothing differs, means and bootstraps."""

import numpy as np
import pytest
from scipy import stats

from curr_ab.measures import statistics
from curr_ab.measures.statistics import (
    bootstrapped_medians,
    corrected_t,
    correlate,
    exact_mcnemar,
    mean_and_standard_error,
    mean_over_pairs,
    permutation_p,
)


def test_folds():
    assert mean_and_standard_error([0.7]) == (0.7, None)
    mean, error = mean_and_standard_error([0.6, 0.7, 0.8, 0.7])
    assert mean == pytest.approx(0.7)
    assert error == pytest.approx(np.sqrt(0.02 / 3) / 2)
    with pytest.raises(ValueError, match="a mean over folds needs at least one; got none"):
        mean_and_standard_error([])


def test_corrected_t_by_hand():
    differences = [0.02, 0.04, 0.03, 0.05, 0.01]
    found = corrected_t(differences, 0.25)
    error = np.sqrt(np.var(differences, ddof=1) * (1 / 5 + 1 / 4))
    assert found.difference == pytest.approx(0.03)
    assert found.p == pytest.approx(2 * stats.t.sf(0.03 / error, 4))
    assert found.low == pytest.approx(0.03 - stats.t.ppf(0.975, 4) * error)
    # Without the correction it is the paired t-test.
    assert corrected_t(differences, 0).p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert corrected_t([0, 0, 0], 0.25).p == 1 and corrected_t([0.1] * 3, 0.25).p < 1e-6


def test_mcnemar_by_hand():
    """Nine of the ten that only one gets right are the first's: 2 (1 + 10) / 2^10."""
    first = np.array([1] * 9 + [0] + [1] * 20, bool)
    second = np.array([0] * 9 + [1] + [1] * 20, bool)
    assert exact_mcnemar(first, second) == pytest.approx(22 / 1024)
    assert exact_mcnemar(first, first) == 1


def test_permutation_is_that_of_mcnemar():
    """For accuracy, swapping pairs at random is what McNemar's test works out."""
    gaps = np.array([1] * 9 + [-1] + [0] * 20)
    p = permutation_p(
        lambda swap: (gaps * np.where(swap, -1, 1)).mean(-1), num_units=30, draws=20_000, seed=0
    )
    assert p == pytest.approx(22 / 1024, abs=0.004)


def error_rate(p_values):
    return np.mean([p <= 0.05 for p in p_values])


def cross_validated_difference(generator, num_pairs=60, folds=5):
    """Nearest class mean on one feature or another, which tell just as much: accuracies of the folds."""
    labels = np.arange(num_pairs) % 2
    features = generator.normal(size=(num_pairs, 2)) + 0.5 * labels[:, None]
    fold = generator.permutation(num_pairs) % folds
    differences = []
    for number in range(folds):
        test = fold == number
        right = []
        for feature in features.T:
            means = [feature[~test & (labels == label)].mean() for label in (0, 1)]
            nearer = abs(feature[test] - means[1]) < abs(feature[test] - means[0])
            right.append((nearer == labels[test]).mean())
        differences.append(right[0] - right[1])
    return differences


def test_over_folds_it_errs_as_rarely_as_it_says():
    """Models are fitted anew in every simulation; the plain test errs about three times as often."""
    generator = np.random.default_rng(0)
    runs = [cross_validated_difference(generator) for _ in range(600)]
    corrected = error_rate([corrected_t(run, 0.25).p for run in runs])
    plain = error_rate([corrected_t(run, 0).p for run in runs])
    assert 0.005 < corrected < 0.055
    assert plain > 0.065 and plain > 1.5 * corrected


def two_models_on_donors(generator, by_donor, donors=20, pairs=10):
    """Two models, equally good, that are better on some donors than on others."""
    donor = np.repeat(np.arange(donors), pairs)
    luck = generator.normal(size=(2, donors))[:, donor] + generator.normal(size=(2, len(donor)))
    gaps = np.subtract(*(luck > -0.5).astype(int))
    units = donor if by_donor else np.arange(len(donor))
    seed = int(generator.integers(1 << 31))

    def difference(swapped):
        return (gaps * np.where(swapped[:, units], -1, 1)).mean(axis=-1)

    return permutation_p(difference, num_units=units.max() + 1, draws=99, seed=seed)


def test_over_predictions_it_errs_in_one_of_twenty_where_donors_are_swapped_as_a_whole():
    generator = np.random.default_rng(1)
    assert 0.02 < error_rate([two_models_on_donors(generator, True) for _ in range(500)]) < 0.08
    assert error_rate([two_models_on_donors(generator, False) for _ in range(200)]) > 0.2


def test_bootstrap_takes_pairs_as_independent():
    """Residues of a pair are alike here: the error of the median is that of so many pairs, not residues."""
    random = np.random.default_rng(0)
    levels = random.normal(size=101)
    pairs = np.repeat(np.arange(101), 50)
    losses = levels[pairs] + 1e-3 * random.normal(size=len(pairs))
    spread = bootstrapped_medians(losses, pairs, seed=0).std()
    of_levels = [np.median(random.choice(levels, 101)) for _ in range(2_000)]
    assert spread == pytest.approx(np.std(of_levels), rel=0.2)
    alone = bootstrapped_medians(losses, np.arange(len(losses)), seed=0).std()
    assert alone < spread / 2


def test_batches_do_not_change_the_draws(monkeypatch):
    """Memory decides how many draws are made at once, not which."""
    generator = np.random.default_rng(0)
    gaps = generator.normal(0.1, 1, 40)
    scores, fitness, distance = generator.normal(size=(3, 40))

    def found():
        return (
            permutation_p(lambda swap: np.where(swap, -gaps, gaps).mean(-1), num_units=40, draws=99, seed=1),
            correlate(scores, fitness, 0, distance),
            bootstrapped_medians(scores, np.arange(40) // 2, 0).tolist(),
        )

    at_once = found()
    monkeypatch.setattr(statistics, "_VALUES_AT_ONCE", 300)
    assert found() == at_once


def test_a_draw_is_needed():
    with pytest.raises(ValueError, match="draws must be at least 1; got 0"):
        permutation_p(lambda swap: swap.mean(-1), num_units=3, draws=0, seed=0)


def test_error_of_a_mean_over_pairs():
    """With one value a pair it is the standard error; pairs without a value count nothing."""
    values = np.array([1.0, 2.0, 4.0, 0.0])
    mean, error = mean_over_pairs(values, np.array([1.0, 1.0, 1.0, 0.0]))
    assert (mean, error) == pytest.approx(mean_and_standard_error([1.0, 2.0, 4.0]))
