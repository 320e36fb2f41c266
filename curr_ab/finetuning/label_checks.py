"""Checks of what a recipe says of its labels: classes, columns, loss."""

from __future__ import annotations

from collections.abc import Sequence

from curr_ab.options import OptionError
from curr_ab.words import Target

# By target; the first is what a recipe without a loss takes.
LOSSES = {
    "classes": ("cross_entropy", "ordinal"),
    "residues": ("cross_entropy",),
    "number": ("mse", "huber", "ranking"),
}
_MOST_RESIDUE_LABELS = 10  # a label of a residue is one character


def check_classes(target: Target, labels: Sequence[str]) -> None:
    """Refuse names of classes that do not suit the target."""
    if target == "number":
        if labels:
            raise OptionError(f"labels must be none for the target number; got {', '.join(labels)}", "labels")
        return
    if len(labels) < 2:
        raise OptionError(
            f"labels must be at least two for the target {target}, such as [HD, CoV]; "
            f"got {', '.join(labels) or 'none'}",
            "labels",
        )
    if len({label.strip().casefold() for label in labels}) < len(labels):
        raise OptionError(f"labels must be different; got {', '.join(labels)}", "labels")
    if target == "residues" and len(labels) > _MOST_RESIDUE_LABELS:
        raise OptionError(
            f"labels must be at most {_MOST_RESIDUE_LABELS} for residues, whose label is one digit; "
            f"got {len(labels)}",
            "labels",
        )


def check_columns(target: Target, labels: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse several columns that cannot be learnt at once."""
    if not columns:
        return
    if target == "residues":
        raise OptionError(
            "label_columns must be none for residues, which have one label; name it as label_column",
            "label_columns",
        )
    if len(set(columns)) < max(2, len(columns)):
        raise OptionError(
            f"label_columns must be two or more different columns; got {', '.join(columns)}; a single one is "
            "the label_column",
            "label_columns",
        )
    if target == "classes" and len(labels) != 2:
        raise OptionError(
            f"labels must be two for several label_columns, such as [no, yes]; got {', '.join(labels)}",
            *("labels", "label_columns"),
        )


def check_loss(target: Target, labels: Sequence[str], loss: str | None) -> None:
    """Refuse a loss of another target."""
    if loss is not None and loss not in LOSSES[target]:
        raise OptionError(
            f"loss must be one of {', '.join(LOSSES[target])} for the target {target}; got {loss}",
            *("loss", "target"),
        )
    if loss == "ordinal" and len(labels) < 3:
        raise OptionError(
            "loss must be cross_entropy for two labels; got ordinal, whose order needs three", "loss"
        )
