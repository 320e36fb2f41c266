"""What a fold leaves: predictions of what its model had not seen, and the numbers measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab import __version__
from curr_ab.data.atomic import write_parquet
from curr_ab.evaluation.fold_statistics import mean_and_standard_error
from curr_ab.evaluation.measuring import measure
from curr_ab.finetuning.base_model import BaseModel
from curr_ab.finetuning.examples import Example
from curr_ab.finetuning.labels import UNKNOWN_RESIDUE
from curr_ab.finetuning.recipe import Recipe
from curr_ab.results import Detail, Result

Array = npt.NDArray[np.float64]


def write_predictions(path: Path, recipe: Recipe, examples: Sequence[Example], predictions: Array) -> None:
    """A row for each example: what is right, its group, and the probability of each class or the number.

    For residues, label and probabilities are lists over the residues of heavy and light.
    """
    columns: dict[str, Any] = {
        "id": [one.id for one in examples],
        "number": [one.number for one in examples],
        "label": [_shown(one.label, recipe) for one in examples],
    }
    if recipe.group_by is not None:
        columns["group"] = [one.group for one in examples]
    if recipe.target == "number":
        columns["prediction"] = predictions
    for place, name in enumerate(recipe.labels):
        columns[f"probability_{name}"] = split_by_example(recipe, examples, predictions[:, place])
    write_parquet(path, pa.table(columns))


def split_by_example(recipe: Recipe, examples: Sequence[Example], predictions: Array) -> Sequence[Array]:
    """The predictions of each example: those of its residues, or its own."""
    if recipe.target != "residues":
        return list(predictions)
    ends = np.cumsum([len(one.heavy) + len(one.light) for one in examples])
    return np.split(predictions, ends[:-1])


def _shown(label: Any, recipe: Recipe) -> Any:
    if recipe.target == "number":
        return label
    if recipe.target == "classes":
        return recipe.labels[label]
    return [None if one == UNKNOWN_RESIDUE else recipe.labels[one] for one in label]


def read_predictions(path: Path) -> dict[str, list[Any]]:
    """The columns that `write_predictions` wrote."""
    found: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return found


def fold_results(
    recipe: Recipe,
    base: BaseModel,
    dataset: str,
    fold: int,
    examples: Sequence[Example],
    predictions: Array,
) -> list[Result]:
    """All metrics of the recipe's target on the test part of a fold."""
    per_example = split_by_example(recipe, examples, predictions)
    values = measure(recipe.target, [one.label for one in examples], per_example, recipe.labels)
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
            details={**details_of(recipe), "fold": fold},
        )
        for metric, value in values.items()
    ]


def details_of(recipe: Recipe) -> dict[str, Detail]:
    """What tells this cross-validation from another one of the same task."""
    return {
        "recipe": recipe.name,
        "method": recipe.method,
        "pooling": recipe.pooling,
        "folds": recipe.folds,
        "fold_scheme": recipe.fold_scheme,
    }


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
