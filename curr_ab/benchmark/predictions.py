"""What a model says of every item of a task when it had not seen it, as a table that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curr_ab.benchmark.tasks.task import Indices, Task
from curr_ab.files import write_parquet
from curr_ab.measures.fold_predictions import PREDICTIONS
from curr_ab.measures.metrics import Floats
from curr_ab.words import UNKNOWN_LABEL

CLASSIFIED = ("classes", "pairing", "residues")  # kinds whose labels are classes
LABELLED = (*CLASSIFIED, "number")  # kinds that a model is fitted to, fold by fold


@dataclass(frozen=True)
class Predictions:
    """A number or probabilities of each pair [pairs, classes]; of residues a list of these."""

    values: Any
    notes: tuple[str, ...] = ()  # what a report must say of them, such as the features that were chosen
    is_probe: bool = False  # made by regressions on frozen features
    further: tuple[tuple[str, float], ...] = ()  # numbers beside the metric, by name, such as few-shot ones


def shares(task: Task, train: Indices) -> Floats:
    """What a training part says of every pair: the share of each class in known labels, or the mean [1]."""
    labels = np.concatenate([np.atleast_1d(task.labels[row]) for row in train])
    if task.kind not in CLASSIFIED:
        return np.asarray(labels.mean(keepdims=True))
    counts = np.bincount(labels[labels != UNKNOWN_LABEL], minlength=len(task.label_names))
    return np.asarray(counts / counts.sum())


def guess(task: Task) -> Predictions:
    """The guess that looks at no pair: the shares of the classes, or the mean, of each training part."""
    assert task.folds is not None
    values: list[Any] = [None] * len(task)
    for train, test in task.folds:
        found = shares(task, train)
        for row in test:
            values[row] = np.tile(found, (len(task.labels[row]), 1)) if task.kind == "residues" else found
    if task.kind == "residues":
        return Predictions(values)
    stacked = _stacked(values, len(task.label_names) or 1)
    return Predictions(stacked[:, 0] if task.kind == "number" else stacked)


def gene_pairs(task: Task) -> Predictions:
    """How probable a native pair is by its two V genes, from the training part of each fold."""
    from curr_ab.benchmark.tasks.gene_pairs import gene_pair_scores

    native = 1 / (1 + np.exp(-gene_pair_scores(task)))
    return Predictions(np.stack([1 - native, native], axis=1))


def _stacked(values: list[Any], width: int) -> Floats:
    """Probabilities [pairs, classes]; zeros of pairs that no fold tests."""
    return np.stack([np.zeros(width) if one is None else one for one in values])


def fold_of(task: Task) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The number of the fold that tests each pair, from 0; 0 of all without folds, -1 of what none tests."""
    if task.folds is None:
        return np.zeros(len(task), np.int64)
    numbers = np.full(len(task), -1, np.int64)
    for number, (_, test) in enumerate(task.folds):
        numbers[test] = number
    return numbers


def write_predictions(folder: Path, task: Task, predictions: Predictions) -> None:
    """A row for each pair that a fold tests: the columns of a fine-tuning's predictions, and the fold."""
    folds = fold_of(task)
    rows = np.flatnonzero(folds >= 0).tolist()
    columns: dict[str, Any] = {
        "id": [task.ids[row] for row in rows],
        "number": rows,
        "fold": folds[rows] + 1,
        "label": [_named(task, row) for row in rows],
    }
    if task.groups is not None:
        columns["group"] = [task.groups[row] for row in rows]
    if task.kind in CLASSIFIED:
        for index, name in enumerate(task.label_names):
            columns[f"probability_{name}"] = [_column(predictions.values[row], index) for row in rows]
    else:
        columns["prediction"] = np.asarray(predictions.values, float)[rows]
    write_parquet(folder / PREDICTIONS, pa.table(columns))


def _named(task: Task, row: int) -> Any:
    label = task.labels[row]
    if task.kind == "residues":
        return [None if one == UNKNOWN_LABEL else task.label_names[one] for one in label]
    if task.kind in CLASSIFIED:
        return task.label_names[label]
    return None if task.kind == "loss" else float(label)


def _column(values: Floats, index: int) -> Any:
    return values[:, index].tolist() if values.ndim == 2 else float(values[index])


def items_of(task: Task, predictions: Predictions) -> tuple[Any, Floats, Sequence[int]]:
    """Labels [items], predictions [items] or [items, classes], and the pair of each item.

    Left out are residues whose label is unknown, and pairs that no fold tests.
    """
    rows = np.flatnonzero(fold_of(task) >= 0)
    if task.kind != "residues":
        values = np.asarray(predictions.values, float)[rows]
        labels = np.zeros(len(rows)) if task.kind == "loss" else np.asarray(task.labels)[rows]
        return labels, values, rows.tolist()
    each = [np.asarray(task.labels[row]) for row in rows]
    pairs = np.repeat(rows, [len(one) for one in each])
    truth = np.concatenate(each)
    known = truth != UNKNOWN_LABEL
    values = np.concatenate([np.asarray(predictions.values[row], float) for row in rows])
    return truth[known], values[known], pairs[known].tolist()
