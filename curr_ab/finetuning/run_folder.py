"""The folder of a fine-tuning: recipe, data, folds, and a folder for each fit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml

from curr_ab import __version__
from curr_ab.checkpoint_files import CheckpointSource
from curr_ab.files import read_object, replacing, write_json, write_parquet
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.label_counts import bound_table
from curr_ab.finetuning.labelled_pairs import Example
from curr_ab.finetuning.labels import label_of
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.recipe_files import recorded_recipe
from curr_ab.measures.fold_predictions import DATA, FOLDS, PREDICTIONS, RECIPE, fold_folder
from curr_ab.measures.metrics import measure, measure_column, measure_order
from curr_ab.measures.statistics import mean_and_standard_error
from curr_ab.results import Detail, Result
from curr_ab.training.state import TrainingFolder
from curr_ab.words import UNKNOWN_LABEL

Array = npt.NDArray[np.float64]
_IN_THE_ADAPTER = ("ensemble", "training_sequences")  # settings that a run may change afterwards
_BOUNDS = {-1: "<", 0: "", 1: ">"}  # as they stand before the number of a label


class FitFolder(TrainingFolder):
    """Paths of one fit; it is done when its results, or the last adapter, are there."""

    def __init__(self, path: Path, adapter: Path) -> None:
        super().__init__(path)
        self.adapter = adapter
        self.predictions_file = path / PREDICTIONS
        self.results_file = path / "results.json"
        self.best = path / "best"  # the state of the best epoch so far

    def drop_states(self) -> None:
        """Delete the states, from which nothing goes on any more."""
        for folder in (self.states, self.best):
            shutil.rmtree(folder, ignore_errors=True)


class FinetuningFolder:
    """Paths of all that a cross-validation leaves."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / RECIPE
        self.data_file = self.path / DATA
        self.folds_file = self.path / FOLDS
        self.results_file = self.path / "results.json"
        self.adapter = self.path / "adapter"

    def fold(self, number: int) -> FitFolder:
        folder = fold_folder(self.path, number)
        return FitFolder(folder, folder / "adapter")

    @property
    def final(self) -> FitFolder:
        """The fit on everything; its adapter is that of the whole folder."""
        return FitFolder(self.path / "final", self.adapter)

    def has_adapter(self, recipe: Recipe) -> bool:
        """True where the last adapter is there, with what the recipe wants in it."""
        made = self.adapter / RECIPE
        if not made.exists():
            return False
        before = recorded_recipe(made)
        return all(getattr(before, name) == getattr(recipe, name) for name in _IN_THE_ADAPTER)

    @property
    def precision(self) -> str | None:
        """The number type in which the run began; None before that."""
        return recorded_recipe(self.recipe_file).precision if self.recipe_file.exists() else None

    def begin(
        self, recipe: Recipe, data: dict[str, Any], folds: Sequence[Fold], earlier_name: str | None = None
    ) -> str:
        """Record recipe, data and folds, or make sure that those of what is here are the same.

        The model's recorded name is returned, which in an old run may be `earlier_name`.
        """
        if self.recipe_file.exists():
            if not self.data_file.exists():
                raise ValueError(
                    f"the folder of a run must be new or hold a run; {self.path} has a {RECIPE} but no "
                    f"{DATA}: choose another folder"
                )
            changed = recipe.differences(recorded_recipe(self.recipe_file))
            before = read_object(self.data_file)
            if before.get("model") == earlier_name:
                data = {**data, "model": earlier_name}
            changed += [
                f"{key} {before.get(key)!r} → {data[key]!r}" for key in data if before.get(key) != data[key]
            ]
            if changed:
                raise ValueError(
                    f"recipe, data and model must be those of the run in {self.path}; got others "
                    f"({'; '.join(changed)}): repeat it as it was, or choose another folder"
                )
        write_json(self.data_file, data)
        parts = ("train", "validation", "test")
        write_json(
            self.folds_file,
            [
                {"number": fold.number} | {part: getattr(fold, part).tolist() for part in parts}
                for fold in folds
            ],
        )
        with replacing(self.recipe_file) as temporary:
            temporary.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")
        return str(data["model"])


def write_predictions(path: Path, recipe: Recipe, examples: Sequence[Example], predictions: Array) -> None:
    """A row for each example: what is right, its group, and the probability of each class or the number.

    For residues, label and probabilities are lists over the residues of heavy and light.
    """
    columns: dict[str, Any] = {
        "id": [example.id for example in examples],
        "number": [example.number for example in examples],
    }
    if not recipe.label_columns:
        columns["label"] = [_with_names(example.label, recipe) for example in examples]
    if recipe.group_by is not None:
        columns["group"] = [example.group for example in examples]
    write_parquet(path, pa.table({**columns, **dict(_columns_of_tasks(recipe, examples, predictions))}))


