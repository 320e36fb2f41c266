"""The folder of a benchmark: a place for each task and model, with what was measured and its scores."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from curr_ab.benchmark.predictions import LABELLED, Predictions, fold_of, write_predictions
from curr_ab.benchmark.scores import Scores, score_predictions
from curr_ab.benchmark.statistics import Estimate, Interval, interval_of
from curr_ab.benchmark.tasks.task import Task
from curr_ab.files import read_object, replacing, write_json
from curr_ab.formulas import guard_row
from curr_ab.results import Result, write_results

BENCHMARK, FAILED = "benchmark.json", "failed.json"
MEASUREMENT, SCORES, RESULTS = "measurement.json", "scores.json", "results.json"
TASK, TASK_TABLE, TABLE, COMPARISONS = "task.json", "task.csv", "table.csv", "comparisons.csv"

# Settings that all models of a task share, and those in which one may stand beside itself.
SHARED = ("pairs", "shots", "repeats", "folds", "seed")
OWN = ("form", "mode", "dtype", "separator")
_COLUMNS = ("id", "heavy", "light", "label", "fold")  # of a task's table


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """All that decides the numbers of one model on one task; equal measurements give equal results."""

    task: str
    data: str  # fingerprint
    model: str
    digest: str
    form: str  # in which the model reads a pair, in words
    is_baseline: bool
    settings: Mapping[str, Any]  # as JSON has them

    @property
    def key(self) -> str:
        """One name for all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def folder(self, out: Path) -> Path:
        """Its place in the benchmark's folder."""
        return task_folder(out, self.task) / f"{file_name(self.model)}-{self.key[:8]}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model's measured score of one task, read from its folder."""

    name: str  # the model's, with its digest where another model of the task has the same
    folder: Path
    measurement: Measurement
    metric: str
    interval: Interval
    found: Estimate
    others: Mapping[str, float]
    num_items: int
    units: str
    by_fold: bool
    notes: tuple[str, ...]


def task_folder(out: Path, task: str) -> Path:
    """Folder of all models of a task."""
    return out / file_name(task)


def file_name(text: str) -> str:
    """The text with nothing in it that a file name must not have."""
    return "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in text)


def write_entry(
    out: Path, task: Task, measurement: Measurement, predictions: Predictions, *, dataset: str, source: str
) -> None:
    """Keep predictions, scores and results of a model; the results come last and say that all is there."""
    folder = measurement.folder(out)
    scores = score_predictions(task, predictions)
    interval = interval_of(scores.found, scores.metric)
    write_json(folder / MEASUREMENT, {**asdict(measurement), "key": measurement.key})
    write_predictions(folder, task, predictions)
    write_json(
        folder / SCORES,
        {
            "metric": scores.metric,
            "interval": asdict(interval),
            "without": scores.found.without.tolist(),
            "strata": scores.found.strata.tolist(),
            "values": scores.found.values.tolist(),
            "spread": scores.found.spread,
            "others": {**scores.others, **dict(predictions.further)},
            "num_items": scores.num_items,
            "units": scores.units,
            "by_fold": scores.by_fold,
            "notes": list(predictions.notes),
        },
    )
    rows = _results(measurement, scores, predictions, interval, dataset, source, _split(task))
    write_results(folder / RESULTS, rows)


def _split(task: Task) -> str:
    """The part of the data that the numbers are of, in a word."""
    if task.folds is None or task.kind not in LABELLED:
        return "all"
    return "test" if len(task.folds) == 1 else "out-of-fold"


def _reading(measurement: Measurement) -> dict[str, str]:
    """How the model was asked to read its input, as details of a result."""
    own = {name: measurement.settings.get(name) for name in OWN}
    return {"form_option" if name == "form" else name: str(value) for name, value in own.items() if value}


