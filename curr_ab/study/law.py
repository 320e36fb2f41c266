"""The scaling law of a study's cells, with its doubts, or the reason why it cannot be fitted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np

from curr_ab.quantities import format_quantity
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.draws import Component, noise_components, noise_of_draws
from curr_ab.scaling.iso_data import (
    IsoDataFit,
    IsoDataRecord,
    Parabola,
    PowerLaw,
    SpreadRecord,
    fit_iso_data,
    try_parabolas,
)
from curr_ab.scaling.joint import JointFit, joint_fits
from curr_ab.scaling.report import to_json
from curr_ab.scaling.runs import Runs, make_runs, seed_noise, trainings
from curr_ab.scaling.uncertainty import Influence, Interval, NoOptimum

HELD_OUT = "held-out pairs, the same for all cells"


@dataclass(frozen=True)
class CellLoss:
    """A cell as the law sees it."""

    data: str
    parameters: int
    pairs: int
    seed: int
    loss: float
    standard_error: float
    draw: int = 0  # of the data set, from 1; 0 where there is one alone
    unique_tokens: float | None = None  # where they are recorded, as the next
    seen_tokens: float | None = None


@dataclass(frozen=True)
class StudyLaw:
    """The law of a study, or the `problem` why it cannot be fitted; neither before any cell was evaluated.

    `parabolas` are those of the data sizes whose losses have a minimum, by their pairs: also without a law.
    `remarks` are sentences that belong to the fit.
    """

    fit: IsoDataRecord | None = None
    problem: str = ""
    parabolas: Mapping[int, Parabola] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    noise_sd: float | None = None
    noise: Mapping[str, tuple[Component, ...]] = field(default_factory=dict)  # of "all", then by pairs
    joint: tuple[JointFit, ...] = ()  # laws by all cells at once, of several draws
    table: tuple[CellLoss, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """The law as JSON holds it: the fit as `curr-ab scaling fit --json` writes it, and the rest."""
        values: dict[str, Any] = {} if self.fit is None else json.loads(to_json(self.fit))
        if self.problem:
            values["problem"] = self.problem
        if self.fit is None and self.parabolas:
            values["parabolas"] = {str(pairs): vars(one) for pairs, one in self.parabolas.items()}
        if self.remarks:
            values["remarks"] = list(self.remarks)
        if self.table:
            values |= {"noise_sd": self.noise_sd, "table": [vars(cell) for cell in self.table]}
        if self.noise:
            values["noise"] = {key: [vars(part) for part in parts] for key, parts in self.noise.items()}
        if self.joint:
            values["joint"] = [json.loads(to_json(one)) for one in self.joint]
        return values

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> StudyLaw:
        """The law of which `to_plain` gave these values."""
        parabolas = {int(pairs): Parabola(**one) for pairs, one in values.get("parabolas", {}).items()}
        return cls(
            _read_fit(values, parabolas) if "estimates" in values else None,
            values.get("problem", ""),
            parabolas,
            tuple(values.get("remarks", ())),
            values.get("noise_sd"),
            {
                key: tuple(Component(**part) for part in parts)
                for key, parts in values.get("noise", {}).items()
            },
            tuple(_read_joint(one) for one in values.get("joint", ())),
            tuple(CellLoss(**cell) for cell in values.get("table", ())),
        )


def _read_fit(values: Mapping[str, Any], parabolas: Mapping[int, Parabola]) -> IsoDataRecord:
    spreads = []
    for row in values["spreads"]:
        intervals = {name: Interval(**_numbers(ends)) for name, ends in row["intervals"].items()}
        spreads.append(SpreadRecord(**{**row, "intervals": intervals}))
    without = ((row["run"], row["estimates"]) for row in values["influences"])
    power_law = {name: tuple(map(_number, column)) for name, column in values["power_law"].items()}
    return IsoDataRecord(
        law=values["law"],
        estimates=_numbers(values["estimates"]),
        residuals=tuple(map(_number, values["residuals"])),
        residual_unit=values["residual_unit"],
        spreads=tuple(spreads),
        influences=tuple(
            Influence(run, None if found is None else _numbers(found)) for run, found in without
        ),
        profiles=(),  # this law has none
        warnings=tuple(values["warnings"]),
        parabolas=parabolas,
        project_to=_number(values["project_to"]),
        power_law=PowerLaw(**power_law),
    )


def _read_joint(values: Mapping[str, Any]) -> JointFit:
    intervals = {name: Interval(**_numbers(ends)) for name, ends in values["intervals"].items()}
    return JointFit(**{**values, "estimates": _numbers(values["estimates"]), "intervals": intervals})


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: float | str | None) -> float:
    """A number of the JSON, where null stands for NaN, and `inf` is a word."""
    return math.nan if value is None else float(value)


def fit_cells(cells: Sequence[CellLoss]) -> StudyLaw:
    """Fit the paper's law to the held-out losses of a study's cells."""
    if not cells:
        return StudyLaw(problem="no cell has been evaluated")
    rows: list[dict[str, str | float]] = [
        {
            "parameters": cell.parameters,
            "sequences": cell.pairs,
            "loss": cell.loss,
            "seed": str(cell.seed),
            "draw": str(cell.draw or ""),
        }
        for cell in cells
    ]
    try:
        runs = make_runs({**row, "objective": "mlm"} for row in rows)
    except ValueError as error:
        problem = f"No law can be fitted to these losses: {error}."
        return StudyLaw(problem=problem, remarks=(problem,), table=tuple(cells))
    noise, source = _noise(cells, runs)
    spare = len(np.unique(trainings(runs))) - 3 * len(np.unique(runs.sequences))
    if spare > 0 and noise_of_draws(runs) is None:
        source += (
            " The intervals are by more than that: by how far the means over seeds lie from the parabolas "
            f"({spare} degree{'s' * (spare > 1)} of freedom), in which is what another draw of the pairs "
            "would change for each size."
        )
    remarks, problem = [source], ""
    fit: IsoDataFit | None = None
    try:
        # Projected to the largest size that was trained: beyond it nothing was seen.
        doubt = Doubt(noise_sd=None if spare > 0 else noise)
        fit = fit_iso_data(runs, doubt, project_to=float(runs.parameters.max()))
    except ValueError as error:
        problem = f"The law is not identifiable from these losses: {error}."
        remarks.append(problem)
    curves = try_parabolas(runs)
    remarks += [_in_words(cells, pairs, curve) for pairs, curve in curves.items()]
    if fit is not None:
        remarks += [f"{warning[0].upper()}{warning[1:]}." for warning in fit.warnings]
    parabolas = {pairs: curve for pairs, curve in curves.items() if isinstance(curve, Parabola)}
    record = None if fit is None else fit.record()
    parts = _noise_parts(cells, runs)
    joint = joint_fits(_with_tokens(cells, runs))
    return StudyLaw(record, problem, parabolas, tuple(remarks), noise, parts, joint, tuple(cells))


def _with_tokens(cells: Sequence[CellLoss], runs: Runs) -> Runs:
    """The runs with the tokens of their cells, for laws of repeated data."""
    tokens = [(cell.unique_tokens or math.nan, cell.seen_tokens or math.nan) for cell in cells]
    unique, seen = np.array(tokens, dtype=float).T
    return replace(runs, unique_tokens=unique, seen_tokens=seen)


def _noise_parts(cells: Sequence[CellLoss], runs: Runs) -> dict[str, tuple[Component, ...]]:
    """The sources of the noise, over all data and for each data size; empty where no cell was repeated."""
    if len(np.unique(trainings(runs))) == len(runs):
        return {}
    errors = np.array([cell.standard_error for cell in cells])
    chosen = {"all": np.full(len(runs), True)}
    chosen |= {str(int(pairs)): runs.sequences == pairs for pairs in np.unique(runs.sequences)}
    return {
        key: (
            *noise_components(runs.take(rows)),
            Component(HELD_OUT, float(np.sqrt((errors[rows] ** 2).mean())), None),
        )
        for key, rows in chosen.items()
    }


def _noise(cells: Sequence[CellLoss], runs: Runs) -> tuple[float | None, str]:
    """The scatter between seeds where there is one; else how well the held-out pairs determine a loss.

    Between draws the fit measures it for itself.
    """
    if noise_of_draws(runs) is not None:
        return None, (
            "The noise is that between draws of the pairs: what moves all sizes of a draw together, and what "
            "moves each, for each data size its own."
        )
    if (scatter := seed_noise(runs)) is not None:
        return scatter or None, f"The noise is the scatter of the losses between seeds ({scatter:.2g} nats)."
    errors = [cell.standard_error for cell in cells if cell.standard_error > 0]
    if not errors:
        return None, "The noise is unknown: one seed, and losses without standard errors."
    noise = float(np.mean(errors))
    return noise, (
        f"With one seed the noise is taken from the standard errors over held-out pairs ({noise:.2g} nats). "
        "All cells are measured on the same pairs, so that their differences are surer than that; but what "
        "another seed would change is not in it."
    )


def _in_words(cells: Sequence[CellLoss], pairs: int, curve: Parabola | NoOptimum) -> str:
    here: dict[int, list[float]] = {}
    for cell in cells:
        if cell.pairs == pairs:
            name = f"{cell.data} ({pairs:,} pairs)"
            here.setdefault(cell.parameters, []).append(cell.loss)
    best = min(here, key=lambda parameters: fmean(here[parameters]))
    lowest = f"{name}: the lowest loss is that of {format_quantity(best)} parameters"
    if isinstance(curve, NoOptimum):
        return f"{lowest}; {str(curve).partition(': ')[2]}."
    if curve.inside:
        return f"{lowest}; the parabola's minimum lies at {format_quantity(curve.optimum)}."
    beyond = "above the largest" if curve.optimum > curve.largest else "below the smallest"
    return (
        f"{lowest}; the parabola's minimum ({format_quantity(curve.optimum)}) lies {beyond} size that was "
        "trained: these runs show on which side the best size is, and not where."
    )
