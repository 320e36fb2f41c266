"""The summary of a study as plain values: the one source of its report, and its form as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from curr_ab.files import as_written
from curr_ab.study.law import StudyLaw

FORMAT = "curr-ab study 1"
State = Literal["done", "failed", "running", "waiting"]
STATES: tuple[State, ...] = ("done", "failed", "running", "waiting")
Curve = tuple[tuple[int, float], ...]  # (step, loss in nats per masked residue)
Estimate = tuple[float, float]  # value, standard error
Row = TypeVar("Row", "CellSummary", "StudySummary")


@dataclass(frozen=True)
class CellSummary:
    """One training of one member: a size, a data set, its draw, a seed. Paths are relative to the report."""

    member: str  # 350M-F
    size: str  # 350M
    data: str  # F
    shape: str  # 64x2: width x layers
    parameters: int
    pairs: int
    seed: int
    steps: int  # planned
    state: State
    log: str
    loss: float | None = None  # on the held-out pairs, in nats per masked residue
    standard_error: float | None = None  # over held-out pairs
    region_losses: Mapping[str, Estimate] = field(default_factory=dict)  # by a name of LOSS_REGIONS
    pairing: Estimate | None = None  # accuracy of telling native from shuffled pairs
    training_curve: Curve = ()
    held_out_curve: Curve = ()
    tokens_per_second: float | None = None
    seconds: float | None = None
    draw: int = 0  # of the data set, from 1; 0 where there is one alone
    objective: str = "mlm"
    after: str = ""  # the causal cell whose weights it began with
    # Of what a causal cell generates: metric, then row of the suite's table, then value and error.
    generation: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    export: str | None = None  # the checkpoint folder, with its card in README.md
    problem: str | None = None  # of a failed cell: what went wrong, in words

    @property
    def trained_as(self) -> str:
        """The member with what tells its trainings apart: `350M-F, draw 2, seed 1`."""
        return f"{self.member}, " + f"draw {self.draw}, " * (self.draw > 0) + f"seed {self.seed}"

    def __post_init__(self) -> None:
        if self.state not in STATES:
            states = ", ".join(STATES)
            raise ValueError(f"cell {self.member}: state must be one of {states}; got {self.state!r}")
        if (self.state == "done") != (self.loss is not None):
            raise ValueError(
                f"cell {self.member} is {self.state}: it has a loss if it is done, and only then"
            )
        for path in (self.log, self.export or ""):
            if path.startswith("/"):
                raise ValueError(f"cell {self.member}: {path} must be relative to the report's folder")


@dataclass(frozen=True)
class StudySummary:
    """A study, finished or under way; several cells of one member differ in their seeds."""

    preset: str
    title: str
    command: str
    cells: tuple[CellSummary, ...]
    started: str  # ISO 8601
    seconds: float
    hardware: str
    versions: Mapping[str, str]
    baselines: Mapping[str, float] = field(default_factory=dict)  # held-out loss by name
    further_cells: tuple[CellSummary, ...] = ()  # outside the grid: causal, after causal, and beside those
    transfer: Mapping[str, Any] = field(default_factory=dict)  # of `fit_study_transfer`; empty without CLM
    law: StudyLaw = field(default_factory=StudyLaw)
    law_figures: Mapping[str, str] = field(default_factory=dict)  # pictures by name, relative paths
    data_report: Mapping[str, Any] = field(default_factory=dict)  # of `collect.report_data`
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Valid JSON: a number that is not finite becomes null."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("cells", "further_cells"):
            values[name] = [asdict(cell) for cell in values[name]]
        values["law"] = self.law.to_plain()
        return json.dumps({"format": FORMAT, **_finite(values)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> StudySummary:
        """The summary of which `to_json` gave this text."""
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"a summary of a study must have the `format` {FORMAT!r}; write it anew")
        cells = tuple(_cell(row) for row in values.pop("cells"))
        values["further_cells"] = tuple(_cell(row) for row in values.get("further_cells", ()))
        law = StudyLaw.from_plain(values["law"])
        return _make(cls, {**values, "cells": cells, "law": law, "notes": tuple(values["notes"])})


def read_summary(path: Path) -> StudySummary:
    """The summary that a `report.json` holds."""
    with as_written(path):
        return StudySummary.from_json(path.read_text(encoding="utf-8"))


def _cell(row: dict[str, Any]) -> CellSummary:
    curves = {
        name: tuple((step, math.nan if loss is None else loss) for step, loss in row[name])
        for name in ("training_curve", "held_out_curve")
    }
    regions = {place: (loss, error) for place, (loss, error) in row["region_losses"].items()}
    pairing = None if row["pairing"] is None else tuple(row["pairing"])
    generation = {
        metric: {source: tuple(estimate) for source, estimate in found.items()}
        for metric, found in row.get("generation", {}).items()
    }
    made = {"region_losses": regions, "pairing": pairing, "generation": generation}
    return _make(CellSummary, {**row, **curves, **made})


def _make(kind: type[Row], values: Mapping[str, Any]) -> Row:
    known = [item.name for item in fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{kind.__name__}: unknown key {unknown[0]!r}; the keys are {', '.join(known)}")
    return kind(**values)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
