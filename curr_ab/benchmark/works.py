"""The tasks of a benchmark made ready: so many pairs, folds where they need some, and no leaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from curr_ab.benchmark.leaks import guarded
from curr_ab.benchmark.plan import BenchmarkPlan, TaskRequest
from curr_ab.benchmark.predictions import LABELLED, fold_of
from curr_ab.benchmark.scores import check_metric
from curr_ab.benchmark.tasks.catalogue import TASKS, read_task
from curr_ab.benchmark.tasks.folds import find_leaks, grouped_folds
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.task import Fold, Indices, Task
from curr_ab.options import OptionError, flag_words
from curr_ab.randomness import random_stream

_HUB = "https://huggingface.co/datasets/"


@dataclass(frozen=True)
class Work:
    """One task of the benchmark as every process sees it."""

    task: Task
    seed: int
    dataset: str  # files and fingerprint, for results
    source: str  # the command


def make_works(request: TaskRequest, plan: BenchmarkPlan, models: Sequence[str]) -> Iterator[Work]:
    """The tasks of an entry of the suite, with folds and without leaks."""
    source = _command(request, plan, models)
    for task in read_task(request.task, request.data, request.options):
        chosen = _drawn(task, plan.pairs, request.options.seed)
        ready = guarded(_folded(chosen, request.options), request.options)
        check_metric(ready)
        files = " ".join(Path(name).name for name in request.data)
        dataset = f"{_on_hub(request.task)}{files} {ready.fingerprint[:12]}"
        yield Work(ready, request.options.seed, dataset, source)


def _command(request: TaskRequest, plan: BenchmarkPlan, models: Sequence[str]) -> str:
    """The command that measures it again; files by their names, as folders differ from machine to machine."""
    options = (request.options, replace(plan, jobs=1), plan.peer)
    words = ["curr-ab benchmark", request.task]
    if models:
        words += ["--models", *(Path(name).name if Path(name).is_absolute() else name for name in models)]
    words += ["--data", *(Path(name).name for name in request.data)]
    return " ".join([*words, *(word for one in options for word in flag_words(one))])


def _on_hub(task: str) -> str:
    """The address of the task's data on the Hub, if they lie there: cards name them by it."""
    address = TASKS[task].address if task in TASKS else ""
    return f"hf://datasets/{address.removeprefix(_HUB)} " if address.startswith(_HUB) else ""


def _folded(task: Task, options: TaskOptions) -> Task:
    """The task with folds, where its kind needs some and its file brings none."""
    if task.kind not in LABELLED or task.folds is not None:
        return task
    groups = task.groups or tuple(map(str, task.pairs))
    labels = task.labels if task.kind != "residues" else [0] * len(task)
    return replace(task, folds=grouped_folds(groups, labels, options))


def _drawn(task: Task, pairs: int | None, seed: int) -> Task:
    """So many pairs of the task, drawn at random in their order, with what is left of its folds."""
    if pairs is None or pairs >= len(task):
        return task
    rows = _draw(task, pairs, seed)
    place = np.full(len(task), -1, np.int64)
    place[rows] = np.arange(pairs)
    folds: list[Fold] = []
    for train, test in task.folds or ():
        parts = tuple(place[part][place[part] >= 0] for part in (train, test))
        if not all(map(len, parts)):
            raise OptionError(
                f"pairs must leave each of the {len(task.folds or ())} folds of {task.name} some to train on "
                f"and to test; got {pairs}; take more",
                "pairs",
            )
        folds.append((parts[0], parts[1]))
    ids = tuple(task.ids[row] for row in rows)
    chosen = tuple(task.pairs[row] for row in rows)
    is_array = isinstance(task.labels, np.ndarray)
    return replace(
        task,
        pairs=chosen,
        ids=ids,
        labels=task.labels[rows] if is_array else tuple(task.labels[row] for row in rows),
        groups=None if task.groups is None else tuple(task.groups[row] for row in rows),
        folds=tuple(folds) or None,
        notes=(*task.notes, f"{pairs:,} of {len(task):,} pairs were drawn"),
        leaks=tuple(find_leaks(ids, chosen, None, folds)) if task.leaks else (),
    )


def _draw(task: Task, pairs: int, seed: int) -> Indices:
    """Two pairs of each class of each test part, so that each has a score, then of each its share."""
    order = random_stream(seed, "benchmark pairs").permutation(len(task))
    classes = task.labels if task.kind in ("classes", "pairing") else np.zeros(len(task), np.int64)
    cells = np.stack([fold_of(task), np.asarray(classes)], axis=1)[order]
    _, strata, sizes = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    strata = strata.reshape(-1)
    rank = np.empty(len(task), np.int64)
    for stratum, size in enumerate(sizes):
        rank[strata == stratum] = np.arange(size)
    key = np.where(rank < 2, -1.0, (rank + 0.5) / sizes[strata])
    return np.sort(order[np.argsort(key, kind="stable")[:pairs]])
