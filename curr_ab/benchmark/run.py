"""`run_benchmark`: every model on every task, from where the folder stands; one that fails loses no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curr_ab.benchmark.cards import write_cards
from curr_ab.benchmark.comparison import Standing, stand, write_tables
from curr_ab.benchmark.finetuned import Finetuned, is_finetuning
from curr_ab.benchmark.folder import (
    BENCHMARK,
    FAILED,
    RESULTS,
    SHARED,
    Measurement,
    file_name,
    is_measured,
    read_entries,
    write_entry,
    write_task,
)
from curr_ab.benchmark.measurement import measure
from curr_ab.benchmark.peers.baselines import PREFIX as BASELINE_PREFIX
from curr_ab.benchmark.peers.find import find_peer
from curr_ab.benchmark.peers.peer import Peer
from curr_ab.benchmark.plan import BenchmarkPlan, Suite
from curr_ab.benchmark.predictions import Predictions, gene_pairs, guess
from curr_ab.benchmark.submitted import PREFIX as SUBMITTED_PREFIX
from curr_ab.benchmark.submitted import Submitted, find_submission
from curr_ab.benchmark.tasks.task import Kind, Task
from curr_ab.benchmark.works import Work, make_works
from curr_ab.files import claimed, file_digest, remove_leftovers, write_json
from curr_ab.probes.residue_windows import RESIDUE_WINDOWS
from curr_ab.probes.sequence_features import BASELINES as SEQUENCE_FEATURES
from curr_ab.results import read_results, write_results
from curr_ab.workers import Workers

Say = Callable[[str], None]
# Baselines that need the labels of the training parts and no features, and what they look at.
_OF_TASKS = {
    f"{BASELINE_PREFIX}guess": (guess, "nothing: the shares of the classes, or the mean"),
    f"{BASELINE_PREFIX}gene-pairs": (gene_pairs, "the V genes of both chains together"),
}
# What says something of a task without a model, by its kind.
BASELINES: dict[Kind, tuple[str, ...]] = {
    "classes": ("guess", *SEQUENCE_FEATURES),
    "number": ("guess", *SEQUENCE_FEATURES),
    "pairing": ("guess", "gene-pairs", *SEQUENCE_FEATURES),
    "residues": ("guess", RESIDUE_WINDOWS),
    "ranking": ("one-hot", "positions", "germline-distance"),
    "loss": ("positions",),
}
_AFTER_A_KILL = "run the same command again, it goes on; or fewer processes with --jobs"
_BASELINES = {kind for kinds in BASELINES.values() for kind in kinds}


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
    suite: Suite


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
    works = [work for request in suite.tasks for work in make_works(request, plan, names)]
    _check_names(works)
    with claimed(out, "measures in"):
        remove_leftovers(out)
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
    return Benchmark(out, tuple(work.task for work in works), tuple(standings), tuple(failures), plan, suite)


def _check_names(works: Sequence[Work]) -> None:
    """Refuse two tasks of one folder: the later one would take the place of the other."""
    names = [work.task.name for work in works]
    folders = [file_name(name) for name in names]
    if twice := [name for name, folder in zip(names, folders, strict=True) if folders.count(folder) > 1]:
        raise ValueError(
            f"tasks of a suite must have names of their own; got {twice[0]} {len(twice)} times; rename a "
            "file, or measure one of them in another folder"
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
    with Workers(min(plan.jobs, len(orders) or 1), after_a_kill=_AFTER_A_KILL) as workers:
        try:
            for place, (lines, failed) in workers.completed(_measure_model, orders):
                failures[place] = failed
                for line in lines:
                    say(line)
                say(f"{names[place]}: done ({len(failures)} of {len(orders)})")
        except ChildProcessError as error:  # with the worker goes the pool, but nothing that is written
            for place in set(range(len(orders))) - failures.keys():
                asked = [work for work in works if _applies(names[place], work.task)]
                failures[place] = [Failure(names[place], work.task.name, str(error)) for work in asked]
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
    peer: Peer | Finetuned | Submitted | None = None
    for work in order.works:
        if not _applies(order.model, work.task):
            continue
        try:
            if peer is None and order.model not in _OF_TASKS:
                peer = _find(order)
            lines.append(_measure_one(order, work, peer))
        except Exception as error:
            reason = " ".join(f"{error}".split()) or type(error).__name__
            failed.append(Failure(order.model, work.task.name, reason))
            lines.append(f"{work.task.name}: {order.model} failed: {reason}")
    return lines, failed


def _applies(model: str, task: Task) -> bool:
    """False of a baseline that has nothing to say of this kind of task."""
    kind = model.removeprefix(BASELINE_PREFIX)
    return kind == model or kind not in _BASELINES or kind in BASELINES[task.kind]


def _find(order: _Order) -> Peer | Finetuned | Submitted:
    if order.model.startswith(SUBMITTED_PREFIX):
        return find_submission(order.model)
    if is_finetuning(order.model):
        return Finetuned(Path(order.model))
    return find_peer(order.model, **_peer_options(order.plan))


def _predictions(order: _Order, work: Work, peer: Peer | Finetuned | Submitted | None) -> Predictions:
    if peer is None:
        return _OF_TASKS[order.model][0](work.task)
    if isinstance(peer, Finetuned | Submitted):
        return peer.predictions(work.task)
    return measure(work.task, peer, order.plan, work.seed)


def _measure_one(order: _Order, work: Work, peer: Peer | Finetuned | Submitted | None) -> str:
    task = work.task
    measurement = _measurement(order, work, peer)
    if is_measured(order.out, measurement):
        return f"{task.name}: {measurement.model} is measured already"
    predictions = _predictions(order, work, peer)
    write_entry(order.out, task, measurement, predictions, dataset=work.dataset, source=work.source)
    return f"{task.name}: {measurement.model} measured"


def _measurement(order: _Order, work: Work, peer: Peer | Finetuned | Submitted | None) -> Measurement:
    settings = _settings(work, order.plan)
    is_baseline = order.model.startswith(BASELINE_PREFIX)
    return Measurement(
        task=work.task.name,
        data=work.task.fingerprint,
        model=order.model if peer is None else peer.name,
        digest="0" * 64 if peer is None else peer.digest,
        form=_OF_TASKS[order.model][1] if peer is None else peer.form,
        is_baseline=is_baseline,
        settings=_shared(settings) if is_baseline or isinstance(peer, Finetuned | Submitted) else settings,
    )


def _settings(work: Work, plan: BenchmarkPlan) -> dict[str, Any]:
    folds = {} if work.task.folds is None else {"folds": len(work.task.folds)}
    settings = {**plan.settings, **folds, "seed": work.seed}
    return dict(json.loads(json.dumps(settings)))


def _shared(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the task, without those that say how a model is loaded and reads its input."""
    return {name: value for name, value in settings.items() if name in SHARED}


def _peer_options(plan: BenchmarkPlan) -> dict[str, Any]:
    return {name: getattr(plan.peer, name) for name in plan.peer.__dataclass_fields__}


def _standing(work: Work, plan: BenchmarkPlan, out: Path) -> Standing:
    shared = _shared(_settings(work, plan))
    entries = read_entries(out, work.task.name, work.task.fingerprint, shared)
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
