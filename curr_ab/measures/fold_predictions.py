"""Predictions of a cross-validation for examples that its models had not seen, read from its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from curr_ab.files import as_written, read_object
from curr_ab.measures.metrics import Floats, Labels
from curr_ab.options import OptionError, read_yaml
from curr_ab.words import UNKNOWN_LABEL, Target

# Names in the folder of a fine-tuning.
RECIPE = "recipe.yaml"
DATA = "data.json"
FOLDS = "folds.json"
PREDICTIONS = "predictions.parquet"
BESIDE = "beside"  # of what the same folds give without the run's method, by name


def beside_folder(folder: Path, name: str) -> Path:
    """Folder of the folds of a baseline that stands beside a run."""
    return folder / BESIDE / name


def fold_folder(folder: Path, number: int) -> Path:
    """Folder of the fit of one fold."""
    return folder / f"fold-{number}"


@dataclass(frozen=True, kw_only=True)
class FoldPredictions:
    """The test part of one fold, item by item: an item is a pair, or a residue whose label is known."""

    number: int
    ids: tuple[str, ...]  # of the pairs
    numbers: Labels  # of the pairs in the examples of the run
    labels: Labels  # [items]
    predictions: Floats  # [items, classes], or [items] of a number
    pairs: Labels  # [items] index of the item's pair in `ids`
    groups: tuple[str, ...]  # of the pairs: what the folds hold apart, or the pair itself
    num_fitted: int  # pairs that the model was fitted on


@dataclass(frozen=True, kw_only=True)
class RunPredictions:
    """All folds of one run."""

    folder: Path
    model: str
    task: str
    target: Target
    label_names: tuple[str, ...]
    examples: str  # fingerprint
    column: str | None  # whose labels these are, where several are learnt at once
    grouped: bool
    folds: tuple[FoldPredictions, ...]

    @property
    def pooled_labels(self) -> Labels:
        """Labels of the items of all folds."""
        return np.concatenate([fold.labels for fold in self.folds])

    @property
    def pooled_predictions(self) -> Floats:
        """Predictions in the same order, [items, classes] or [items]."""
        return np.concatenate([fold.predictions for fold in self.folds])


def columns_of_run(folder: str | Path) -> tuple[str, ...]:
    """The columns that a cross-validation learns at once; none where it learns one."""
    path = Path(folder) / RECIPE
    recipe = read_yaml(path)
    with as_written(path):
        return tuple(recipe.get("label_columns") or ())


def read_run(folder: str | Path, *, column: str | None = None, beside: str = "") -> RunPredictions:
    """The predictions of a finished cross-validation, or those of a baseline that stands beside it.

    Where it learns several columns they are those of `column`.
    """
    folder = Path(folder)
    if not (folder / FOLDS).is_file():
        raise ValueError(f"{folder} must be a folder of `curr-ab finetune`; it has no {FOLDS}")
    several = columns_of_run(folder)
    if several and column not in several:
        raise OptionError(
            f"column must be one of those that {folder} learns, {', '.join(several)}; got {column or 'none'}",
            "column",
        )
    with as_written(folder):
        return _read_run(folder, column if several else None, beside)


def _read_run(folder: Path, column: str | None, beside: str) -> RunPredictions:
    recipe, data = read_yaml(folder / RECIPE), read_object(folder / DATA)
    names = tuple(recipe["labels"])
    predicted = beside_folder(folder, beside) if beside else folder
    folds, grouped = [], False
    for fold in json.loads((folder / FOLDS).read_text(encoding="utf-8")):
        path = fold_folder(predicted, fold["number"]) / PREDICTIONS
        if not path.is_file():
            raise ValueError(
                f"{folder}: fold {fold['number']} is not done; run the fine-tuning again to go on"
            )
        columns = pq.read_table(path).to_pydict()
        grouped = "group" in columns
        num_fitted = len(fold["train"]) + len(fold["validation"])
        if not num_fitted:
            raise ValueError(
                f"{folder / FOLDS} must say what fold {fold['number']} was fitted to; got nothing"
            )
        folds.append(
            _fold(
                columns if column is None else _of_column(columns, column, names),
                number=fold["number"],
                target=recipe["target"],
                names=names,
                num_fitted=num_fitted,
            )
        )
    return RunPredictions(
        folder=folder,
        model=beside or data["model"],
        task=recipe["name"],
        target=recipe["target"],
        label_names=names,
        examples=data["examples"],
        column=column,
        grouped=grouped,
        folds=tuple(folds),
    )


def _of_column(columns: dict[str, list[Any]], column: str, names: Sequence[str]) -> dict[str, list[Any]]:
    """One of several columns under the names that a single one has."""
    out = dict(columns)
    for kind in ("label", "bound", "prediction"):
        if f"{kind}_{column}" in columns:
            out[kind] = columns[f"{kind}_{column}"]
    if f"probability_{column}" in columns:
        second = columns[f"probability_{column}"]
        out |= {f"probability_{names[0]}": [1 - one for one in second], f"probability_{names[1]}": second}
    return out


def _fold(
    columns: dict[str, list[Any]], *, number: int, target: Target, names: Sequence[str], num_fitted: int
) -> FoldPredictions:
    pairs = np.arange(len(columns["id"]))
    codes = {name: code for code, name in enumerate(names)}
    probabilities = [columns[f"probability_{name}"] for name in names]
    if target == "number":
        labels, predictions = np.asarray(columns["label"], float), np.asarray(columns["prediction"], float)
        known = ~np.isnan(labels) & (np.array(columns.get("bound", [""] * len(labels))) == "")
    elif target == "classes":
        labels = np.array([codes.get(label, UNKNOWN_LABEL) for label in columns["label"]])
        predictions = np.array(probabilities, float).T
        known = labels != UNKNOWN_LABEL
    else:
        pairs = np.repeat(pairs, [len(of_pair) for of_pair in columns["label"]])
        labels = np.array(
            [codes.get(label, UNKNOWN_LABEL) for of_pair in columns["label"] for label in of_pair]
        )
        predictions = np.array(
            [[value for of_pair in column for value in of_pair] for column in probabilities], float
        ).T
        known = labels != UNKNOWN_LABEL
    pairs, labels, predictions = pairs[known], labels[known], predictions[known]
    return FoldPredictions(
        number=number,
        ids=tuple(map(str, columns["id"])),
        numbers=np.asarray(columns["number"]),
        labels=labels,
        predictions=predictions,
        pairs=pairs,
        groups=tuple(map(str, columns.get("group", columns["id"]))),
        num_fitted=num_fitted,
    )
