"""Labels of all examples: numbers by column, counts by class, and what no folds can be made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from curr_ab.finetuning.labelled_pairs import Example
from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import OptionError
from curr_ab.words import CHAINS, UNKNOWN_LABEL

Numbers = npt.NDArray[np.float64]
_LARGEST_OFFSET = 1e4  # of numbers, in standard deviations: weights have seven digits
_RARE = 0.1  # a class with a smaller share than this makes accuracy say little


def number_table(items: Iterable[Example]) -> Numbers:
    """The numbers of the examples [examples, columns]; NaN where one is unknown."""
    rows = [item.label if isinstance(item.label, tuple) else (item.label,) for item in items]
    return np.array(rows, np.float64)


def label_table(items: Sequence[Example], recipe: Recipe) -> npt.NDArray[Any]:
    """Labels as regressions take them: [answers], or of several columns [examples, columns].

    A bound counts as the number that it is: a regression on features knows no other.
    """
    if recipe.target == "number":
        numbers = number_table(items)
        return numbers if recipe.label_columns else numbers[:, 0]
    if recipe.target == "residues":
        return np.concatenate([np.asarray(item.label, np.int64) for item in items])
    return np.array([item.label for item in items], np.int64)


def weight_table(items: Sequence[Example], recipe: Recipe) -> Numbers:
    """The weight of each answer."""
    counts = [item.num_residues if recipe.target == "residues" else 1 for item in items]
    return np.repeat(np.array([item.weight for item in items], np.float64), counts)


def bound_table(items: Sequence[Example], recipe: Recipe) -> npt.NDArray[np.int64]:
    """1 where the truth is above the number, -1 where it is below it, else 0 [examples, columns]."""
    none = (0,) * len(recipe.tasks)
    return np.array([item.bounds or none for item in items], np.int64).reshape(len(items), len(none))


def exact_table(items: Sequence[Example], recipe: Recipe) -> npt.NDArray[np.bool_] | None:
    """Which numbers are no bounds, in the form of `label_table`; None where none is one."""
    if not any(any(item.bounds) for item in items):
        return None
    exact: npt.NDArray[np.bool_] = bound_table(items, recipe) == 0
    return exact if recipe.label_columns else exact[:, 0]


def labels_by_task(items: Iterable[Example], recipe: Recipe) -> dict[str, list[int | float]]:
    """Known labels of each column; those of residues one after the other, and no bounds among numbers."""
    known: dict[str, list[int | float]] = {column: [] for column in recipe.tasks}
    unknown = (None,) if recipe.target == "number" else (UNKNOWN_LABEL,)
    for item in items:
        if recipe.target == "residues":
            assert isinstance(item.label, tuple)
            known[recipe.label_column] += [one for one in item.label if one not in unknown]  # type: ignore[misc]
            continue
        several = item.label if isinstance(item.label, tuple) else (item.label,)
        bounds = item.bounds or (0,) * len(several)
        for column, label, bound in zip(recipe.tasks, several, bounds, strict=True):
            if label not in unknown and not bound:
                assert label is not None
                known[column].append(label)
    return known


def check_examples(items: Sequence[Example], recipe: Recipe) -> None:
    """Refuse examples that no folds can be made of."""
    if len(items) < recipe.num_parts:
        raise ValueError(f"{len(items)} examples are fewer than the {recipe.num_parts} parts of the folds")
    for column, labels in labels_by_task(items, recipe).items():
        if recipe.target == "number":
            _check_numbers(column, labels)
        else:
            _check_classes(column, labels, recipe)


def _check_numbers(column: str, labels: Sequence[float]) -> None:
    numbers = np.array(labels, np.float64)
    if not labels:
        raise ValueError(f"the values of {column!r} must be numbers; all are bounds, or there is none")
    if len(set(labels)) == 1:
        raise ValueError(f"the values of {column!r} must differ; all are {labels[0]}")
    if abs(numbers.mean()) > _LARGEST_OFFSET * numbers.std():
        raise ValueError(
            f"column {column!r} is {numbers.mean():.10g} ± {numbers.std():.3g}: a model's "
            "weights cannot hold such numbers to that degree; subtract a constant"
        )


def _check_classes(column: str, labels: Sequence[int | float], recipe: Recipe) -> None:
    counts = Counter(labels)
    unit, fewest = ("residue", 1) if recipe.target == "residues" else ("example", recipe.num_parts)
    place = f" in {column!r}" if recipe.label_columns else ""
    if len(counts) == 1:
        (only,) = counts
        raise ValueError(
            f"every {unit}{place} is labelled {recipe.labels[int(only)]!r}; a class is learnt against another"
        )
    for index, name in enumerate(recipe.labels):
        if counts[index] == 0:
            raise OptionError(
                f"no {unit}{place} is labelled {name!r}; leave the class out of the labels or add examples",
                "labels",
            )
        if counts[index] < fewest:
            raise OptionError(
                f"{counts[index]} {unit}s labelled {name!r}{place} are fewer than the {fewest} parts of the "
                "folds; take fewer folds or add examples",
                "folds",
            )


def notes_on_labels(items: Sequence[Example], recipe: Recipe) -> Iterator[str]:
    """What the user should know of the labels: gaps, bounds, rare classes."""
    known = labels_by_task(items, recipe)
    bounds = bound_table(items, recipe)
    for number, column in enumerate(recipe.tasks):
        counts = Counter(known[column])
        num_bounds = int((bounds[:, number] != 0).sum())
        if recipe.label_columns:
            yield f"{column!r} is known of {len(known[column]) + num_bounds:,} of {len(items):,} examples"
        if num_bounds:
            meaning = "they count where a prediction is on their wrong side"
            if recipe.method in ("auto", "probe"):
                meaning = "a probe takes them for the numbers themselves"
            yield (
                f"{num_bounds:,} of {len(items):,} values of {column!r} are bounds: {meaning}, and metrics "
                "are of the others"
            )
        if recipe.target != "number" and min(counts.values()) < _RARE * len(known[column]):
            rarest = min(counts, key=lambda label: counts[label])
            yield (
                f"{recipe.labels[int(rarest)]!r} is {100 * counts[rarest] / len(known[column]):.1f} % of the "
                f"labels of {column!r}: mcc and aupr say more than accuracy"
            )
    if not recipe.unpaired:
        return
    kinds = Counter(" and ".join(name for name in CHAINS if getattr(item, name)) for item in items)
    yield "chains: " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
