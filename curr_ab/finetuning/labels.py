"""The text of a label as what a recipe learns: a class, a number, or a class for each residue."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from curr_ab.finetuning.recipe import Recipe

Label = int | float | tuple[int, ...]
UNKNOWN_RESIDUE = -100  # what the cross entropy of torch leaves out
UNKNOWN_LETTER = "-"
_INTEGER = re.compile(r"(\d+)(\.0*)?")  # pandas writes 1.0 where a value of the column is missing


def label_columns(recipe: Recipe) -> tuple[str, ...]:
    """The columns that hold the labels: one, or one for each chain."""
    if recipe.target == "residues":
        return f"{recipe.label_column}_heavy", f"{recipe.label_column}_light"
    return (recipe.label_column,)


def read_label(recipe: Recipe, texts: Sequence[str | None], heavy: str, light: str) -> Label:
    """The label of one pair; the error names the column."""
    columns = label_columns(recipe)
    for column, text in zip(columns, texts, strict=True):
        if text is None or not text.strip():
            raise ValueError(f"column {column!r}: the label is missing; complete it or remove the record")
    found = [text.strip() for text in texts if text is not None]
    if recipe.target == "residues":
        chains = zip(columns, found, ("heavy", "light"), (heavy, light), strict=True)
        return tuple(label for one in chains for label in _residues(recipe, *one))
    if recipe.target == "number":
        return _number(columns[0], found[0])
    return _class(recipe, columns[0], found[0])


def is_place(labels: Sequence[str], text: str) -> bool:
    """Whether it is a place among the labels; where any of them is an integer, integers are names."""
    return _INTEGER.fullmatch(text.strip()) is not None and not any(map(_INTEGER.fullmatch, labels))


def _class(recipe: Recipe, column: str, text: str) -> int:
    labels = recipe.labels
    names = [label.strip().casefold() for label in labels]
    integer = _INTEGER.fullmatch(text)
    for name in (text.casefold(), integer and integer[1]):
        if name in names:
            return names.index(name)
    if integer is None or not is_place(labels, text):
        advice = "name those of your data in the order of the logits (--labels)"
        if recipe.negatives != "given":
            advice = "remove or rename a column that does not say which pairs are native"
        raise ValueError(f"column {column!r}: {text!r} is none of the labels {', '.join(labels)}; {advice}")
    if int(integer[1]) >= len(labels):
        places = ", ".join(f"{place} {label}" for place, label in enumerate(labels))
        raise ValueError(
            f"column {column!r}: {text} is beyond the recipe's {len(labels)} classes ({places}); "
            "name all classes of your data (--labels)"
        )
    return int(integer[1])


def _number(column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"column {column!r}: {text!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"column {column!r}: {text!r} is not a finite number; remove the record")
    return number


def _residues(recipe: Recipe, column: str, text: str, chain: str, residues: str) -> list[int]:
    digits = "".join(str(place) for place in range(len(recipe.labels)))
    if len(text) != len(residues):
        raise ValueError(
            f"column {column!r}: {len(text)} labels for the {len(residues)} residues of the {chain} chain; "
            f"write one character for each, {UNKNOWN_LETTER!r} where it is unknown"
        )
    if wrong := sorted(set(text) - set(digits + UNKNOWN_LETTER)):
        places = ", ".join(f"{place} {label}" for place, label in enumerate(recipe.labels))
        raise ValueError(
            f"column {column!r}: {wrong[0]!r} is no label; they are {places}, {UNKNOWN_LETTER} unknown"
        )
    return [UNKNOWN_RESIDUE if letter == UNKNOWN_LETTER else int(letter) for letter in text]
