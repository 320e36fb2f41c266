"""The table of runs out of results files: what `curr-ab evaluate loss` measured, and of which training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curr_ab.results import Result, read_results
from curr_ab.scaling.runs import Runs, make_runs

_QUANTITIES = ("parameters", "sequences", "unique_tokens", "seen_tokens", "flops")


def read_measured_runs(paths: Sequence[str | Path], task: str | None = None) -> Runs:
    """A row for each training, at its last measured step; `task` chooses where there are several losses."""
    source = ", ".join(map(str, paths))
    rows = {row.identity: row for path in paths for row in read_results(path) if _is_loss(row)}
    tasks = sorted({row.task for row in rows.values()})
    if not tasks:
        raise ValueError(f"{source}: no overall loss; measure one with `curr-ab evaluate loss`")
    if task is None and len(tasks) > 1:
        raise ValueError(f"{source}: there are {' and '.join(tasks)}; choose one (--task)")
    chosen = [row for row in rows.values() if row.task == (task or tasks[0])]
    if not chosen:
        raise ValueError(f"{source}: no {task}; there are {', '.join(tasks)}")
    conditions = {_conditions(row) for row in chosen}
    if len(conditions) > 1:
        raise ValueError(
            f"{source}: losses on {' and on '.join(sorted(conditions))} do not compare; "
            "fit one of them, out of a folder of its own"
        )
    last: dict[tuple[object, ...], Result] = {}
    for row in sorted(chosen, key=lambda row: row.step or 0):
        if "sequences" not in row.details:
            raise ValueError(
                f"{source}: nothing is recorded of the training of {row.model} (no training.json); "
                "measure it into another folder"
            )
        last[row.model, row.details["parameters"], row.details["sequences"], row.details["training_seed"]] = (
            row
        )
    return make_runs((_run(row) for row in last.values()), source)


def _is_loss(row: Result) -> bool:
    return row.metric == "loss" and row.task.endswith("-loss") and row.details.get("place") == "all"


def _conditions(row: Result) -> str:
    """Data, masks and settings: everything that is told of the loss but its model and its training."""
    of_model = (*_QUANTITIES, "place", "objective", "training_seed")
    told = [
        f"{key.replace('_', ' ')} {row.details[key]}" for key in sorted(row.details) if key not in of_model
    ]
    return ", ".join([row.dataset, *told])


def _run(row: Result) -> dict[str, str | float]:
    found: dict[str, str | float] = {name: float(row.details[name]) for name in _QUANTITIES}
    return found | {
        "loss": row.value,
        "objective": str(row.details["objective"]),
        "seed": str(row.details["training_seed"]),
    }
