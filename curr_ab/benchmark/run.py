"""`run_benchmark`: every model on every task, from where the folder stands; one that fails loses no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curr_ab.benchmark.cards import write_cards
from curr_ab.benchmark.comparison import Standing, stand, write_tables
from curr_ab.benchmark.finetuned import Finetuned, is_finetuning
from curr_ab.benchmark.folder import (
    BENCHMARK,
    FAILED,
    RESULTS,
    Measurement,
    is_measured,
    read_entries,
    write_entry,
    write_task,
)
from curr_ab.benchmark.leaks import guarded
from curr_ab.benchmark.measurement import measure
from curr_ab.benchmark.peers.baselines import PREFIX as BASELINE_PREFIX
from curr_ab.benchmark.peers.find import find_peer
from curr_ab.benchmark.peers.peer import Peer
from curr_ab.benchmark.plan import BenchmarkPlan, Suite, TaskRequest
from curr_ab.benchmark.predictions import LABELLED, Predictions, gene_pairs, guess
from curr_ab.benchmark.tasks.catalogue import TASKS, read_task
from curr_ab.benchmark.tasks.folds import grouped_folds
from curr_ab.benchmark.tasks.task import Fold, Kind, Task, TaskOptions
from curr_ab.files import claimed, file_digest, write_json
from curr_ab.randomness import random_stream
from curr_ab.results import read_results, write_results
from curr_ab.workers import Workers

Say = Callable[[str], None]
_HUB = "https://huggingface.co/datasets/"
# Baselines that need the labels of the training parts and no features, and what they look at.
_OF_TASKS = {
    f"{BASELINE_PREFIX}guess": (guess, "nothing: the shares of the classes, or the mean"),
    f"{BASELINE_PREFIX}gene-pairs": (gene_pairs, "the V genes of both chains together"),
}
_PAIR_BASELINES = ("v-gene", "cdr3", "k-mers", "one-hot", "positions", "germline-distance")
# What says something of a task without a model, by its kind.
BASELINES: dict[Kind, tuple[str, ...]] = {
    "classes": ("guess", *_PAIR_BASELINES),
    "number": ("guess", *_PAIR_BASELINES),
    "pairing": ("guess", "gene-pairs", *_PAIR_BASELINES),
    "residues": ("guess",),
    "ranking": ("positions", "germline-distance"),
    "loss": ("positions",),
}


@dataclass(frozen=True)
class Work:
    """One task of the benchmark as every process sees it."""

    task: Task
    seed: int
    dataset: str  # files and fingerprint, for results
    source: str  # the command


@dataclass(frozen=True)
class Failure:
    """A model that could not be measured on a task, and why, in one line."""

    model: str
    task: str
    reason: str


@dataclass(frozen=True)
class Benchmark:
    """What a run leaves: how the models of each task stand, and what failed."""

    folder: Path
    tasks: tuple[Task, ...]
    standings: tuple[Standing, ...]
    failures: tuple[Failure, ...]
    plan: BenchmarkPlan


def run_benchmark(
    suite: Suite,
    models: Sequence[str],
    out: str | Path,
    plan: BenchmarkPlan | None = None,
    *,
    say: Say = lambda line: None,
) -> Benchmark:
    """Measure what is not measured yet; the folder then has tables, results and pictures of everything."""
    plan, out = plan or BenchmarkPlan(), Path(out)
    names = list(dict.fromkeys([*models, *suite.models]))
    if not names and not plan.baselines:
        raise ValueError("models must name one or more; got none; name some, or leave the baselines in")
    works = [work for request in suite.tasks for work in _works(request, plan, names)]
    with claimed(out, "measures in"):
        _write_plan(out, suite, names, plan, works)
        for work in works:
            write_task(out, work.task)
        failures = _measure_all(works, names, plan, out, say)
        write_json(out / FAILED, [asdict(one) for one in failures])
        standings = [_standing(work, plan, out) for work in works]
        for standing in standings:
            write_tables(out, standing)
        rows = [r for one in standings for entry in one.entries for r in read_results(entry.folder / RESULTS)]
        write_results(out / RESULTS, rows)
        write_cards(out, standings, plan.peer.namespace)
    return Benchmark(out, tuple(work.task for work in works), tuple(standings), tuple(failures), plan)


def _works(request: TaskRequest, plan: BenchmarkPlan, models: Sequence[str]) -> Iterator[Work]:
    """The tasks of an entry of the suite, with folds and without leaks."""
    words = [
        f"curr-ab benchmark {request.task} --models {' '.join(models)}",
        f"--data {' '.join(request.data)}",
    ]
    for task in read_task(request.task, request.data, request.options):
        chosen = _drawn(task, plan.pairs, request.options.seed)
        ready = guarded(_folded(chosen, request.options), request.options)
        files = " ".join(Path(name).name for name in request.data)
        dataset = f"{_on_hub(request.task)}{files} {ready.fingerprint[:12]}"
        yield Work(ready, request.options.seed, dataset, " ".join(words))


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
    rows = np.sort(random_stream(seed, "benchmark pairs").permutation(len(task))[:pairs])
    place = np.full(len(task), -1, np.int64)
    place[rows] = np.arange(pairs)
    folds: list[Fold] = []
    for train, test in task.folds or ():
        parts = tuple(place[part][place[part] >= 0] for part in (train, test))
        folds += [(parts[0], parts[1])] if all(map(len, parts)) else []
    is_array = isinstance(task.labels, np.ndarray)
    return replace(
        task,
        pairs=tuple(task.pairs[row] for row in rows),
        ids=tuple(task.ids[row] for row in rows),
        labels=task.labels[rows] if is_array else tuple(task.labels[row] for row in rows),
        groups=None if task.groups is None else tuple(task.groups[row] for row in rows),
        folds=tuple(folds) or None,
        notes=(*task.notes, f"{pairs:,} of {len(task):,} pairs were drawn"),
    )


def _measure_all(
    works: Sequence[Work], models: Sequence[str], plan: BenchmarkPlan, out: Path, say: Say
) -> list[Failure]:
    """Each model on all tasks, so that it is loaded once; several models side by side."""
    kinds = dict.fromkeys(name for work in works for name in BASELINES[work.task.kind])
    baselines = (f"{BASELINE_PREFIX}{kind}" for kind in kinds if plan.baselines)
    names = list(dict.fromkeys([*baselines, *models]))
    orders = [_Order(name, tuple(works), plan, out) for name in names]
    failures: dict[int, list[Failure]] = {}
    with Workers(min(plan.jobs, len(orders) or 1)) as workers:
        for place, (lines, failed) in workers.completed(_measure_model, orders):
            failures[place] = failed
            for line in lines:
                say(line)
            say(f"{names[place]}: done ({len(failures)} of {len(orders)})")
    return [one for place in sorted(failures) for one in failures[place]]


@dataclass(frozen=True)
class _Order:
    model: str
    works: tuple[Work, ...]
    plan: BenchmarkPlan
    out: Path


def _measure_model(order: _Order) -> tuple[list[str], list[Failure]]:
    """Lines of what was done, and what failed; an error of any kind is one model's alone."""
    lines: list[str] = []
    failed: list[Failure] = []
    peer: Peer | Finetuned | None = None
    for work in order.works:
        kind = order.model.removeprefix(BASELINE_PREFIX)
        if (
            kind != order.model
            and kind not in BASELINES[work.task.kind]
            and kind in (*_PAIR_BASELINES, "guess", "gene-pairs")
        ):
            continue  # it has nothing to say of this kind of task
        try:
            if peer is None and order.model not in _OF_TASKS:
                peer = _find(order)
            lines.append(_measure_one(order, work, peer))
        except Exception as error:
            reason = " ".join(f"{error}".split()) or type(error).__name__
            failed.append(Failure(order.model, work.task.name, reason))
            lines.append(f"{work.task.name}: {order.model} failed: {reason}")
    return lines, failed


