"""Submissions to the developability benchmark: others' predictions read, ours written, and its baseline."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from curr_ab.benchmark.tasks.developability import ASSAYS, CHAIN_COLUMNS, FOLD, NAME
from curr_ab.benchmark.tasks.rows import Columns, read_rows
from curr_ab.benchmark.tasks.task import Indices, Pair, Task
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.files import replacing
from curr_ab.measures.metrics import Flags, Floats
from curr_ab.probes.regression import choose_regression
from curr_ab.words import STANDARD_RESIDUES

ALIGNED = ("heavy_aligned_aho", "light_aligned_aho")


@dataclass(frozen=True, eq=False)
class Antibodies:
    """Names, folds and features of the published baseline of all antibodies in a file, measured or not."""

    names: tuple[str, ...]
    folds: tuple[str | None, ...]
    pairs: tuple[Pair, ...]  # variable domains, as models are asked
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
        tuple(row.pair for row in rows),
        tuple((row.values[CHAIN_COLUMNS[0]] or "", row.values[CHAIN_COLUMNS[1]] or "") for row in rows),
        (codes[:, :, None] == letters).reshape(len(rows), -1).astype(np.float64),
    )


def predict_assays(
    tasks: Sequence[Task],
    known: Antibodies,
    asked: Antibodies,
    features: Callable[[Sequence[Pair]], Mapping[str, Floats]],
    *,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Predictions of every antibody of `asked`, by assay and name, from regressions on its features.

    `known` are those of the file of the tasks. Where they are asked for themselves, each is predicted by the
    fold that did not see it, also where it is not measured; others by all of the task.
    """
    shown = features(known.pairs)
    wanted = shown if asked is known else features(asked.pairs)

    def fit(task: Task, train: Indices, rows: Indices, of_asked: Flags) -> Floats:
        choice = choose_regression(
            {name: values[rows] for name, values in shown.items()},
            task.labels[train],
            target="number",
            seed=seed,
        )
        return choice.regression.predict(wanted[choice.features][of_asked])

    return {_assay(task): _by_part(task, known, asked, partial(fit, task)) for task in tasks}


def published_baseline(task: Task, known: Antibodies, asked: Antibodies) -> dict[str, float]:
    """Predictions of the owners' one-hot ridge for every antibody, as `predict_assays` makes them.

    Its settings, as its published predictions show them: residues and the gap as 21 letters by AHo position,
    a penalty of 1 on the weights and none on the constant.
    """

    def fit(train: Indices, rows: Indices, of_asked: Flags) -> Floats:
        return _ridge(known.one_hot[rows], task.labels[train], asked.one_hot[of_asked])

    return _by_part(task, known, asked, fit)


def _assay(task: Task) -> str:
    return task.name.removeprefix("developability-")


def _by_part(
    task: Task, known: Antibodies, asked: Antibodies, fit: Callable[[Indices, Indices, Flags], Floats]
) -> dict[str, float]:
    """Predictions by name, of `fit` with the rows of a training part in the task and in `known`."""
    assert task.folds is not None
    rows = {name: row for row, name in enumerate(known.names)}
    of_known = np.array([rows[name] for name in task.ids])
    parts = [(np.arange(len(task)), np.ones(len(asked.names), bool))]
    if asked is known:
        own = np.array([str(fold) for fold in known.folds])
        parts = [(train, own == own[of_known[test[0]]]) for train, test in task.folds]
    predictions = np.full(len(asked.names), np.nan)
    for train, of_asked in parts:
        predictions[of_asked] = fit(train, of_known[train], of_asked)
    return dict(zip(asked.names, predictions.tolist(), strict=True))


def _ridge(values: Floats, labels: Floats, asked: Floats, penalty: float = 1.0) -> Floats:
    """Ridge regression with a constant, by the kernel of the examples, which are fewer than the features."""
    mean, constant = values.mean(axis=0), labels.mean()
    centred = values - mean
    kernel = centred @ centred.T + penalty * np.eye(len(values))
    weights = np.linalg.solve(kernel, labels - constant)
    return np.asarray((asked - mean) @ (centred.T @ weights) + constant)


def read_submission(path: str | Path, task: Task) -> Floats:
    """Other people's predictions of the task's antibodies, from a file in the form of the benchmark."""
    assay = _assay(task)
    if assay not in ASSAYS:
        raise ValueError(
            f"{path} must stand beside models of the task developability, whose form it has; got {task.name}"
        )
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        try:
            table = list(csv.DictReader(file))
        except csv.Error as error:
            raise MalformedSource(
                str(path), f"predictions must be whole CSV ({error}); complete it"
            ) from error
    for column in (NAME, assay):
        if not table or column not in table[0]:
            problem = f"predictions must have the columns {NAME} and {assay}; there is no {column!r}; add it"
            raise MalformedSource(str(path), problem)
    repeated = [name for name, count in Counter(row[NAME] for row in table).items() if count > 1]
    if repeated:
        problem = f"each antibody must stand once; got {repeated[0]} more than once; remove the other rows"
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
    if FOLD in table[0]:
        _check_folds(path, task, {row[NAME]: row[FOLD] for row in table})
    return np.array(numbers)


def _check_folds(path: str | Path, task: Task, folds: Mapping[str, str]) -> None:
    """Refuse predictions by other folds: their models have seen what the task holds out."""
    for train, test in task.folds or ():
        own = folds[task.ids[test[0]]]
        strays = [task.ids[row] for row in test if folds[task.ids[row]] != own]
        strays += [task.ids[row] for row in train if folds[task.ids[row]] == own]
        if strays:
            problem = f"{FOLD} of {strays[0]} must be that of the task's file; got {folds[strays[0]]!r}"
            raise MalformedSource(str(path), f"{problem}; predict by the folds of the file")


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
