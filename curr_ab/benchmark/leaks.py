"""Leaks: the same pair, a near-identical one or a group on both sides of a fold, refused by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curr_ab.benchmark.tasks.folds import check_leaks, find_leaks
from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.benchmark.tasks.task import Fold, Pair, Task

NEAR = 2  # residues of a whole pair: reads of one clone differ by so many
_MOST_OF_A_KIND = 2_000  # of one part: libraries of one antibody's mutants are no clones of each other


def guarded(task: Task, options: TaskOptions) -> Task:
    """The task with the leaks that its user keeps; an error that names them where they are refused."""
    # Pairs that are ranked are mutants of one antibody, and its owner's leaks are marked already.
    if task.folds is None or task.leaks or task.kind == "ranking":
        return task
    found = find_leaks(task.ids, task.pairs, task.groups, task.folds)
    found += near_leaks(task.ids, task.pairs, task.folds)
    return replace(task, leaks=check_leaks(task.name, found, options))


def near_leaks(ids: Sequence[str], pairs: Sequence[Pair], folds: Sequence[Fold]) -> list[str]:
    """Pairs of training and test part that differ by one or two residues, once each, with their names."""
    side = np.full(len(pairs), -1)  # of a single fold the training part is in no test part
    for number, (_, test) in enumerate(folds):
        side[test] = number
    leaks: dict[str, None] = {}
    for rows in _alike(pairs):
        letters = np.array([list(_text(pairs[row]).encode()) for row in rows], np.uint8)
        for place, own in enumerate(letters[:-1]):
            others = np.flatnonzero((letters[place + 1 :] != own).sum(axis=1) <= NEAR) + place + 1
            for other in others:
                one, two = sorted((rows[place], rows[other]))
                if side[one] != side[two] and pairs[one] != pairs[two]:
                    leaks[f"{ids[one]} and {ids[two]} ({NEAR} or fewer residues differ)"] = None
    return list(leaks)


def _alike(pairs: Sequence[Pair]) -> list[list[int]]:
    """Rows of pairs of equal lengths that share one of three parts; near ones share a part at least."""
    found: dict[tuple[int, int, int, str], list[int]] = {}
    for row, pair in enumerate(pairs):
        text = _text(pair)
        ends = [round(len(text) * part / (NEAR + 1)) for part in range(NEAR + 2)]
        for part in range(NEAR + 1):
            key = (len(pair[0] or ""), len(pair[1] or ""), part, text[ends[part] : ends[part + 1]])
            found.setdefault(key, []).append(row)
    return [rows for rows in found.values() if 1 < len(rows) <= _MOST_OF_A_KIND]


def _text(pair: Pair) -> str:
    return (pair[0] or "") + (pair[1] or "")
