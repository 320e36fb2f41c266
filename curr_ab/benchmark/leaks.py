"""Leaks: the same pair, a near-identical one or a group on both sides of a fold, refused by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curr_ab.benchmark.near_pairs import NEAR, near_pairs
from curr_ab.benchmark.tasks.folds import check_leaks, find_leaks
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.task import Fold, Pair, Task


def guarded(task: Task, options: TaskOptions) -> Task:
    """The task with the leaks that its user keeps; an error that names them where they are refused."""
    # Pairs that are ranked are mutants of one antibody, and its owner's leaks are marked already.
    if task.folds is None or task.leaks or task.kind == "ranking":
        return task
    found = find_leaks(task.ids, task.pairs, task.groups, task.folds)
    near = near_leaks(task.ids, task.pairs, task.folds)
    if (
        options.group_by == "source"
    ):  # studies hold relatives of each other's antibodies, which is no fault of folds
        return replace(task, leaks=(*check_leaks(task.name, found, options), *near))
    return replace(task, leaks=check_leaks(task.name, [*found, *near], options))


def near_leaks(ids: Sequence[str], pairs: Sequence[Pair], folds: Sequence[Fold]) -> list[str]:
    """Pairs of training and test part that differ by one or two residues, once each, with their names."""
    side = np.full(len(pairs), -1)  # of a single fold the training part is in no test part
    for number, (_, test) in enumerate(folds):
        side[test] = number
    return [
        f"{ids[one]} and {ids[two]} ({NEAR} or fewer residues differ)"
        for one, two in near_pairs(pairs)
        if side[one] != side[two]
    ]
