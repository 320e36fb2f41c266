"""What a cross-validation predicted of examples that its models had not seen, read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from curr_ab.extras import needs_extra
from curr_ab.measures.metrics import Floats, Labels
from curr_ab.words import UNKNOWN_LABEL, Target


@dataclass(frozen=True)
class FoldPredictions:
    """The test part of one fold, item by item: an item is a pair, or a residue whose label is known."""

    number: int
    ids: tuple[str, ...]  # of the pairs
    labels: Labels  # [items]
    predictions: Floats  # [items, classes], or [items] of a number
    pairs: Labels  # [items] place of the item's pair in `ids`
    groups: tuple[str, ...]  # of the pairs: what the folds hold apart, or the pair itself
    num_fitted: int  # pairs that the model was fitted on


@dataclass(frozen=True)
class RunPredictions:
    """All folds of one run."""

    folder: Path
    model: str
    task: str
    target: Target
    label_names: tuple[str, ...]
    examples: str  # fingerprint
    grouped: bool
    folds: tuple[FoldPredictions, ...]

    @property
    def pooled_labels(self) -> Labels:
        """Of the items of all folds."""
        return np.concatenate([fold.labels for fold in self.folds])

    @property
    def pooled_predictions(self) -> Floats:
        """In the same order, [items, classes] or [items]."""
        return np.concatenate([fold.predictions for fold in self.folds])


def read_run(folder: str | Path) -> RunPredictions:
    """The predictions of a finished cross-validation."""
    with needs_extra("finetune"):
        import yaml
    folder = Path(folder)
    if not (folder / "folds.json").is_file():
        raise ValueError(f"{folder} is no folder of a fine-tuning: it has no folds.json")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    names = tuple(recipe["labels"])
    folds, grouped = [], False
    for fold in json.loads((folder / "folds.json").read_text(encoding="utf-8")):
        path = folder / f"fold-{fold['number']}" / "predictions.parquet"
        if not path.is_file():
            raise ValueError(
                f"{folder}: fold {fold['number']} is not done; run the fine-tuning again to go on"
            )
        columns = pq.read_table(path).to_pydict()
        grouped = "group" in columns
        fitted = len(fold["train"]) + len(fold["validation"])
        folds.append(_fold(fold["number"], recipe["target"], names, columns, fitted))
    return RunPredictions(
        folder,
        data["model"],
        recipe["name"],
        recipe["target"],
        names,
        data["examples"],
        grouped,
        tuple(folds),
    )


def _fold(
    number: int, target: Target, names: Sequence[str], columns: dict[str, list[Any]], num_fitted: int
) -> FoldPredictions:
    ids = tuple(map(str, columns["id"]))
    groups = tuple(map(str, columns.get("group", columns["id"])))
    pairs = np.arange(len(ids))
    if target == "number":
        labels, predictions = np.asarray(columns["label"], float), np.asarray(columns["prediction"], float)
        return FoldPredictions(number, ids, labels, predictions, pairs, groups, num_fitted)
    places = {name: place for place, name in enumerate(names)}
    told = [columns[f"probability_{name}"] for name in names]
    if target == "classes":
        labels = np.array([places[label] for label in columns["label"]])
        return FoldPredictions(number, ids, labels, np.array(told, float).T, pairs, groups, num_fitted)
    sizes = [len(one) for one in columns["label"]]
    labels = np.array([places.get(label, UNKNOWN_LABEL) for one in columns["label"] for label in one])
    predictions = np.array([[value for one in column for value in one] for column in told], float).T
    known = labels != UNKNOWN_LABEL
    pairs = np.repeat(pairs, sizes)[known]
    return FoldPredictions(number, ids, labels[known], predictions[known], pairs, groups, num_fitted)
