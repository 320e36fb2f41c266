"""Training, validation and test parts that share no group, or the published parts by rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curr_ab.finetuning.examples import Examples, family_numbers
from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import OptionError
from curr_ab.words import UNKNOWN_LABEL

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Places of examples, in ascending order; validation is empty without early stopping."""

    number: int  # from 1
    train: Places
    validation: Places
    test: Places


def split_folds(examples: Examples, recipe: Recipe) -> list[Fold]:
    """The recipe's folds; the same for the same examples, scheme and seed."""
    families = _families(examples, recipe)
    labels = _labels(examples, recipe)
    everything = np.arange(len(examples))
    folds = []
    for number, (train, test) in enumerate(
        _parts(everything, labels, families, recipe.num_parts, recipe), start=1
    ):
        if number > recipe.folds:
            break
        _check_parts(examples, recipe, {"training": train, "test": test}, f"fold {number}")
        train, validation = _hold_out(examples, train, labels, families, recipe)
        folds.append(Fold(number, train, validation, test))
    return folds


def hold_out_validation(examples: Examples, recipe: Recipe) -> tuple[Places, Places]:
    """Training and validation part of all examples, for the fit on everything after the folds."""
    everything = np.arange(len(examples))
    return _hold_out(examples, everything, _labels(examples, recipe), _families(examples, recipe), recipe)


def _families(examples: Examples, recipe: Recipe) -> Places | None:
    """Families of examples that no two parts share: a group, or groups that share a pair."""
    if recipe.fold_scheme == "rows":
        return None
    return family_numbers((one.group for one in examples), ((one.heavy, one.light) for one in examples))


def _labels(examples: Examples, recipe: Recipe) -> Places | None:
    """The classes that parts hold in equal shares; None where there are none."""
    return np.array([one.label for one in examples]) if recipe.target == "classes" else None


def _parts(
    places: Places, labels: Places | None, families: Places | None, num_parts: int, recipe: Recipe
) -> Iterator[tuple[Places, Places]]:
    """`num_parts` ways to part these places in two."""
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    of_places = None if labels is None else labels[places]
    groups = None if families is None else families[places]
    if groups is not None and (num_groups := len(np.unique(groups))) < num_parts:
        raise OptionError(
            f"{recipe.group_by!r} has {num_groups} groups that share no pair, fewer than the "
            f"{num_parts} parts; take fewer folds, a finer column for group_by, or the fold_scheme rows",
            *("folds", "group_by", "fold_scheme"),
        )
    splitter: Any
    if groups is None:
        splitter = (KFold if of_places is None else StratifiedKFold)(
            num_parts, shuffle=True, random_state=recipe.seed
        )
    elif of_places is None:
        splitter = GroupKFold(num_parts)  # largest groups first: nothing to draw
    else:
        splitter = StratifiedGroupKFold(num_parts, shuffle=True, random_state=recipe.seed)
    for train, test in splitter.split(places, of_places, groups):
        yield places[train], places[test]


def _shown(examples: Examples, places: Places) -> set[float]:
    """The classes or numbers of a part."""
    values: set[float] = set()
    for one in examples.take(places.tolist()):
        values |= set(one.label) - {UNKNOWN_LABEL} if isinstance(one.label, tuple) else {one.label}
    return values


def _check_parts(examples: Examples, recipe: Recipe, parts: dict[str, Places], where: str) -> None:
    """A part that lacks a class, or has only one number, teaches or measures nothing of it."""
    advice, fields = "take fewer folds or another seed", ["folds", "seed"]
    if recipe.group_by is not None:
        advice += ", a finer column for group_by, or the fold_scheme rows"
        fields += ["group_by", "fold_scheme"]
    for part, places in parts.items():
        shown = _shown(examples, places)
        if recipe.target == "number":
            if len(shown) < 2:
                raise OptionError(f"{where}: the {part} part has one number only; {advice}", *fields)
            continue
        for index, name in enumerate(recipe.labels):
            if index not in shown:
                raise OptionError(f"{where}: the {part} part has no example of {name!r}; {advice}", *fields)


def _hold_out(
    examples: Examples, places: Places, labels: Places | None, families: Places | None, recipe: Recipe
) -> tuple[Places, Places]:
    """Training and validation part of these places."""
    if not recipe.early_stopping or recipe.method == "probe":  # a regression has no epochs to stop between
        return places, places[:0]
    num_parts = max(2, round(1 / recipe.validation_fraction))
    if families is not None:
        num_parts = min(num_parts, len(np.unique(families[places])))
    if labels is not None:
        num_parts = min(num_parts, *np.unique(labels[places], return_counts=True)[1].tolist())
    if num_parts < 2:
        raise OptionError(
            "the training part has too few groups, or examples of a class, to hold some out for "
            "early_stopping; set it to 0 or take fewer folds",
            *("early_stopping", "folds"),
        )
    train, validation = next(_parts(places, labels, families, num_parts, recipe))
    _check_parts(examples, recipe, {"training": train}, "with a part held out for early stopping")
    if not _shown(examples, validation):
        raise OptionError(
            "the part held out for early_stopping must have labelled residues; it has none: set it to 0",
            "early_stopping",
        )
    return train, validation
