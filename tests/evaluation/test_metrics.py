"""Metrics against values worked out by hand, through the library `evaluate` and without a network."""

import re
import shlex
import socket
import tomllib
from pathlib import Path

import evaluate
import numpy as np
import pytest

from curr_ab.cli.main import build_parser
from curr_ab.evaluation import mean_and_standard_error, measure
from curr_ab.measures.metrics import METRICS, metrics_for
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
        ("classes", [1, 1], [[0, 1], [0, 1]], ("HD", "CoV"), "none of the 2 examples is 'HD'.*fewer folds"),
        ("classes", [0, 2], [[0, 1], [0, 1]], ("HD", "CoV"), "none of the 2 examples is 'CoV'"),
        ("classes", [0, 1, 2], [[0, 1]] * 3, ("HD", "CoV"), "label 2 is none of the 2 classes"),
        ("classes", [0, 1], [[0, 1]], ("HD", "CoV"), "2 labels and 1 predictions"),
        ("classes", [0, 1], [[1, 0, 0], [0, 1, 0]], ("HD", "CoV"), "predictions are 2 x 3"),
        ("classes", [0, 1], [[0.5, float("nan")], [0, 1]], ("HD", "CoV"), "diverged"),
        ("classes", [], np.zeros((0, 2)), ("HD", "CoV"), "nothing to measure"),
        ("residues", [[-100, -100]], [[[0, 1], [0, 1]]], ("a", "b"), "no example has a label"),
        ("residues", [[0, 1]], [[[0, 1]]], ("a", "b"), "example 1 has 2 labels and 1 predictions"),
        ("number", [1.0, 1.0], [0.3, 0.4], (), "spearman is not defined: all 2 measurements are equal"),
    ],
)
def test_what_cannot_be_measured(target, labels, predictions, names, complaint):
    with pytest.raises(ValueError, match=complaint):
        measure(target, labels, predictions, names)


def test_every_module_is_used_and_loads_by_its_folder(monkeypatch, tmp_path):
    """As anybody loads a metric; it asks no network and writes nothing but where `evaluate` keeps code."""

    def no_network(*args, **kwargs):
        raise AssertionError("a metric asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.chdir(tmp_path)
    folders = {path.name for path in METRICS.iterdir() if (path / f"{path.name}.py").is_file()}
    kinds = [metrics_for("classes", 2), metrics_for("classes", 3), metrics_for("number", 0)]
    assert folders == {metric.module for kind in kinds for metric in kind.values()}
    for name in folders:
        module = evaluate.load(str(METRICS / name), keep_in_memory=True, cache_dir=str(tmp_path / "cache"))
        assert module.name == name and module.description and module.inputs_description
        text = (METRICS / name / f"{name}.py").read_text()
        assert not any(line.startswith("import") and "," in line for line in text.splitlines())
    f1 = evaluate.load(str(METRICS / "f1"), keep_in_memory=True)
    assert f1.compute(predictions=[0, 1, 1], references=[0, 1, 0]) == {"f1": pytest.approx(2 / 3)}
    measure("classes", BINARY, [[1 - p, p] for p in POSITIVE], ("HD", "CoV"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_words_are_those_of_the_paper_s_figures():
    published = {figure.metric for figure in FIGURES if figure.task.startswith("specificity")}
    assert published <= set(metrics_for("classes", 2)) | set(metrics_for("classes", 3))


def test_folds():
    assert mean_and_standard_error([0.7]) == (0.7, None)
    mean, error = mean_and_standard_error([0.6, 0.7, 0.8, 0.7])
    assert mean == pytest.approx(0.7)
    assert error == pytest.approx(np.sqrt(0.02 / 3) / 2)
    with pytest.raises(ValueError, match="no fold"):
        mean_and_standard_error([])


def test_metric_modules_are_shipped():
    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = {path for pattern in patterns["curr_ab.measures"] for path in METRICS.parent.glob(pattern)}
    assert set(METRICS.rglob("*.py")) <= shipped


def test_the_sections_of_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    text = text[text.index("## Metrics\n") : text.index("## Published figures\n")]
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(block, {})
    lines = [line for line in text.splitlines() if line.startswith("curr-ab ")]
    assert [line.split()[1] for line in lines] == ["finetune", "finetune", "compare"]
    for line in lines:
        assert callable(build_parser().parse_args(shlex.split(line)[1:]).run)
