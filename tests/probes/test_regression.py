"""Regressions: those of scikit-learn, and choices that see nothing but the training part."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from curr_ab.probes.inner_folds import inner_folds
from curr_ab.probes.regression import Regression, choose_regression, fit_regression
from curr_ab.probes.ridge import Ridge as OwnRidge
from curr_ab.probes.rotation import rotate


def made(num_rows, width, seed=0):
    """Correlated features, one of them always the same, and numbers that follow some of them."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(num_rows, width)) @ random.normal(size=(width, width)) / np.sqrt(width) + 3
    values[:, 1] = 1.7
    numbers = values[:, 2:6].sum(axis=1) + random.normal(size=num_rows)
    return values.astype(np.float32), numbers, random.uniform(0.2, 3, size=num_rows)


@pytest.mark.parametrize(("num_rows", "width"), [(60, 150), (200, 30)])
@pytest.mark.parametrize("weighted", [False, True])
def test_fits_are_those_of_scikit_learn(num_rows, width, weighted):
    values, numbers, weights = made(num_rows, width)
    weights = weights if weighted else None
    scaler = StandardScaler()
    scaler.fit(np.delete(values.astype(float), 1, axis=1), sample_weight=weights)
    scaled = scaler.transform(np.delete(values.astype(float), 1, axis=1))
    for strength in (3.0, 300.0):
        own = fit_regression(values, numbers, target="number", weights=weights, strength=strength)
        other = Ridge(alpha=strength).fit(scaled, numbers, sample_weight=weights)
        assert own.predict(values) == pytest.approx(other.predict(scaled), abs=1e-9)
        for num_classes in (2, 3):
            classes = np.minimum(np.digitize(numbers, np.quantile(numbers, [0.3, 0.7])), num_classes - 1)
            options = {"target": "classes", "num_classes": num_classes, "weights": weights}
            own = fit_regression(values, classes, **options, strength=strength)
            other = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=20_000)
            other.fit(scaled, classes, sample_weight=weights)
            assert own.predict(values) == pytest.approx(other.predict_proba(scaled), abs=1e-6)


def test_balanced_classes_are_those_of_scikit_learn():
    values, numbers, _ = made(200, 20)
    classes = (numbers > np.quantile(numbers, 0.9)).astype(int)
    own = fit_regression(values, classes, target="classes", num_classes=2, balanced=True, strength=5.0)
    # Weights change the spread to which features are scaled, too.
    weights = np.where(classes == 1, 200 / 2 / classes.sum(), 200 / 2 / (1 - classes).sum())
    scaler = StandardScaler().fit(np.delete(values.astype(float), 1, axis=1), sample_weight=weights)
    scaled = scaler.transform(np.delete(values.astype(float), 1, axis=1))
    other = LogisticRegression(C=1 / 5, tol=1e-10, max_iter=20_000, class_weight="balanced").fit(
        scaled, classes
    )
    assert own.predict(values) == pytest.approx(other.predict_proba(scaled), abs=1e-6)
    plain = fit_regression(values, classes, target="classes", num_classes=2, strength=5.0)
    assert own.predict(values)[:, 1].mean() > plain.predict(values)[:, 1].mean() + 0.05


def test_what_a_fold_would_be_predicted_is_what_a_fit_without_it_predicts():
    values, numbers, weights = made(90, 25)
    folds = inner_folds(np.zeros(90, np.int64), None, 0)
    rotation = rotate(values, weights)
    ridge = OwnRidge(rotation, numbers[:, None], weights)
    [explained] = ridge.explained(20.0, folds)
    lost = 0.0
    for fold in range(5):
        kept, left = folds != fold, folds == fold
        other = Ridge(alpha=20.0).fit(rotation.scores[kept], numbers[kept], sample_weight=weights[kept])
        lost += weights[left] @ (numbers[left] - other.predict(rotation.scores[left])) ** 2
    mean = np.average(numbers, weights=weights)
    assert explained == pytest.approx(1 - lost / (weights @ (numbers - mean) ** 2), abs=1e-9)


def test_several_numbers_with_gaps_are_fitted_each_on_what_is_known():
    values, numbers, _ = made(120, 12)
    several = np.stack([numbers, numbers**2, -numbers], axis=1)
    several[:40, 1] = np.nan
    both = fit_regression(values, several, target="number", strength=2.0).predict(values)
    for output, rows in enumerate((slice(None), slice(40, None), slice(None))):
        alone = fit_regression(values[rows], several[rows, output], target="number", strength=2.0)
        assert both[:, output] == pytest.approx(alone.predict(values), abs=1e-9)
    chosen = choose_regression({"one": values}, several, target="number")
    assert chosen.regression.predict(values).shape == (120, 3)


def test_rows_without_a_label_or_a_weight_count_for_nothing():
    values, numbers, _ = made(100, 10)
    classes = (numbers > numbers.mean()).astype(int)
    options = {"target": "residues", "num_classes": 2, "strength": 1.0}
    expected = fit_regression(values[20:], classes[20:], **options)
    unknown = np.where(np.arange(100) < 20, -100, classes)
    weights = (np.arange(100) >= 20).astype(float)
    for found in (
        fit_regression(values, unknown, **options),
        fit_regression(values, classes, **options, weights=weights),
    ):
        assert found.weights == pytest.approx(expected.weights, abs=1e-6)


