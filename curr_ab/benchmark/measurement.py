"""Measurement of one model on one task: every kind of task has its own way to ask a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from curr_ab.benchmark.peers.baselines import PREFIX as BASELINE_PREFIX
from curr_ab.benchmark.peers.peer import Peer
from curr_ab.benchmark.plan import BenchmarkPlan
from curr_ab.benchmark.predictions import Predictions
from curr_ab.benchmark.statistics import Rows
from curr_ab.benchmark.tasks.task import Task
from curr_ab.extras import needs_extra
from curr_ab.measures.metrics import Floats
from curr_ab.measures.modules.regression.core import spearman
from curr_ab.randomness import random_stream
from curr_ab.words import CHAIN_REGIONS, REGIONS, Target


def measure(task: Task, peer: Peer, plan: BenchmarkPlan, seed: int) -> Predictions:
    """The model's predictions of all pairs of the task."""
    with needs_extra("finetune"):
        import sklearn  # noqa: F401
    match task.kind:
        case "residues":
            return _by_residue(task, peer, seed)
        case "ranking":
            return _ranked(task, peer, plan, seed)
        case "loss":
            return _masked_loss(task, peer)
        case _:
            return _by_pair(task, peer.features(task.pairs), seed)


def _by_pair(task: Task, features: dict[str, Floats], seed: int) -> Predictions:
    """A regression on frozen features, fold by fold: features and strength by the training part alone."""
    from curr_ab.probes.regression import choose_regression

    assert task.folds is not None
    target: Target = "number" if task.kind == "number" else "classes"
    num_classes = len(task.label_names)
    values = np.zeros((len(task), num_classes) if num_classes else len(task))
    labels, chosen = np.asarray(task.labels), []
    for train, test in task.folds:
        choice = choose_regression(
            {name: found[train] for name, found in features.items()},
            labels[train],
            target=target,
            num_classes=num_classes,
            groups=[_group(task, row) for row in train],
            seed=seed,
        )
        values[test] = choice.regression.predict(features[choice.features][test])
        chosen.append(choice.features)
    notes = () if len(features) == 1 else (_counted(chosen),)
    return Predictions(values, notes, is_probe=True)


def _group(task: Task, row: int) -> str:
    return task.groups[row] if task.groups is not None else str(task.pairs[row])


def _counted(chosen: list[str]) -> str:
    counts = {name: chosen.count(name) for name in dict.fromkeys(chosen)}
    return "features " + ", ".join(
        f"{name} in {count} of {len(chosen)} folds" for name, count in counts.items()
    )


def _by_residue(task: Task, peer: Peer, seed: int) -> Predictions:
    """A regression on the states of single residues, whose strength folds of whole groups choose."""
    from curr_ab.probes.regression import fit_regression

    assert task.folds is not None
    features = peer.residue_features(task.pairs)
    for row, (found, labels) in enumerate(zip(features, task.labels, strict=True)):
        if len(found) != len(labels):
            raise ValueError(
                f"{task.name}, {task.ids[row]}: {peer.name} must answer for each of {len(labels)} residues; "
                f"got {len(found)}; shorten the chains, or leave the pair out"
            )
    values: list[Any] = [None] * len(task)
    for train, test in task.folds:
        regression = fit_regression(
            np.concatenate([features[row] for row in train]),
            np.concatenate([np.asarray(task.labels[row]) for row in train]),
            target="classes",
            num_classes=len(task.label_names),
            groups=[_group(task, row) for row in train for _ in task.labels[row]],
            seed=seed,
        )
        for row in test:
            values[row] = regression.predict(features[row])
    return Predictions(values, is_probe=True)


def _masked_loss(task: Task, peer: Peer) -> Predictions:
    """The loss of each pair on its residues, each masked alone, and that of all residues of a region."""
    if peer.name.startswith(BASELINE_PREFIX):  # it has a number for the whole pair alone
        return Predictions(-_finite(task, peer, peer.score(task.pairs)))
    losses = [-one for one in peer.log_likelihoods(task.pairs)]
    means = np.array([one[np.isfinite(one)].mean() if np.isfinite(one).any() else np.nan for one in losses])
    regions, values = (
        np.concatenate([_regions(task, row) for row in range(len(task))]),
        np.concatenate(losses),
    )
    further = []
    for place, name in enumerate(CHAIN_REGIONS):
        known = values[(regions == place) & ~np.isnan(values)]
        if len(known):
            further.append((f"loss of {name}", float(known.mean())))
    return Predictions(_finite(task, peer, means), further=tuple(further))


def _regions(task: Task, row: int) -> Rows:
    """The place of each residue's region in CHAIN_REGIONS; -1 where it is unknown."""
    codes = np.asarray(task.labels[row], np.int64)
    is_light = np.arange(len(codes)) >= len(task.pairs[row][0] or "")
    return np.where(codes > 0, codes - 1 + len(REGIONS) * is_light, -1)


def _ranked(task: Task, peer: Peer, plan: BenchmarkPlan, seed: int) -> Predictions:
    """The model's own scores, and correlations after it was shown a few measured pairs."""
    scores = _finite(task, peer, peer.score(task.pairs))
    features = {"score": scores[:, None], **peer.features(task.pairs)}
    further = []
    for shots in plan.shots:
        if shots <= len(task) // 2:  # the rest must be enough to correlate
            value = _few_shot(task, features, shots, plan.repeats, seed)
            further.append((f"spearman of {shots} shots", value))
    return Predictions(scores, further=tuple(further))


def _few_shot(task: Task, features: dict[str, Floats], shots: int, repeats: int, seed: int) -> float:
    """Mean Spearman's correlation over random training sets, the same for all models, on what is left."""
    from curr_ab.probes.regression import choose_regression

    labels = np.asarray(task.labels, float)
    found = []
    for repeat in range(repeats):
        order = random_stream(seed, f"benchmark {shots} shots", repeat).permutation(len(labels))
        train, rest = order[:shots], order[shots:]
        shown = {name: values[train] for name, values in features.items()}
        choice = choose_regression(shown, labels[train], target="number", seed=seed)
        predicted = choice.regression.predict(features[choice.features][rest])
        found.append(float(spearman(labels[rest], predicted)))
    return float(np.mean(found))


def _finite(task: Task, peer: Peer, scores: Floats) -> Floats:
    scores = np.asarray(scores, float)
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(
            f"{task.name}, {task.ids[row]}: the score by {peer.name} must be finite; got {scores[row]}; "
            "leave the pair out"
        )
    return scores
