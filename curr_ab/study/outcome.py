"""The numbers that a study reads out of a cell's results."""

from __future__ import annotations

from collections.abc import Iterable

from curr_ab.results import Result

Estimate = tuple[float, float]  # value, standard error


def loss_by_place(results: Iterable[Result]) -> dict[str, Estimate]:
    """Loss of the suite `loss`: "all", then each region and segment."""
    return {
        str(row.details["place"]): (row.value, row.standard_error or 0.0)
        for row in results
        if row.metric == "loss" and row.task.endswith("-loss") and "place" in row.details
    }


def held_out_loss(results: Iterable[Result]) -> tuple[float | None, float | None]:
    """Loss of all held-out residues, and its standard error."""
    return loss_by_place(results).get("all", (None, None))


def pairing_accuracy(results: Iterable[Result]) -> Estimate | None:
    """Mean over the folds, and its standard error."""
    for row in results:
        # Rows with a fold, or with pairs of one mutation status, are parts of it.
        if (row.task, row.metric) == ("pairing", "accuracy") and not row.details.keys() & {"fold", "pairs"}:
            return row.value, row.standard_error or 0.0
    return None
