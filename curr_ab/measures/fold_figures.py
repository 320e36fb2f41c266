"""Pictures of a cross-validation: confusion, ROC, precision and recall, calibration, predicted numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curr_ab.extras import needs_extra
from curr_ab.measures.fold_predictions import RunPredictions, columns_of_run, read_run
from curr_ab.measures.metrics import Floats, Labels, metrics_for, score
from curr_ab.measures.statistics import mean_and_standard_error
from curr_ab.pictures import COLOURS, add_legend, new_figure, plain, save_pictures, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A second dozen of classes differs by its dashes.
_DASHES = ("-", "--", ":")
_THIN: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.35}
_BOLD: dict[str, Any] = {"linewidth": 2.2}
_CHANCE: dict[str, Any] = {"color": "#777777", "linewidth": 1, "linestyle": (0, (4, 3))}
_GRID = np.linspace(0, 1, 201)
_BINS = 10


def draw_figures(folder: str | Path) -> list[Path]:
    """Write all figures of a finished run into its folder `figures`."""
    figures: dict[str, Figure] = {}
    for column in columns_of_run(folder) or (None,):
        ending = "" if column is None else "_" + re.sub(r"[^\w.-]", "_", column)
        run = read_run(folder, column=column)
        figures |= {f"{name}{ending}": figure for name, figure in figures_of(run).items()}
    return save_pictures(figures, Path(folder) / "figures")


def figures_of(run: RunPredictions) -> dict[str, Figure]:
    """Figures by name: those of classes, or that of numbers."""
    if run.target == "number":
        return {"predicted": predicted_figure(run)}
    return {
        "confusion": confusion_figure(run),
        "roc": roc_figure(run),
        "precision_recall": precision_recall_figure(run),
        "calibration": calibration_figure(run),
    }


def confusion_figure(run: RunPredictions) -> Figure:
    """Counts of all folds together; shades are shares of each true class."""
    names = [plain(name) for name in run.label_names]
    counts = np.zeros((len(names), len(names)), int)
    for fold in run.folds:
        np.add.at(counts, (fold.labels, fold.predictions.argmax(axis=1)), 1)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = 2.4 + 0.8 * len(names)
    figure, (axes,) = _figure(run, "accuracy", size=(side + 1.2, side))
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, label="share of the true class", shrink=0.85)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.55 else "black"
        text = f"{counts[row, column]:,}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def roc_figure(run: RunPredictions) -> Figure:
    """Thin lines are folds; the bold line is the mean of their curves, at equal false positive rates."""
    figure, (axes,) = _figure(run, "auroc")
    axes.plot([0, 1], [0, 1], label="chance", **_CHANCE)

    def curve(truth: Labels, scores: Floats) -> tuple[Floats, Floats]:
        with needs_extra("finetune"):
            from sklearn.metrics import roc_curve
        false_positive, true_positive, _ = roc_curve(truth, scores, drop_intermediate=False)
        return false_positive, true_positive

    for number, name, style in _classes(run):
        raised = []
        for fold in run.folds:
            false_positive, true_positive = curve(fold.labels == number, fold.predictions[:, number])
            axes.plot(false_positive, true_positive, **_THIN, **style)  # equal scores are a slope
            raised.append(np.interp(_GRID, false_positive, true_positive))
        mean = np.mean(raised, axis=0)
        axes.plot([0, *_GRID], [0, *mean], label=f"{name}, mean of {len(raised)} folds", **_BOLD, **style)
    return _rates(figure, axes, "false positive rate", "true positive rate")


def precision_recall_figure(run: RunPredictions) -> Figure:
    """Thin lines are folds, the bold line all their predictions together; dashed, the share of the class."""
    with needs_extra("finetune"):
        from sklearn.metrics import precision_recall_curve
    figure, (axes,) = _figure(run, "aupr")
    for number, name, style in _classes(run):
        for fold in run.folds:
            precision, recall, _ = precision_recall_curve(fold.labels == number, fold.predictions[:, number])
            axes.step(recall, precision, where="post", **_THIN, **style)
        truth = run.pooled_labels == number
        precision, recall, _ = precision_recall_curve(truth, run.pooled_predictions[:, number])
        axes.step(recall, precision, where="post", label=f"{plain(name)}, all folds", **_BOLD, **style)
        axes.axhline(truth.mean(), **{**_CHANCE, "color": style["color"]})
    axes.plot([], [], label="share of the class", **_CHANCE)
    return _rates(figure, axes, "recall", "precision")


def calibration_figure(run: RunPredictions) -> Figure:
    """Share of right predictions by the confidence in them; below, how many have each confidence."""
    figure, (upper, lower) = _figure(run, "calibration-error", size=(5.2, 5.6), rows=(3, 1))
    lowest = 1 / len(run.label_names)
    edges = np.linspace(lowest, 1, _BINS + 1)
    upper.plot([lowest, 1], [lowest, 1], label="calibrated", **_CHANCE)
    for fold in run.folds:
        upper.plot(*_reliability(fold.labels, fold.predictions, edges), color=COLOURS[0], **_THIN)
    pooled = run.pooled_labels, run.pooled_predictions
    upper.plot(*_reliability(*pooled, edges), "o-", color=COLOURS[0], label="all folds", **_BOLD)
    lower.hist(pooled[1].max(axis=1), bins=edges.tolist(), color=COLOURS[0], alpha=0.8)
    upper.set(ylabel="share that is right", ylim=(-0.02, 1.02))
    lower.set(xlabel="confidence in the predicted class", ylabel=_items(run))
    add_legend(upper, loc="lower right")
    return figure


def predicted_figure(run: RunPredictions) -> Figure:
    """Predicted against measured, each example when its model had not seen it."""
    figure, (axes,) = _figure(run, "spearman")
    for index, fold in enumerate(run.folds):
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(
            fold.labels,
            fold.predictions,
            "o",
            ms=4,
            alpha=0.6,
            mew=0,
            color=colour,
            label=f"fold {fold.number}",
        )
    low, high = run.pooled_labels.min(), run.pooled_labels.max()
    axes.plot([low, high], [low, high], label="equal", **_CHANCE)
    axes.set(xlabel="measured", ylabel="predicted")
    add_legend(figure, loc="outside lower center", ncols=3)
    return figure


def _figure(
    run: RunPredictions, metric: str, size: tuple[float, float] = (5.2, 5.4), rows: tuple[int, ...] = (1,)
) -> tuple[Figure, list[Axes]]:
    """An empty figure whose title says the metric's mean over folds."""
    figure, axes = new_figure(size, rows=len(rows), extra="finetune", height_ratios=rows, sharex=True)
    shown = metrics_for(run.target, len(run.label_names))[metric]
    mean, error = mean_and_standard_error([score(shown, fold.labels, fold.predictions) for fold in run.folds])
    spread = "" if error is None else f" ± {error:.3f}"
    task = run.task if run.column is None else f"{run.task}, {run.column}"
    set_title(axes[0], f"{task}, {run.model}: {metric} {mean:.3f}{spread}")
    return figure, axes


def _classes(run: RunPredictions) -> list[tuple[int, str, dict[str, Any]]]:
    """Number, name and style of each curve: the positive one of two classes, or each against the rest."""
    numbers = [1] if len(run.label_names) == 2 else range(len(run.label_names))
    curves = []
    for index, number in enumerate(numbers):
        dashes = _DASHES[index // len(COLOURS) % len(_DASHES)]
        style = {"color": COLOURS[index % len(COLOURS)], "linestyle": dashes}
        curves.append((number, run.label_names[number], style))
    return curves


def _reliability(labels: Labels, predictions: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Mean confidence and share right of the bins that hold anything."""
    confidence = predictions.max(axis=1)
    right = predictions.argmax(axis=1) == labels
    bins = np.clip(np.digitize(confidence, edges) - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    filled = counts > 0
    means = [
        np.bincount(bins, values, len(edges) - 1)[filled] / counts[filled] for values in (confidence, right)
    ]
    return means[0], means[1]


def _rates(figure: Figure, axes: Axes, x_label: str, y_label: str) -> Figure:
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    add_legend(figure, loc="outside lower center", ncols=2)
    return figure


def _items(run: RunPredictions) -> str:
    return "residues" if run.target == "residues" else "pairs"
