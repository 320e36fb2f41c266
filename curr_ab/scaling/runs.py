"""Table of training runs, to which every law is fitted: its columns, its sources and its checks."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curr_ab.family import MEMBERS
from curr_ab.options import OptionError
from curr_ab.published import FIGURES
from curr_ab.quantities import parse_quantity
from curr_ab.results import Result, read_results

Array = npt.NDArray[np.float64]
COLUMNS: Mapping[str, str] = {
    "parameters": "parameters of the model",
    "loss": "final loss, in nats per token (always required)",
    "sequences": "different training sequences",
    "unique_tokens": "different training tokens",
    "seen_tokens": "tokens processed under `objective`, repetitions counted",
    "flops": "floating-point operations spent; 6 x parameters x seen_tokens where the column is absent",
    "clm_tokens": "tokens processed under CLM before `objective`; 0 for a run from scratch",
    "objective": "mlm or clm; one table holds one objective, except for the transfer law",
    "seed": "tells repeated runs of one cell apart; their scatter is the noise",
    "draw": "name of the set of sequences, where several of each number were drawn; it tells runs apart, too",
    "run": "name of a training curve, when the table has several checkpoints of a run",
}
# Other units of the loss, as people have it, and what makes nats of them.
LOSS_UNITS: Mapping[str, Callable[[float], float]] = {
    "perplexity": math.log,
    "bits": lambda bits: bits * math.log(2),
}
TEMPLATE = """\
parameters,loss,sequences,unique_tokens,seen_tokens,flops,clm_tokens,objective,seed,draw,run
8M,0.312,412182,98.9M,15.4B,7.39e17,0,mlm,1,,
35M,0.298,1648726,396M,15.4B,3.23e18,0,mlm,1,,
"""
_LABELS = ("objective", "seed", "draw", "run")
# Other seeds see the pairs in another order, and other draws are other pairs: trainings of one plan differ in
# their tokens by less than these shares.
_SAME_AMOUNT, _SAME_AMOUNT_DRAWN = 0.01, 0.05
_QUANTITIES = ("parameters", "sequences", "unique_tokens", "seen_tokens", "flops")


@dataclass(frozen=True)
class Runs:
    """Runs as columns of equal length; a missing number is NaN, a missing label is empty."""

    parameters: Array
    loss: Array
    sequences: Array
    unique_tokens: Array
    seen_tokens: Array
    flops: Array
    clm_tokens: Array
    objective: npt.NDArray[np.str_]
    seed: npt.NDArray[np.str_]
    draw: npt.NDArray[np.str_]
    run: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Runs:
        return Runs(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def with_losses(self, losses: Array) -> Runs:
        return replace(self, loss=losses)

    def cells(self, *ignored: str) -> dict[tuple[str, ...], list[int]]:
        """The rows that are equal in all columns but the loss and those ignored, under what they share."""
        names = [field.name for field in fields(self) if field.name not in ("loss", *ignored)]
        rows: dict[tuple[str, ...], list[int]] = {}
        for index in range(len(self)):
            rows.setdefault(tuple(str(getattr(self, name)[index]) for name in names), []).append(index)
        return rows

    def require_variation(self, *columns: str) -> None:
        """Refuse the table when all runs have the same value in a column."""
        for column in columns:
            if len(np.unique(getattr(self, column))) < 2:
                raise ValueError(f"all runs have the same {column!r}; its term shows only where they differ")

    def require(self, *columns: str, law: str) -> None:
        """Refuse the table when it lacks values in a column that the law needs."""
        for column in columns:
            missing = np.flatnonzero(np.isnan(getattr(self, column)))
            if missing.size == len(self):
                raise ValueError(f"the {law} law needs the column {column!r} ({COLUMNS[column]})")
            if missing.size:
                raise ValueError(f"row {missing[0] + 1} has no {column!r}, which the {law} law needs")


def make_runs(rows: Iterable[Mapping[str, str | float]], source: str = "table") -> Runs:
    """Check `rows` and turn them into columns; an error names the row, counted from 1."""
    table = list(rows)
    if not table:
        raise ValueError(f"{source}: the table must have at least one run; it has no rows")
    table = [_in_nats(row, source, index) for index, row in enumerate(table, start=1)]
    unknown = sorted({name for row in table for name in row} - set(COLUMNS))
    if unknown:
        raise ValueError(
            f"{source}: unknown column {unknown[0]!r}; remove it, or choose from {', '.join(COLUMNS)}"
        )
    for required in ("parameters", "loss"):
        if all(required not in row for row in table):
            raise ValueError(f"{source}: the column {required!r} is missing ({COLUMNS[required]})")
    numbers = {
        name: np.array([_number(row, name, source, index) for index, row in enumerate(table, start=1)])
        for name in COLUMNS
        if name not in _LABELS
    }
    labels = {name: np.array([str(row.get(name, "")).strip() for row in table]) for name in _LABELS}
    labels["objective"] = np.char.lower(labels["objective"])
    for index, objective in enumerate(labels["objective"].tolist(), start=1):
        if objective not in ("", "mlm", "clm"):
            raise ValueError(f"{source}, row {index}: objective must be mlm or clm; got {objective!r}")
    if np.isnan(numbers["flops"]).all():
        numbers["flops"] = 6 * numbers["parameters"] * numbers["seen_tokens"]
    runs = Runs(**numbers, **labels)
    repeated = [rows for rows in runs.cells().values() if len(rows) > 1]
    if repeated:
        first, again = min((rows[:2] for rows in repeated), key=lambda rows: rows[1])
        raise ValueError(
            f"{source}: row {again + 1} repeats row {first + 1}; "
            "tell repeated runs apart in a column 'seed', or remove one"
        )
    return runs


def _in_nats(row: Mapping[str, str | float], source: str, index: int) -> Mapping[str, str | float]:
    """The row with its loss in nats per token, where it is given in another unit."""
    given = [name for name in LOSS_UNITS if name in row]
    if not given:
        return row
    if len(given) > 1 or "loss" in row:
        named = " and ".join([*given, *(["loss"] if "loss" in row else [])])
        raise ValueError(f"{source}, row {index}: the loss must be in one unit; got {named}")
    unit = given[0]
    value = _number(row, unit, source, index)
    if math.isnan(value):
        raise ValueError(f"{source}, row {index}: {unit} is empty; every run needs it")
    loss = LOSS_UNITS[unit](value)
    if loss <= 0:
        raise ValueError(f"{source}, row {index}: {unit} must be above 1; got {value:g}")
    return {name: value for name, value in row.items() if name != unit} | {"loss": loss}


def _number(row: Mapping[str, str | float], name: str, source: str, index: int) -> float:
    value = row.get(name, "")
    if isinstance(value, str) and not value.strip():
        if name in ("parameters", "loss"):
            raise ValueError(f"{source}, row {index}: {name} is empty; every run needs it")
        return float("nan")
    if name == "clm_tokens" and str(value).strip() in ("0", "0.0"):
        return 0.0
    try:
        return parse_quantity(str(value))
    except ValueError as error:
        raise ValueError(f"{source}, row {index}: {name} {error}") from None


def read_runs(path: str | Path) -> Runs:
    """Read the runs of a CSV file with a header; `COLUMNS` explains the columns."""
    try:
        rows = _read_rows(path)
    except csv.Error as error:
        raise ValueError(f"{path} must be whole CSV ({error}); complete it") from error
    return make_runs(rows, source=str(path))


def _read_rows(path: str | Path) -> list[dict[str, str | float]]:
    with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets begin with a mark
        reader = csv.DictReader(file, strict=True)
        header: Sequence[str] = reader.fieldnames or ()
        if len(set(header)) != len(header):
            raise ValueError(f"{path}: a column name occurs twice in the header; rename or remove one")
        rows = []
        for index, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                raise ValueError(
                    f"{path}, row {index}: the row must have {len(header)} columns, as the header has"
                )
            rows.append(row)
    return rows


def published_runs(task: str) -> Runs:
    """Runs of the paper: its test losses under `task`, with nominal sizes as in its own fit."""
    rows: list[dict[str, str | float]] = []
    for figure in FIGURES:
        if (figure.task, figure.metric) == (task, "loss"):
            member = MEMBERS[figure.member]
            rows.append(
                {
                    "parameters": member.size.nominal_parameters,
                    "sequences": member.data.num_pairs,
                    "loss": figure.value,
                    "objective": "mlm",
                }
            )
    return make_runs(rows, source=task)


def read_measured_runs(paths: Sequence[str | Path], task: str | None = None) -> Runs:
    """Read results files: a run for each training, at its last measured step, by its loss under `task`."""
    source = ", ".join(map(str, paths))
    rows = {row.identity: row for path in paths for row in read_results(path) if _is_loss(row)}
    tasks = sorted({row.task for row in rows.values()})
    if not tasks:
        raise ValueError(f"{source}: no overall loss is recorded; measure one with `curr-ab evaluate loss`")
    if task is None and len(tasks) > 1:
        raise OptionError(f"{source}: task must be one of {', '.join(tasks)}; got none", "task")
    chosen = [row for row in rows.values() if row.task == (task or tasks[0])]
    if not chosen:
        raise ValueError(f"{source}: no {task}; there are {', '.join(tasks)}")
    conditions = {_conditions(row) for row in chosen}
    if len(conditions) > 1:
        raise ValueError(
            f"{source}: losses on {' and on '.join(sorted(conditions))} do not compare; "
            "keep results on one of them only"
        )
    last_step: dict[tuple[object, ...], Result] = {}
    for row in sorted(chosen, key=lambda row: row.step or 0):
        if not {*_QUANTITIES, "objective", "training_seed"} <= set(row.details):
            raise ValueError(
                f"{source}: the training of {row.model} is not recorded (it has no training.json); "
                "measure it into another folder"
            )
        details = row.details
        training = [details.get(key) for key in ("objective", "training_seed", "training_draw")]
        training.append(details.get("clm_tokens", 0))
        last_step[row.model, details["parameters"], details["sequences"], *training] = row
    return make_runs((_run(row) for row in last_step.values()), source)


def _is_loss(row: Result) -> bool:
    return row.metric == "loss" and row.task.endswith("-loss") and row.details.get("place") == "all"


def _conditions(row: Result) -> str:
    """Data, masks and settings of the loss: all its details but those of the model and its training."""
    of_model = (*_QUANTITIES, "clm_tokens", "place", "objective", "training_seed", "training_draw")
    settings = [
        f"{key.replace('_', ' ')} {row.details[key]}" for key in sorted(row.details) if key not in of_model
    ]
    return ", ".join([row.dataset, *settings])


def _run(row: Result) -> dict[str, str | float]:
    quantities: dict[str, str | float] = {name: float(row.details[name]) for name in _QUANTITIES}
    return quantities | {
        "clm_tokens": float(row.details.get("clm_tokens", 0)),
        "loss": row.value,
        "objective": str(row.details["objective"]),
        "seed": str(row.details["training_seed"]),
        "draw": str(row.details.get("training_draw", "")),
    }


def one_objective(runs: Runs, law: str) -> None:
    """Refuse a table in which losses of two objectives would be compared."""
    if len(set(runs.objective)) > 1:
        raise ValueError(
            f"the {law} law compares losses, so objective must be the same for all: keep one objective only"
        )
    if (np.nan_to_num(runs.clm_tokens) > 0).any():
        raise ValueError(f"the {law} law needs runs from scratch: remove those with clm_tokens above 0")


def is_curves(runs: Runs) -> bool:
    """True where the rows are checkpoints of named training curves; a mixture is refused."""
    named = runs.run != ""
    if named.any() and not named.all():
        raise ValueError("some rows have a 'run' and some do not: give curves or final points, not both")
    return bool(named.all())


def trainings(runs: Runs) -> npt.NDArray[np.intp]:
    """The same number for all runs that repeat one training, with another seed or on another draw."""
    amounts = np.stack([runs.unique_tokens, runs.seen_tokens, runs.flops], axis=1)
    labels = list(zip(runs.seed.tolist(), runs.draw.tolist(), runs.run.tolist(), strict=True))
    numbers = np.zeros(len(runs), dtype=np.intp)
    alike: dict[tuple[str, ...], list[list[int]]] = {}
    count = 0
    for index in range(len(runs)):
        columns = (runs.parameters, runs.sequences, runs.clm_tokens, runs.objective)
        cells = alike.setdefault(tuple(str(column[index]) for column in columns), [])
        for cell in cells:
            one_draw = runs.draw[index] == runs.draw[cell[0]]
            share = _SAME_AMOUNT if one_draw else _SAME_AMOUNT_DRAWN
            same = np.allclose(amounts[index], amounts[cell[0]], rtol=share, atol=0, equal_nan=True)
            if same and labels[index] not in [labels[row] for row in cell]:
                cell.append(index)
                numbers[index] = numbers[cell[0]]
                break
        else:
            cells.append([index])
            numbers[index], count = count, count + 1
    return numbers


def seed_noise(runs: Runs) -> float | None:
    """Standard deviation of the loss between repeated runs, pooled; None where none was repeated."""
    numbers = trainings(runs)
    losses = [runs.loss[numbers == number] for number in np.unique(numbers)]
    freedom = len(runs) - len(losses)
    return (
        float(np.sqrt(sum(np.var(values) * len(values) for values in losses) / freedom)) if freedom else None
    )
