"""Figures of cross-validations: there, not empty, and drawn of the numbers that they are said to show."""

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.metrics import auc
from support.cross_validations import write_run

from curr_ab.evaluation import measure
from curr_ab.measures.fold_figures import (
    calibration_figure,
    confusion_figure,
    draw_figures,
    precision_recall_figure,
    predicted_figure,
    roc_figure,
)
from curr_ab.measures.fold_predictions import read_run

BOLD = 2.2


def probabilities(generator, labels, classes):
    scores = generator.normal(size=(len(labels), classes))
    scores[range(len(labels)), labels] += 1.0
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One of each target, and three classes."""
    place, generator = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    labels = {2: np.arange(40) % 2, 3: np.arange(60) % 3}
    found = {}
    for classes, names in ((2, ("HD", "CoV")), (3, ("HD", "Flu", "CoV"))):
        folds = [
            {"labels": labels[classes], "predictions": probabilities(generator, labels[classes], classes)}
            for _ in range(3)
        ]
        found[f"classes-{classes}"] = write_run(place / str(classes), "classes", names, folds)
    residues = [[0, 1, -100, 0, 0, 1, 0, 0]] * 6
    folds = [
        {
            "labels": residues,
            "predictions": [probabilities(generator, np.maximum(one, 0), 2) for one in residues],
        }
        for _ in range(3)
    ]
    found["residues"] = write_run(place / "residues", "residues", ("other", "paratope"), folds)
    measured = generator.normal(size=(3, 20))
    folds = [{"labels": one, "predictions": one + generator.normal(size=20)} for one in measured]
    found["number"] = write_run(place / "number", "number", (), folds)
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["classes-2", "classes-3", "residues", "number"])
def test_files(runs, kind):
    paths = draw_figures(runs[kind])
    names = ["predicted"] if kind == "number" else ["confusion", "roc", "precision_recall", "calibration"]
    assert paths == [runs[kind] / "figures" / f"{name}.png" for name in names]
    assert sorted(paths) == sorted((runs[kind] / "figures").iterdir())
    for path in paths:
        image = imread(path)[:, :, :3]
        assert min(image.shape[:2]) > 400
        dark = (image.mean(axis=2) < 0.95).mean()
        assert 0.01 < dark < 0.7, path


def lines(axes, bold):
    return [line for line in axes.get_lines() if (line.get_linewidth() == BOLD) == bold]


def test_curves_are_those_of_the_metrics(runs):
    run = read_run(runs["classes-2"])
    values = [measure("classes", fold.labels, fold.predictions, run.label_names) for fold in run.folds]
    axes = roc_figure(run).axes[0]
    [mean] = lines(axes, bold=True)
    area = np.mean([value["auroc"] for value in values])
    assert auc(*mean.get_data()) == pytest.approx(area, abs=0.01)
    thin = [line for line in lines(axes, bold=False) if line.get_linewidth() < 1]
    assert [auc(*line.get_data()) for line in thin] == pytest.approx([one["auroc"] for one in values])
    assert {line.get_drawstyle() for line in thin} == {"default"}  # a step would hide equal scores
    assert f"auroc {area:.3f} ± " in axes.get_title(loc="left")

    axes = precision_recall_figure(run).axes[0]
    [pooled] = lines(axes, bold=True)
    recall, precision = pooled.get_data()
    all_folds = measure("classes", run.pooled_labels, run.pooled_predictions, run.label_names)
    assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(all_folds["aupr"])

    three = read_run(runs["classes-3"])
    for draw in (roc_figure, precision_recall_figure):
        axes = draw(three).axes[0]
        assert len({line.get_color() for line in lines(axes, bold=True)}) == 3
        assert len([line for line in lines(axes, bold=False) if line.get_linewidth() < 1]) == 9


def test_confusion_counts_every_item(runs):
    run = read_run(runs["residues"])
    texts = [text.get_text() for text in confusion_figure(run).axes[0].texts]
    counts = [int(text.split("\n")[0].replace(",", "")) for text in texts]
    assert sum(counts) == 3 * 6 * 7  # the unknown residue is none
    assert {text.get_rotation() for text in confusion_figure(run).axes[0].get_xticklabels()} == {40}
    right = (run.pooled_predictions.argmax(1) == run.pooled_labels).sum()
    assert counts[0] + counts[3] == right


def test_calibration_and_predicted_show_the_data(runs):
    run = read_run(runs["classes-2"])
    upper, lower = calibration_figure(run).axes
    assert sum(bar.get_height() for bar in lower.patches) == 120
    [pooled] = [line for line in upper.get_lines() if line.get_marker() == "o"]
    confidence, right = pooled.get_data()
    assert confidence.min() >= 0.5 and right.max() <= 1
    numbers = read_run(runs["number"])
    axes = predicted_figure(numbers).axes[0]
    dots = np.concatenate([line.get_ydata() for line in axes.get_lines() if line.get_marker() == "o"])
    assert sorted(dots) == pytest.approx(sorted(numbers.pooled_predictions))
    assert "spearman" in axes.get_title(loc="left")