def _find(order: _Order) -> Peer | Finetuned:
    if is_finetuning(order.model):
        return Finetuned(Path(order.model))
    return find_peer(order.model, **_peer_options(order.plan))


def _predictions(order: _Order, work: Work, peer: Peer | Finetuned | None) -> Predictions:
    if peer is None:
        return _OF_TASKS[order.model][0](work.task)
    if isinstance(peer, Finetuned):
        return peer.predictions(work.task)
    return measure(work.task, peer, order.plan, work.seed)


def _measure_one(order: _Order, work: Work, peer: Peer | Finetuned | None) -> str:
    task = work.task
    measurement = _measurement(order, work, peer)
    if is_measured(order.out, measurement):
        return f"{task.name}: {measurement.model} is measured already"
    predictions = _predictions(order, work, peer)
    write_entry(order.out, task, measurement, predictions, dataset=work.dataset, source=work.source)
    return f"{task.name}: {measurement.model} measured"


def _measurement(order: _Order, work: Work, peer: Peer | Finetuned | None) -> Measurement:
    return Measurement(
        task=work.task.name,
        data=work.task.fingerprint,
        model=order.model if peer is None else peer.name,
        digest="0" * 64 if peer is None else peer.digest,
        form=_OF_TASKS[order.model][1] if peer is None else peer.form,
        is_baseline=order.model.startswith(BASELINE_PREFIX),
        settings=_settings(work, order.plan),
    )


def _settings(work: Work, plan: BenchmarkPlan) -> dict[str, Any]:
    folds = {} if work.task.folds is None else {"folds": len(work.task.folds)}
    settings = {**plan.settings, **folds, "seed": work.seed}
    return dict(json.loads(json.dumps(settings)))


def _peer_options(plan: BenchmarkPlan) -> dict[str, Any]:
    return {name: getattr(plan.peer, name) for name in plan.peer.__dataclass_fields__}


def _standing(work: Work, plan: BenchmarkPlan, out: Path) -> Standing:
    entries = read_entries(out, work.task.name, work.task.fingerprint, _settings(work, plan))
    return stand(work.task.name, entries, work.seed)


def _write_plan(
    out: Path, suite: Suite, models: Sequence[str], plan: BenchmarkPlan, works: Sequence[Work]
) -> None:
    files = {name: file_digest(name) for request in suite.tasks for name in request.data}
    write_json(
        out / BENCHMARK,
        {
            "models": list(models),
            "settings": plan.settings,
            "tasks": [{**asdict(one), "data": list(one.data)} for one in suite.tasks],
            "files": files,
            "fingerprints": {work.task.name: work.task.fingerprint for work in works},
        },
    )
