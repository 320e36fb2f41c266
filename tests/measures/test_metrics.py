"""Metrics against values worked out by hand, and against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn import metrics as sklearn

from curr_ab.measures import measure
from curr_ab.measures.metrics import metrics_for, score, scores, swappable
from curr_ab.measures.modules.classification import core as classification
from curr_ab.measures.modules.regression import core as regression
from curr_ab.published import FIGURES

# Eleven examples: 3 true positives, 2 false positives, 2 false negatives, 4 true negatives.
BINARY = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0]
POSITIVE = [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.35, 0.2, 0.1, 0.05, 0.75]


def test_two_classes():
    found = measure("classes", BINARY, [[1 - p, p] for p in POSITIVE], ("HD", "CoV"))
    assert found["accuracy"] == pytest.approx(7 / 11)
    assert found["precision"] == pytest.approx(3 / 5)
    assert found["recall"] == pytest.approx(3 / 5)
    assert found["f1"] == pytest.approx(3 / 5)
    assert found["mcc"] == pytest.approx((3 * 4 - 2 * 2) / np.sqrt(5 * 5 * 6 * 6))
    # Of the 30 pairs of a positive and a negative, the positive has the higher probability in 24.
    assert found["auroc"] == pytest.approx(24 / 30)
    # Precision at each positive, from the highest probability on: 1/1, 2/2, 3/4, 4/6, 5/8.
    assert found["aupr"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 6 + 5 / 8) / 5)
    assert set(found) == {
        "accuracy", "precision", "recall", "f1", "mcc", "auroc", "aupr", "calibration-error"
    }  # fmt: skip


def test_calibration_error():
    """Nine out of ten right at 0.8, one of two right at 0.55: bins are told apart."""
    right = [1] * 9 + [0] + [1, 0]
    positive = [0.8] * 10 + [0.55] * 2
    found = measure("classes", right, [[1 - p, p] for p in positive], ("no", "yes"))
    assert found["calibration-error"] == pytest.approx((10 * abs(0.9 - 0.8) + 2 * abs(0.5 - 0.55)) / 12)
    perfect = measure("classes", [0, 1, 1], [[1, 0], [0, 1], [0, 1]], ("no", "yes"))
    assert perfect["calibration-error"] == 0


def test_three_classes():
    labels = [0, 0, 0, 1, 1, 2]
    predicted = [0, 0, 1, 1, 2, 2]
    probabilities = np.full((6, 3), 0.1)
    probabilities[range(6), predicted] = 0.8
    found = measure("classes", labels, probabilities, ("HD", "Flu", "CoV"))
    precisions, recalls = [1, 1 / 2, 1 / 2], [2 / 3, 1 / 2, 1]
    f1 = [2 * p * r / (p + r) for p, r in zip(precisions, recalls, strict=True)]
    assert found["accuracy"] == found["micro-f1"] == pytest.approx(4 / 6)
    assert found["macro-precision"] == pytest.approx(np.mean(precisions))
    assert found["macro-recall"] == pytest.approx(np.mean(recalls))
    assert found["macro-f1"] == pytest.approx(np.mean(f1))
    # One against the rest, ties count half: 0: (2/3 at 0.8); 1 and 2 likewise.
    areas = [
        (2 * 3 + 1 * 3 / 2) / 9,  # two of three at 0.8 above all; the third ties with all
        (1 * (3 + 1 / 2) + 1 * (3 / 2)) / 8,  # one at 0.8 beside a negative there; one at 0.1 with three
        (1 * (4 + 1 / 2)) / 5,
    ]
    assert found["auroc"] == pytest.approx(np.mean(areas))
    assert "f1" not in found and "precision" not in found


def test_residues_are_counted_one_by_one_and_unknown_ones_not():
    labels = [[0, 1, -100, 1], [0, 0, 1]]
    positive = [[0.1, 0.9, 0.9, 0.8], [0.2, 0.7, 0.9]]
    found = measure(
        "residues", labels, [[[1 - p, p] for p in row] for row in positive], ("other", "paratope")
    )
    assert found["accuracy"] == pytest.approx(5 / 6)
    assert found["recall"] == 1 and found["precision"] == pytest.approx(3 / 4)
    as_classes = measure(
        "classes", [0, 1, 1, 0, 0, 1], [[1 - p, p] for p in (0.1, 0.9, 0.8, 0.2, 0.7, 0.9)], ("a", "b")
    )
    assert found == as_classes


def test_numbers():
    found = measure("number", [1.0, 2.0, 3.0, 10.0], [0.0, 1.0, 5.0, 4.0])
    assert found["spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found["rmse"] == pytest.approx(np.sqrt((1 + 1 + 4 + 36) / 4))
    assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 3, 10], [0, 1, 5, 4])[0, 1])
    flat = measure("number", [1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert flat["spearman"] == flat["pearson"] == 0


@pytest.mark.parametrize(
    ("target", "labels", "predictions", "names", "complaint"),
    [
        ("classes", [1, 1], [[0, 1], [0, 1]], ("HD", "CoV"), "got none of 'HD' among 2; use fewer folds"),
        ("classes", [0, 2], [[0, 1], [0, 1]], ("HD", "CoV"), "got none of 'CoV' among 2"),
        ("classes", [0, 1, 2], [[0, 1]] * 3, ("HD", "CoV"), "labels must be numbers from 0 to 1; got 2"),
        ("classes", [0, 1], [[0, 1]], ("HD", "CoV"), "2 labels and 1 predictions"),
        ("classes", [0, 1], [[1, 0, 0], [0, 1, 0]], ("HD", "CoV"), "predictions must be 2 x 2 .*; got 2 x 3"),
        ("classes", [0, 1], [[0.5, float("nan")], [0, 1]], ("HD", "CoV"), "diverged"),
        ("classes", [], np.zeros((0, 2)), ("HD", "CoV"), "nothing to measure"),
        ("residues", [[-100, -100]], [[[0, 1], [0, 1]]], ("a", "b"), "no example has a label"),
        (
            "residues",
            [[0, 1]],
            [[[0, 1]]],
            ("a", "b"),
            "each residue of example 1 must .* got 2 labels and 1 predictions",
        ),
        ("number", [1.0, 1.0], [0.3, 0.4], (), "spearman needs measurements that differ; all 2 are equal"),
    ],
)
def test_what_cannot_be_measured(target, labels, predictions, names, complaint):
    with pytest.raises(ValueError, match=complaint):
        measure(target, labels, predictions, names)


def test_words_are_those_of_the_paper_s_figures():
    published = {figure.metric for figure in FIGURES if figure.task.startswith("specificity")}
    assert published <= set(metrics_for("classes", 2)) | set(metrics_for("classes", 3))


def made_classes(num_classes, decimals, chosen=None):
    """Labels and probabilities; few decimals make ties, `chosen` is the only class that is ever predicted."""
    generator = np.random.default_rng(num_classes)
    labels = generator.permutation(np.arange(90) % num_classes)
    logits = generator.normal(size=(90, num_classes)) + np.eye(num_classes)[labels]
    logits = logits.round(decimals)
    if chosen is not None:
        logits[:, chosen] += 20
    return labels, softmax(logits, axis=1)


def by_sklearn(labels, probabilities):
    """All metrics of classes by result name."""
    chosen, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    numbers = [1] if num_classes == 2 else range(num_classes)
    known = {
        "accuracy": sklearn.accuracy_score(labels, chosen),
        "mcc": sklearn.matthews_corrcoef(labels, chosen),
        "auroc": np.mean([sklearn.roc_auc_score(labels == k, probabilities[:, k]) for k in numbers]),
        "aupr": np.mean([sklearn.average_precision_score(labels == k, probabilities[:, k]) for k in numbers]),
    }
    for name in ("precision", "recall", "f1"):
        function = getattr(sklearn, f"{name}_score")
        for average in ("binary",) if num_classes == 2 else ("macro", "micro"):
            value = function(labels, chosen, average=average, zero_division=0)
            known[name if num_classes == 2 else f"{average}-{name}"] = value
    return known


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("decimals", [0, 1, 12])  # with many ties, some and none
@pytest.mark.parametrize("chosen", [None, 0])  # and where all others are never predicted
def test_classes_are_those_of_sklearn(num_classes, decimals, chosen):
    labels, probabilities = made_classes(num_classes, decimals, chosen)
    known = by_sklearn(labels, probabilities)
    for name, metric in metrics_for("classes", num_classes).items():
        if name != "calibration-error":
            assert score(metric, labels, probabilities) == pytest.approx(known[name], abs=1e-12), name


def test_a_class_that_occurs_nowhere_is_in_no_macro_average():
    """As scikit-learn has it: classes 0 and 2 of three."""
    labels, chosen = np.array([0, 0, 2, 2, 2]), np.array([0, 2, 2, 2, 0])
    for name in classification.AVERAGED:
        value = classification.score(name, labels, chosen, num_classes=3, average="macro")
        known = getattr(sklearn, f"{name}_score")(labels, chosen, average="macro")
        assert value == pytest.approx(known, abs=1e-12)
    with pytest.raises(ValueError, match="auroc needs items of class 1 and others; got 0 of 5"):
        classification.auroc(labels, np.eye(3)[chosen])
    with pytest.raises(ValueError, match="aupr needs items of class 1; got none among 5"):
        classification.aupr(labels, np.eye(3)[chosen])


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_numbers_are_those_of_scipy(decimals):
    generator = np.random.default_rng(0)
    measured = generator.normal(size=80).round(decimals)
    for predicted in (measured + generator.normal(size=80).round(decimals), 1e6 + 1e-3 * measured, -measured):
        found = measure("number", measured, predicted)
        assert found["pearson"] == pytest.approx(stats.pearsonr(measured, predicted).statistic, abs=1e-12)
        assert found["spearman"] == pytest.approx(stats.spearmanr(measured, predicted).statistic, abs=1e-12)
        known = sklearn.root_mean_squared_error(measured, predicted)
        assert found["rmse"] == pytest.approx(known, rel=1e-12)


def test_equal_predictions_whose_mean_is_rounded_are_constant():
    """The mean of three times 0.1 is not 0.1: the rest must not be correlated."""
    measured, predicted = np.array([0.1, 0.2, 0.7]), np.full(3, 0.1)
    assert predicted.mean() != 0.1 and (measured - measured.mean()).sum() != 0
    assert regression.pearson(measured, predicted) == regression.pearson(predicted, measured) == 0


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("decimals", [1, 12])
def test_many_sets_of_predictions_are_scored_as_one_by_one(num_classes, decimals):
    """The permutation tests score thousands of draws at once; ranks do for probabilities where they rank."""
    labels, probabilities = made_classes(num_classes, decimals)
    generator = np.random.default_rng(0)
    sets = [probabilities, generator.permutation(probabilities), np.eye(num_classes)[np.zeros(90, int)]]
    for name, metric in metrics_for("classes", num_classes).items():
        shown = np.stack([swappable(metric, one) for one in sets]).reshape(3, 1, 90, -1)
        together = scores(metric, labels, shown[..., 0] if metric.is_of_choices else shown, num_classes)
        assert together.shape == (3, 1)
        alone = [score(metric, labels, one) for one in sets]
        assert together[:, 0] == pytest.approx(alone, abs=1e-12), name


def test_many_sets_of_numbers_are_scored_as_one_by_one():
    generator = np.random.default_rng(0)
    measured = generator.normal(size=50).round(1)
    sets = [measured + generator.normal(size=50).round(1), measured, np.ones(50)]
    for name, metric in metrics_for("number", 0).items():
        together = scores(metric, measured, np.stack([swappable(metric, one) for one in sets]), 0)
        alone = [score(metric, measured, one) for one in sets]
        if name != "rmse":
            assert alone[1:] == pytest.approx([1, 0])
        assert together == pytest.approx(alone, abs=1e-12), name