def _columns_of_tasks(
    recipe: Recipe, examples: Sequence[Example], predictions: Array
) -> Iterator[tuple[str, Any]]:
    """Predictions, with labels where several columns are learnt, and bounds where there are any."""
    bounds = bound_table(examples, recipe)
    for index, column in enumerate(recipe.tasks):
        ending = f"_{column}" if recipe.label_columns else ""
        if recipe.label_columns:
            labels = [label_of(example.label, index) for example in examples]
            yield f"label{ending}", [_with_names(label, recipe) for label in labels]
        if bounds.any():
            yield f"bound{ending}", [_BOUNDS[bound] for bound in bounds[:, index].tolist()]
        if recipe.target == "number":
            yield f"prediction{ending}", predictions[:, index] if recipe.label_columns else predictions
        elif recipe.label_columns:
            yield f"probability{ending}", predictions[:, index]
    if not recipe.label_columns:
        for index, name in enumerate(recipe.labels):
            yield f"probability_{name}", split_by_example(recipe, examples, predictions[:, index])


def split_by_example(recipe: Recipe, examples: Sequence[Example], predictions: Array) -> Sequence[Array]:
    """The predictions of each example: those of its residues, or its own."""
    if recipe.target != "residues":
        return list(predictions)
    ends = np.cumsum([example.num_residues for example in examples])
    return np.split(predictions, ends[:-1])


def _with_names(label: Any, recipe: Recipe) -> Any:
    if recipe.target == "number":
        return label
    if recipe.target == "classes":
        return None if label == UNKNOWN_LABEL else recipe.labels[label]
    return [None if index == UNKNOWN_LABEL else recipe.labels[index] for index in label]


def fold_results(
    recipe: Recipe,
    base: CheckpointSource,
    dataset: str,
    fold: int,
    examples: Sequence[Example],
    predictions: Array,
) -> list[Result]:
    """All metrics of the recipe's target on the test part of a fold."""
    # Settings that tell this cross-validation from another one of the same task.
    details: dict[str, Detail] = {
        "recipe": recipe.name,
        "method": recipe.method,
        **({"features": recipe.features} if recipe.method == "probe" else {"pooling": recipe.pooling}),
        "folds": recipe.folds,
        "fold_scheme": recipe.fold_scheme,
        "fold": fold,
    }
    return [
        Result(
            model=base.name,
            task=recipe.name,
            metric=metric,
            value=value,
            num_items=num_items,
            dataset=dataset,
            split="test",
            checkpoint=base.digest,
            source=f"curr-ab finetune {recipe.name} --method {recipe.method}",
            code_version=__version__,
            details={**details, "column": column} if column else details,
        )
        for column, num_items, values in _measured(recipe, examples, predictions)
        for metric, value in values.items()
    ]


def _measured(
    recipe: Recipe, examples: Sequence[Example], predictions: Array
) -> list[tuple[str, int, dict[str, float]]]:
    """Column, number of items and metrics: the means over several columns, without a name, then each."""
    if not recipe.label_columns and not any(example.bounds for example in examples):
        per_example = split_by_example(recipe, examples, predictions)
        labels = [example.label for example in examples]
        values = measure(recipe.target, labels, per_example, recipe.labels)
        if recipe.loss == "ordinal":
            values |= measure_order(np.array(labels), predictions)
        return [("", len(predictions), values)]
    bounds = bound_table(examples, recipe)
    measured = []
    for index, column in enumerate(recipe.tasks):
        labels = [label_of(example.label, index) for example in examples]
        known = np.array([label is not None and label != UNKNOWN_LABEL for label in labels])
        of_column = predictions[:, index] if recipe.label_columns else predictions
        name = column if recipe.label_columns else ""
        measured.append(
            (
                name,
                *measure_column(
                    recipe.target,
                    np.array(labels)[known],
                    of_column[known],
                    bounds[known, index],
                    recipe.labels,
                ),
            )
        )
    if not recipe.label_columns:
        return measured
    means = {
        metric: float(np.mean([values[metric] for _, _, values in measured if metric in values]))
        for metric in dict.fromkeys(metric for _, _, values in measured for metric in values)
        if metric != "rmse"  # columns have units of their own
    }
    return [("", len(predictions), means), *measured]


def shown_column(row: Result) -> str:
    """The column of a result in words; nothing where there is one column alone, or of the mean over all."""
    return f" of {row.details['column']}" if "column" in row.details else ""


def mean_results(results: Sequence[Result]) -> list[Result]:
    """Mean and standard error over the folds of every metric."""
    means = []
    kinds = dict.fromkeys((row.metric, shown_column(row)) for row in results)
    for metric, column in sorted(kinds, key=lambda kind: bool(kind[1])):  # those over all columns first
        rows = [row for row in results if (row.metric, shown_column(row)) == (metric, column)]
        value, error = mean_and_standard_error([row.value for row in rows])
        details = {key: detail for key, detail in rows[0].details.items() if key != "fold"}
        num_items = sum(row.num_items for row in rows)
        means.append(
            replace(rows[0], value=value, standard_error=error, num_items=num_items, details=details)
        )
    return means