def test_the_features_that_tell_are_chosen_and_strength_follows_the_noise():
    values, numbers, _ = made(200, 15)
    random = np.random.default_rng(9)
    others = {name: random.normal(size=(200, 15)) for name in ("noise", "more noise")}
    for target, labels, num_classes in (
        ("number", numbers, 0),
        ("classes", (numbers > numbers.mean()).astype(int), 2),
        ("classes", np.digitize(numbers, np.quantile(numbers, [0.3, 0.7])), 3),
    ):
        choice = choose_regression(
            {**others, "telling": values}, labels, target=target, num_classes=num_classes
        )
        assert choice.features == "telling" and choice.scores["telling"] > 0.3
        assert max(choice.scores["noise"], choice.scores["more noise"]) < 0.05
        assert list(choice.scores) == ["noise", "more noise", "telling"]


@pytest.mark.parametrize(("target", "num_classes"), [("number", 0), ("classes", 2)])
def test_chance_is_not_learnt_by_choosing(target, num_classes):
    """Labels drawn by chance for whole groups of near-copies: rows would be recognised, groups are not."""
    held_apart, mixed = [], []
    for seed in range(3):
        random = np.random.default_rng(seed)
        groups = np.repeat(np.arange(60), 3)
        features = {
            str(number): random.normal(size=(60, 40))[groups] + 0.01 * random.normal(size=(180, 40))
            for number in range(2)
        }
        labels = random.integers(0, 2, size=60)[groups]
        options = {"target": target, "num_classes": num_classes}
        choice = choose_regression(features, labels, **options, groups=groups.tolist())
        held_apart.append(np.mean([*choice.scores.values()]))
        mixed.append(np.mean([*choose_regression(features, labels, **options).scores.values()]))
    assert np.mean(held_apart) < 0.04 and np.mean(mixed) > 0.25


def test_inner_folds_hold_groups_apart_and_classes_together():
    groups = [f"donor {number % 17}" for number in range(200)]
    classes = np.array([int(number % 17 < 6) for number in range(200)])
    folds = inner_folds(classes, groups, 1)
    assert len({*zip(groups, folds.tolist(), strict=True)}) == 17
    assert all(0.1 < classes[folds == fold].mean() < 0.7 for fold in range(5))
    alone = inner_folds(classes, None, 1)
    assert {int(classes[alone == fold].sum()) for fold in range(5)} <= {14, 15}
    assert np.array_equal(alone, inner_folds(classes, None, 1))
    assert not np.array_equal(alone, inner_folds(classes, None, 2))
    assert not inner_folds(classes, ["one"] * 200, 1).any()


def test_a_fold_may_lack_a_class_and_a_part_all_but_one():
    values, numbers, _ = made(60, 8)
    classes = np.zeros(60, int)
    classes[:20], classes[20:40] = 1, 2
    groups = ["a"] * 20 + ["b"] * 20 + ["c"] * 20
    choice = choose_regression({"one": values}, classes, target="classes", num_classes=3, groups=groups)
    assert np.isfinite(choice.scores["one"])
    assert choice.regression.predict(values).shape == (60, 3)
    only = fit_regression(values, np.ones(60, int), target="classes", num_classes=2)
    assert only.predict(values)[:, 1].min() > 0.999
    single = choose_regression({"x": values, "y": values}, numbers, target="number", groups=["a"] * 60)
    assert single.features == "x" and single.scores == {"x": 0.0, "y": 0.0}


def test_tensors_bring_the_regression_back():
    values, numbers, _ = made(60, 8)
    for labels, target, num_classes in ((numbers, "number", 0), ((numbers > 0).astype(int), "classes", 2)):
        fitted = fit_regression(values, labels, target=target, num_classes=num_classes)
        again = Regression.from_tensors(fitted.to_tensors(), num_classes)
        assert np.array_equal(again.predict(values), fitted.predict(values))
        with pytest.raises(ValueError, match="regression's tensors must be weights"):
            Regression.from_tensors({"weights": fitted.weights}, num_classes)


def test_what_cannot_be_fitted_is_said():
    values, numbers, _ = made(60, 8)
    classes = (numbers > 0).astype(int)
    broken = np.where(np.arange(60)[:, None] == 4, np.nan, values)
    for arguments, options, message in (
        ((broken, numbers), {"target": "number"}, "features must be finite; those of row 5 are not"),
        ((values[:9], numbers), {"target": "number"}, "features must be a row for each of 60 labels; got"),
        ((values, classes), {"target": "classes", "num_classes": 1}, "labels must be classes from 0"),
        ((values, classes + 1), {"target": "classes", "num_classes": 2}, "got 1 to 2|got 0 to 2"),
        ((values, numbers * np.nan), {"target": "number"}, "labels must be known of a row or more"),
        ((values, numbers), {"target": "number", "groups": ["a"]}, "groups must be one for each of 60"),
        ((values, numbers), {"target": "number", "weights": -(numbers**2)}, "weights must be finite and not"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_regression(*arguments, **options)
    with pytest.raises(ValueError, match="features must be one set or more"):
        choose_regression({}, numbers, target="number")
