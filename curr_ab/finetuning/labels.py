"""Labels out of the cells of a table: classes, numbers with bounds and units, a class for each residue."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from curr_ab.finetuning.recipe import Recipe
from curr_ab.options import OptionError
from curr_ab.words import UNKNOWN_LABEL

# The index of a class; a number; a class for each residue of heavy and light, -100 unknown; or a class or
# number for each of `label_columns`, -100 or None unknown.
Label = int | float | tuple[int, ...] | tuple[float | None, ...]
UNKNOWN_LETTER = "-"
_UNKNOWN_WORDS = ("", "na", "n/a", "nan", "nd", "none", "null")
_INTEGER = re.compile(r"(\d+)(\.0*)?")  # pandas writes 1.0 where a value of the column is missing
# Neither digit nor sign begins a unit: 1,000 and 5-10 are no numbers.
_MEASUREMENT = re.compile(
    r"(?P<bound>[<>]=?|[≤≥])?\s*(?P<number>[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)\s*(?P<unit>[^\W\d]\S*|[%°]\S*)?"
)
_BOUNDS = {"<": -1, "≤": -1, ">": 1, "≥": 1}


class ReadLabel(NamedTuple):
    """The label of a record, and what stood around its numbers."""

    label: Label
    bounds: tuple[int, ...] = ()  # by column: 1 where the truth is above the number, -1 below; or none
    units: tuple[tuple[str, str], ...] = ()  # column and unit of each number


def label_columns(recipe: Recipe) -> tuple[str, ...]:
    """The columns that hold the labels: one, one for each chain, or one for each task."""
    if recipe.target == "residues":
        return f"{recipe.label_column}_heavy", f"{recipe.label_column}_light"
    return recipe.label_columns or (recipe.label_column,)


def label_of(label: Label, task: int) -> Any:
    """The label of one of several columns, or the only one."""
    return label[task] if isinstance(label, tuple) else label


def is_known(text: str | None, labels: Sequence[str] = ()) -> bool:
    """False for an empty cell, and for a word that stands for one unless it is a label."""
    word = "" if text is None else text.strip().casefold()
    return word not in _UNKNOWN_WORDS or word in (label.strip().casefold() for label in labels)


def read_label(recipe: Recipe, columns: Sequence[str], texts: Sequence[str | None]) -> ReadLabel:
    """The label of one record; the error names the column. Residues are read by `read_residues`."""
    if recipe.label_columns:
        texts = [text if is_known(text, recipe.labels) else None for text in texts]
    else:
        require(columns[0], texts[0])
    if recipe.target == "classes":
        classes = [
            UNKNOWN_LABEL if text is None else _class(recipe, column, text.strip())
            for column, text in zip(columns, texts, strict=True)
        ]
        return ReadLabel(tuple(classes) if recipe.label_columns else classes[0])
    read = [
        (None, 0, None) if text is None else _number(column, text.strip())
        for column, text in zip(columns, texts, strict=True)
    ]
    numbers, bounds, units = zip(*read, strict=True)
    return ReadLabel(
        numbers if recipe.label_columns else numbers[0],
        bounds if any(bounds) else (),
        tuple((column, unit) for column, unit in zip(columns, units, strict=True) if unit is not None),
    )


def require(column: str, text: str | None, what: str = "label") -> str:
    """The text of a cell that must hold something."""
    if text is None or not text.strip():
        raise ValueError(f"column {column!r}: the {what} is missing; complete it or remove the record")
    return text.strip()


def is_index(labels: Sequence[str], text: str) -> bool:
    """True for an index of the labels; where any label is an integer, integers are names."""
    return _INTEGER.fullmatch(text.strip()) is not None and not any(map(_INTEGER.fullmatch, labels))


def _class(recipe: Recipe, column: str, text: str) -> int:
    labels = recipe.labels
    names = [label.strip().casefold() for label in labels]
    integer = _INTEGER.fullmatch(text)
    for name in (text.casefold(), integer and integer[1]):
        if name in names:
            return names.index(name)
    if integer is None or not is_index(labels, text):
        advice = "name those of your data in the order of the logits"
        if recipe.negatives != "given":
            advice = "remove or rename a column that does not say which pairs are native"
        raise OptionError(
            f"column {column!r}: labels must be {', '.join(labels)}; got {text!r}: {advice}", "labels"
        )
    if int(integer[1]) >= len(labels):
        choices = ", ".join(f"{index} {label}" for index, label in enumerate(labels))
        raise OptionError(
            f"column {column!r}: {text} is beyond the recipe's {len(labels)} labels ({choices}); "
            "name all classes of your data",
            "labels",
        )
    return int(integer[1])


def read_number(column: str, text: str) -> float:
    """A finite number without a bound or a unit."""
    number, bound, unit = _number(column, text)
    if bound or unit:
        raise ValueError(f"column {column!r}: {text!r} must be a number; correct it or remove the record")
    return number


def _number(column: str, text: str) -> tuple[float, int, str]:
    """The number, its bound and its unit."""
    try:
        number, bound, unit = float(text), 0, ""
    except ValueError:
        match = _MEASUREMENT.fullmatch(text)
        if match is None:
            raise ValueError(
                f"column {column!r}: {text!r} must be a number; correct it or remove the record"
            ) from None
        number, unit = float(match["number"]), match["unit"] or ""
        bound = _BOUNDS[match["bound"][0]] if match["bound"] else 0
    if not math.isfinite(number):
        raise ValueError(f"column {column!r}: {text!r} is not a finite number; remove the record")
    return number, bound, unit


def residue_letters(column: str, text: str | None) -> list[str]:
    """The label of each residue as it stands there: a character of a text, or an item of a list."""
    text = require(column, text)
    if not text.startswith("["):
        return list(text)
    return [item.strip(" '\"") for item in text.strip("[]").split(",")]


def read_residues(
    recipe: Recipe, column: str, letters: Sequence[str], chain: str, residues: str
) -> list[int]:
    """The class of each residue of one chain: by index or name of its label, -100 where it is unknown."""
    if len(letters) != len(residues):
        raise ValueError(
            f"column {column!r}: {len(letters)} labels for the {len(residues)} residues of the {chain} "
            f"chain; write one character for each, {UNKNOWN_LETTER!r} where it is unknown"
        )
    codes = {str(index): index for index in range(len(recipe.labels))}
    if not any(map(_INTEGER.fullmatch, recipe.labels)):
        codes |= {label.strip().casefold(): index for index, label in enumerate(recipe.labels)}
    codes |= dict.fromkeys((UNKNOWN_LETTER, "", "none", "null"), UNKNOWN_LABEL)
    if wrong := sorted({letter for letter in letters if letter.casefold() not in codes}):
        choices = ", ".join(f"{index} {label}" for index, label in enumerate(recipe.labels))
        raise ValueError(
            f"column {column!r}: {wrong[0]!r} must be one of {choices}, {UNKNOWN_LETTER} unknown"
        )
    return [codes[letter.casefold()] for letter in letters]
