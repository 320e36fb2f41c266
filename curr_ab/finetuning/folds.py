"""Training, validation and test parts that share no group, or the published parts by rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from curr_ab.finetuning.examples import Examples, Indices, family_numbers
from curr_ab.finetuning.label_counts import labels_by_task
from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import OptionError


@dataclass(frozen=True)
class Fold:
    """Indices of examples, in ascending order; validation is empty without early stopping."""

    number: int  # from 1
    train: Indices
    validation: Indices
    test: Indices


def split_folds(examples: Examples, recipe: Recipe) -> list[Fold]:
    """The recipe's folds; the same for the same examples, scheme and seed."""
    families = families_of(examples, recipe)
    labels = _classes(examples, recipe)
    everything = np.arange(len(examples))
    folds = []
    parts = itertools.islice(_parts(everything, labels, families, recipe.num_parts, recipe), recipe.folds)
    for number, (train, test) in enumerate(parts, start=1):
        _check_parts(examples, recipe, {"training": train, "test": test}, f"fold {number}")
        train, validation = _hold_out(examples, train, labels, families, recipe)
        folds.append(Fold(number, train, validation, test))
    return folds


def hold_out_validation(examples: Examples, recipe: Recipe) -> tuple[Indices, Indices]:
    """Training and validation part of all examples, for the fit on everything after the folds."""
    everything = np.arange(len(examples))
    return _hold_out(examples, everything, _classes(examples, recipe), families_of(examples, recipe), recipe)


def families_of(examples: Examples, recipe: Recipe) -> Indices | None:
    """Families of examples that no two parts share: a group, or groups that share a pair."""
    if recipe.fold_scheme == "rows":
        return None
    return family_numbers((item.group for item in examples), (item.chains for item in examples))


def _classes(examples: Examples, recipe: Recipe) -> Indices | None:
    """The classes that parts hold in equal shares; None for other targets."""
    if recipe.target != "classes" or recipe.label_columns:
        return None
    return np.array([example.label for example in examples])


def _parts(
    indices: Indices, labels: Indices | None, families: Indices | None, num_parts: int, recipe: Recipe
) -> Iterator[tuple[Indices, Indices]]:
    """`num_parts` ways to part these examples in two."""
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    own_labels = None if labels is None else labels[indices]
    groups = None if families is None else families[indices]
    if groups is not None and (num_groups := len(np.unique(groups))) < num_parts:
        raise OptionError(
            f"{recipe.group_by!r} has {num_groups} groups that share no pair, fewer than the "
            f"{num_parts} parts; take fewer folds, a finer column for group_by, or the fold_scheme rows",
            *("folds", "group_by", "fold_scheme"),
        )
    splitter: Any
    if groups is None:
        splitter = (KFold if own_labels is None else StratifiedKFold)(
            num_parts, shuffle=True, random_state=recipe.seed
        )
    elif own_labels is None:
        splitter = GroupKFold(num_parts)  # largest groups first: nothing to draw
    else:
        splitter = StratifiedGroupKFold(num_parts, shuffle=True, random_state=recipe.seed)
    for train, test in splitter.split(indices, own_labels, groups):
        yield indices[train], indices[test]


def _check_parts(examples: Examples, recipe: Recipe, parts: dict[str, Indices], where: str) -> None:
    """A part that lacks a class, or has only one number, teaches or measures nothing of it."""
    advice, fields = "take fewer folds or another seed", ["folds", "seed"]
    if recipe.group_by is not None:
        advice += ", a finer column for group_by, or the fold_scheme rows"
        fields += ["group_by", "fold_scheme"]
    for part, indices in parts.items():
        for column, labels in labels_by_task(examples.take(indices.tolist()), recipe).items():
            present = set(labels)
            place = f" in {column!r}" if recipe.label_columns else ""
            if recipe.target == "number" and len(present) < 2:
                raise OptionError(f"{where}: the {part} part has one number only{place}; {advice}", *fields)
            for index, name in enumerate(recipe.labels):
                if index not in present:
                    problem = f"the {part} part has no example of {name!r}{place}"
                    raise OptionError(f"{where}: {problem}; {advice}", *fields)


def _hold_out(
    examples: Examples, indices: Indices, labels: Indices | None, families: Indices | None, recipe: Recipe
) -> tuple[Indices, Indices]:
    """Training and validation part of these examples."""
    # Regressions have no epochs to stop between; of several columns `auto` chooses nothing else.
    only_regressions = recipe.method == "probe" or (recipe.method == "auto" and recipe.label_columns)
    if not recipe.early_stopping or only_regressions:
        return indices, indices[:0]
    num_parts = min(max(2, round(1 / recipe.validation_fraction)), len(indices))
    if families is not None:
        num_parts = min(num_parts, len(np.unique(families[indices])))
    if labels is not None:
        num_parts = min(num_parts, *np.unique(labels[indices], return_counts=True)[1].tolist())
    if num_parts < 2:  # a single group, or a class of one: the run says that its last epoch counts
        return indices, indices[:0]
    train, validation = next(_parts(indices, labels, families, num_parts, recipe))
    _check_parts(examples, recipe, {"training": train}, "with a part held out for early stopping")
    if not any(labels_by_task(examples.take(validation.tolist()), recipe).values()):
        labelled = {"number": "numbers that are no bounds", "residues": "labelled residues"}
        raise OptionError(
            f"the part held out for early_stopping must have {labelled.get(recipe.target, 'labels')}; it has "
            "none: set it to 0",
            "early_stopping",
        )
    return train, validation