def _results(
    measurement: Measurement,
    scores: Scores,
    predictions: Predictions,
    interval: Interval,
    dataset: str,
    source: str,
    split: str,
) -> Iterator[Result]:
    values = {scores.metric: scores.found.value, **scores.others, **dict(predictions.further)}
    details = {"form": measurement.form, **_reading(measurement)}
    if predictions.is_probe:
        details["probe"] = "frozen features"
    for metric, value in values.items():
        yield Result(
            model=measurement.model,
            task=measurement.task,
            metric=metric.replace(" ", "-"),
            value=value,
            standard_error=interval.standard_error if metric == scores.metric else None,
            num_items=scores.num_items,
            dataset=dataset,
            split=split,
            checkpoint=measurement.digest,
            source=source,
            code_version=version("curr-ab"),
            details=details,
        )


def write_task(out: Path, task: Task) -> None:
    """What the task is and what must be said of its data, beside the folders of its models."""
    record = {
        name: getattr(task, name) for name in ("name", "title", "kind", "metric", "sign", "notes", "leaks")
    }
    groups = None if task.groups is None else len(set(task.groups))
    folds = [[part.tolist() for part in fold] for fold in task.folds or ()]
    size = {"pairs": len(task), "groups": groups, "folds": folds, "fingerprint": task.fingerprint}
    write_json(task_folder(out, task.name) / TASK, {**record, **size})
    if task.kind in LABELLED and task.kind != "residues":
        write_csv(task_folder(out, task.name) / TASK_TABLE, _COLUMNS, _rows(task))


def _rows(task: Task) -> Iterator[dict[str, Any]]:
    """Pairs with label and fold, for a fine-tuning by the very folds; fold 0 is in no test part."""
    for name, (heavy, light), label, fold in zip(
        task.ids, task.pairs, task.labels, fold_of(task), strict=True
    ):
        word = float(label) if task.kind == "number" else task.label_names[label]
        yield dict(zip(_COLUMNS, (name, heavy, light, word, fold + 1), strict=True))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A table with every digit."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(guard_row, rows))


def is_measured(out: Path, measurement: Measurement) -> bool:
    """True where the measurement is in its folder, whole."""
    folder = measurement.folder(out)
    return (folder / RESULTS).is_file() and read_measurement(folder) == measurement


def read_measurement(folder: Path) -> Measurement | None:
    """The record; None where it is missing or broken: then nobody knows what the folder holds."""
    try:
        content = read_object(folder / MEASUREMENT)
        return Measurement(**{name: content[name] for name in Measurement.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_entries(out: Path, task: str, data: str, settings: Mapping[str, Any]) -> list[Entry]:
    """All models that were measured on the very data of the task with these settings, by name.

    How each reads its input is its own matter: one model in two forms, or number types, stands twice.
    """
    found = []
    for path in sorted(task_folder(out, task).glob(f"*/{RESULTS}")):
        measurement = read_measurement(path.parent)
        if measurement and measurement.data == data and settings.items() <= measurement.settings.items():
            found.append((path.parent, measurement))
    names = _own_names([one for _, one in found])
    return [_read_entry(folder, one, name) for (folder, one), name in zip(found, names, strict=True)]


def _own_names(measurements: Sequence[Measurement]) -> list[str]:
    """The model's name; of several of one name with what tells them apart: weights, how it reads, or all."""
    names = [one.model for one in measurements]
    told = [[one.digest[:6] for one in measurements]]
    told += [[str(one.settings.get(name) or "") for one in measurements] for name in OWN]
    told += [[one.key[:6] for one in measurements]]
    for values in told:
        alike: dict[str, set[str]] = {}
        for name, value in zip(names, values, strict=True):
            alike.setdefault(name, set()).add(value)
        names = [
            f"{name} {value}".strip() if len(alike[name]) > 1 else name
            for name, value in zip(names, values, strict=True)
        ]
    return names


def _read_entry(folder: Path, measurement: Measurement, name: str) -> Entry:
    content = read_object(folder / SCORES)
    interval = Interval(**content["interval"])
    return Entry(
        name=name,
        folder=folder,
        measurement=measurement,
        metric=content["metric"],
        interval=interval,
        found=Estimate(
            interval.value,
            np.array(content["without"]),
            np.array(content["strata"]),
            np.array(content["values"]),
            content["spread"],
        ),
        others=content["others"],
        num_items=content["num_items"],
        units=content["units"],
        by_fold=content["by_fold"],
        notes=tuple(content["notes"]),
    )
