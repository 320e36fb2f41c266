"""The folder of a fine-tuning: recipe, data, folds, and a folder for each fit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
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
from curr_ab.finetuning.labelled_pairs import Example
from curr_ab.finetuning.recipe import Recipe, resolve_recipe
from curr_ab.measures.fold_predictions import DATA, FOLDS, PREDICTIONS, RECIPE, fold_folder
from curr_ab.measures.metrics import measure
from curr_ab.measures.statistics import mean_and_standard_error
from curr_ab.results import Detail, Result
from curr_ab.training.state import TrainingFolder
from curr_ab.words import UNKNOWN_LABEL

Array = npt.NDArray[np.float64]


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

    @property
    def precision(self) -> str | None:
        """The number type in which the run began; None before that."""
        return resolve_recipe(self.recipe_file).precision if self.recipe_file.exists() else None

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
            changed = recipe.differences(resolve_recipe(self.recipe_file))
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
        "label": [_with_names(example.label, recipe) for example in examples],
    }
    if recipe.group_by is not None:
        columns["group"] = [example.group for example in examples]
    if recipe.target == "number":
        columns["prediction"] = predictions
    for index, name in enumerate(recipe.labels):
        columns[f"probability_{name}"] = split_by_example(recipe, examples, predictions[:, index])
    write_parquet(path, pa.table(columns))


def split_by_example(recipe: Recipe, examples: Sequence[Example], predictions: Array) -> Sequence[Array]:
    """The predictions of each example: those of its residues, or its own."""
    if recipe.target != "residues":
        return list(predictions)
    ends = np.cumsum([len(example.heavy) + len(example.light) for example in examples])
    return np.split(predictions, ends[:-1])


def _with_names(label: Any, recipe: Recipe) -> Any:
    if recipe.target == "number":
        return label
    if recipe.target == "classes":
        return recipe.labels[label]
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
    per_example = split_by_example(recipe, examples, predictions)
    # Settings that tell this cross-validation from another one of the same task.
    details: dict[str, Detail] = {
        "recipe": recipe.name,
        "method": recipe.method,
        **({"features": recipe.features} if recipe.method == "probe" else {"pooling": recipe.pooling}),
        "folds": recipe.folds,
        "fold_scheme": recipe.fold_scheme,
        "fold": fold,
    }
    values = measure(recipe.target, [example.label for example in examples], per_example, recipe.labels)
    return [
        Result(
            model=base.name,
            task=recipe.name,
            metric=metric,
            value=value,
            num_items=len(predictions),
            dataset=dataset,
            split="test",
            checkpoint=base.digest,
            source=f"curr-ab finetune {recipe.name} --method {recipe.method}",
            code_version=__version__,
            details=details,
        )
        for metric, value in values.items()
    ]


def mean_results(results: Sequence[Result]) -> list[Result]:
    """Mean and standard error over the folds of every metric."""
    means = []
    for metric in dict.fromkeys(row.metric for row in results):
        rows = [row for row in results if row.metric == metric]
        value, error = mean_and_standard_error([row.value for row in rows])
        details = {key: detail for key, detail in rows[0].details.items() if key != "fold"}
        num_items = sum(row.num_items for row in rows)
        means.append(
            replace(rows[0], value=value, standard_error=error, num_items=num_items, details=details)
        )
    return means
