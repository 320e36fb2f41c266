"""Columns of `curr-ab predict`: predictions with their intervals, sets, and distances to the training set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.finetuning.uncertainty import Uncertainties, Uncertainty
from curr_ab.inference.records import Record
from curr_ab.words import Target

Array = npt.NDArray[np.float32]
Columns = dict[str, Any]
BETWEEN = " | "  # names of a set, which CSV cannot hold as a list


def number_columns(predictions: Array, sure: Uncertainty | None, level: float) -> Columns:
    """Numbers [pairs] and, with an uncertainty, their intervals at the level."""
    columns: Columns = {"prediction": pa.array(predictions)}
    if sure is not None:
        reach = np.float32(sure.reach_at(level))
        columns |= {"low": pa.array(predictions - reach), "high": pa.array(predictions + reach)}
    return columns


def class_columns(
    names: Sequence[str], probabilities: Array, sure: Uncertainty | None, level: float
) -> Columns:
    """The most probable class of each item, the probabilities and, with an uncertainty, the set of classes.

    Calibration changes the probabilities and never which class is the most probable.
    """
    best = [names[number] for number in probabilities.argmax(axis=1)]
    columns: Columns = {"prediction": pa.array(best, pa.string())}
    shown = probabilities.astype(np.float64)
    if sure is not None:
        shown = sure.calibrated(shown)
    for number, name in enumerate(names):
        columns[f"probability_{name}"] = pa.array(shown[:, number].astype(np.float32))
    if sure is not None:
        sets = [
            BETWEEN.join(name for name, is_inside in zip(names, row, strict=True) if is_inside)
            for row in sure.sets(shown, level)
        ]
        columns["set"] = pa.array(sets, pa.string())
    return columns


def several_columns(
    names: Sequence[str],
    predictions: Array,
    target: Target,
    sure: Uncertainties | None,
    level: float,
) -> Columns:
    """Numbers or probabilities of the second class [pairs, columns], with the uncertainty of each."""
    columns: Columns = {}
    for name, values in zip(names, predictions.T, strict=True):
        own = None if sure is None else sure.columns[name]
        if target == "number":
            found = number_columns(values, own, level)
        elif own is None or sure is None:
            found = {"probability": pa.array(values)}
        else:
            both = class_columns(sure.labels, np.stack([1 - values, values], axis=1), own, level)
            found = {"probability": both[f"probability_{sure.labels[1]}"], "set": both["set"]}
        columns |= {f"{kind}_{name}": column for kind, column in found.items()}
    return columns


def nearness_columns(
    records: Sequence[Record], sure: Uncertainty | Uncertainties | None, counts: Sequence[int] | None
) -> Columns:
    """Distance of each record to the training set, where that was kept; `counts` are rows of each record."""
    if sure is None or sure.neighbours is None:
        return {}
    found = sure.neighbours.place([(record.heavy, record.light) for record in records])
    identities, percentiles, applicable = (
        one if counts is None else np.repeat(one, counts, axis=0) for one in found
    )
    return {
        "nearest_identity": pa.array(identities, from_pandas=True),  # none where no chain can be numbered
        "nearest_percentile": pa.array(percentiles, from_pandas=True),
        "applicable": pa.array(applicable),
    }
