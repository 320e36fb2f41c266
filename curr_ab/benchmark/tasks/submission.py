"""Submissions to the developability benchmark: others' predictions read, ours written, and its baseline."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curr_ab.benchmark.tasks.developability import ASSAYS, CHAIN_COLUMNS, FOLD, NAME
from curr_ab.benchmark.tasks.rows import Columns, read_rows
from curr_ab.benchmark.tasks.task import Task
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.files import replacing
from curr_ab.measures.metrics import Floats
from curr_ab.words import STANDARD_RESIDUES

ALIGNED = ("heavy_aligned_aho", "light_aligned_aho")


@dataclass(frozen=True)
class Antibodies:
    """Names, folds and features of the published baseline of all antibodies in a file, measured or not."""

    names: tuple[str, ...]
    folds: tuple[str | None, ...]
    chains: tuple[tuple[str, str], ...]  # as the file has them
    one_hot: Floats  # [antibodies, aligned positions x (residues and the gap)]


def read_antibodies(path: str | Path) -> Antibodies:
    """Every antibody of GDPa1, or of its held-out set, with the residues that its file has aligned."""
    columns = Columns(
        "GDPa1_v1.2_20250814.csv or heldout-set-sequences.csv",
        heavy=(CHAIN_COLUMNS[0],),
        light=(CHAIN_COLUMNS[1],),
        id=(NAME,),
        values=tuple((name,) for name in (*CHAIN_COLUMNS, *ALIGNED)),
        optional=(FOLD,),
    )
    rows, _ = read_rows(path, columns)
    letters = np.frombuffer(f"{STANDARD_RESIDUES}-".encode(), np.uint8)
    aligned = [("".join(row.values[name] or "" for name in ALIGNED), row) for row in rows]
    width = len(aligned[0][0])
    for text, row in aligned:
        if len(text) != width:
            raise row.malformed(
                f"aligned chains must have {width} positions, as in record 1; got {len(text)}"
            )
    codes = np.array([list(text.encode()) for text, _ in aligned], np.uint8)
    return Antibodies(
        tuple(row.id for row in rows),
        tuple(row.text(FOLD) if FOLD in row.values else None for row in rows),
        tuple((row.values[CHAIN_COLUMNS[0]] or "", row.values[CHAIN_COLUMNS[1]] or "") for row in rows),
        (codes[:, :, None] == letters).reshape(len(rows), -1).astype(np.float64),
    )


def published_baseline(task: Task, antibodies: Antibodies) -> dict[str, float]:
    """Predictions of the owners' one-hot ridge for every antibody, each by the fold that did not see it.

    Its settings, as its published predictions show them: residues and the gap as 21 letters by AHo position,
    a penalty of 1 on the weights and none on the constant.
    """
    assert task.folds is not None
    rows = {name: row for row, name in enumerate(antibodies.names)}
    of_task = np.array([rows[name] for name in task.ids])
    fold_of = {antibodies.folds[of_task[test[0]]]: number for number, (_, test) in enumerate(task.folds)}
    predictions = np.full(len(antibodies.names), np.nan)
    for fold, number in fold_of.items():
        train = task.folds[number][0]
        asked = np.array([own == fold for own in antibodies.folds])
        values = antibodies.one_hot[of_task[train]]
        predictions[asked] = _ridge(values, task.labels[train], antibodies.one_hot[asked])
    return dict(zip(antibodies.names, predictions.tolist(), strict=True))


def _ridge(values: Floats, labels: Floats, asked: Floats, penalty: float = 1.0) -> Floats:
    """Ridge regression with a constant, by the kernel of the examples, which are fewer than the features."""
    mean, constant = values.mean(axis=0), labels.mean()
    centred = values - mean
    kernel = centred @ centred.T + penalty * np.eye(len(values))
    weights = np.linalg.solve(kernel, labels - constant)
    return np.asarray((asked - mean) @ (centred.T @ weights) + constant)


def read_submission(path: str | Path, task: Task) -> Floats:
    """Other people's predictions of the task's antibodies, from a file in the form of the benchmark."""
    assay = task.name.removeprefix("developability-")
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    for column in (NAME, assay):
        if not table or column not in table[0]:
            problem = f"predictions must have the columns {NAME} and {assay}; there is no {column!r}; add it"
            raise MalformedSource(str(path), problem)
    texts = {row[NAME]: row[assay] for row in table}
    numbers = []
    for name in task.ids:
        try:
            number = float(texts.get(name) or "nan")
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            problem = f"{assay} of {name} must be a finite number; got {texts.get(name)!r}; complete the file"
            raise MalformedSource(str(path), problem)
        numbers.append(number)
    return np.array(numbers)


def write_submission(
    predictions: Mapping[str, Mapping[str, float]], antibodies: Antibodies, path: str | Path
) -> Path:
    """The file that the benchmark takes: predictions by assay and name, with the folds where there are any.

    Predictions of a cross-validation are of the fold that did not see the antibody; of the held-out set they
    are of a model fitted to all of GDPa1.
    """
    if unknown := sorted(predictions.keys() - ASSAYS.keys()):
        raise ValueError(f"assays must be among {', '.join(ASSAYS)}; got {unknown[0]!r}")
    assays = [assay for assay in ASSAYS if assay in predictions]
    if not assays:
        raise ValueError(f"a submission must have predictions of one of {', '.join(ASSAYS)}; got none")
    for assay in assays:
        own = predictions[assay]
        bad = [name for name in antibodies.names if not np.isfinite(own.get(name, np.nan))]
        if bad:
            raise ValueError(f"{assay}: each antibody must have a finite prediction; {bad[0]} has none")
    folded = antibodies.folds[0] is not None
    names = [NAME, *([FOLD] if folded else []), *CHAIN_COLUMNS, *assays]
    path = Path(path)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for name, fold, chains in zip(antibodies.names, antibodies.folds, antibodies.chains, strict=True):
            writer.writerow(
                [name, *([fold] if folded else []), *chains, *(predictions[one][name] for one in assays)]
            )
    return path
