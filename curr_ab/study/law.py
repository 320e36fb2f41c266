"""The scaling law of a study's cells, with its doubts, or why there is none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from curr_ab.quantities import format_quantity
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.fit import Fit
from curr_ab.scaling.iso_data import Parabola, fit_iso_data, fit_parabola
from curr_ab.scaling.plots import plot_fit, plot_losses, save_plots
from curr_ab.scaling.report import to_json
from curr_ab.scaling.runs import Runs, make_runs, seed_noise
from curr_ab.scaling.uncertainty import NoOptimum


@dataclass(frozen=True)
class CellLoss:
    """What the law takes of a cell."""

    data: str
    parameters: int
    pairs: int
    seed: int
    loss: float
    standard_error: float


@dataclass(frozen=True)
class StudyLaw:
    """The law as plain values, what must be said with it among them, and its pictures."""

    values: dict[str, Any]
    figures: dict[str, Path] = field(default_factory=dict)


def fit_law(cells: Sequence[CellLoss], figures: Path) -> StudyLaw:
    """Fit the paper's law to the held-out losses, and draw its figures into the folder `figures`."""
    if not cells:
        return StudyLaw({"problem": "no cell has been evaluated"})
    try:
        runs = make_runs(
            {
                "parameters": cell.parameters,
                "sequences": cell.pairs,
                "loss": cell.loss,
                "objective": "mlm",
                "seed": str(cell.seed),
            }
            for cell in cells
        )
    except ValueError as error:
        problem = f"No law can be fitted to these losses: {error}."
        return StudyLaw({"problem": problem, "remarks": [problem], "table": [vars(cell) for cell in cells]})
    noise, source = _noise(cells, runs)
    remarks = [source]
    fit: Fit | None = None
    try:
        # Projected to the largest size that was trained: beyond it nothing was seen.
        fit = fit_iso_data(runs, Doubt(noise_sd=noise), project_to=float(runs.parameters.max()))
    except ValueError as error:
        remarks.append(f"The law is not identifiable from these losses: {error}.")
    curves = _curves(runs)
    remarks += [_in_words(cells, pairs, curve) for pairs, curve in curves.items()]
    values: dict[str, Any] = {"problem": remarks[1]} if fit is None else json.loads(to_json(fit))
    if fit is not None:
        remarks += [f"{warning[0].upper()}{warning[1:]}." for warning in fit.warnings]
    values |= {"remarks": remarks, "noise_sd": noise, "table": [vars(cell) for cell in cells]}
    return StudyLaw(values, _draw(fit, runs, curves, figures))


def _noise(cells: Sequence[CellLoss], runs: Runs) -> tuple[float | None, str]:
    """The scatter between seeds where there is one; else how well the held-out pairs determine a loss."""
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


def _curves(runs: Runs) -> dict[int, Parabola | str]:
    """The parabola of each data size, or why it has none."""
    found: dict[int, Parabola | str] = {}
    for pairs in np.unique(runs.sequences):
        rows = runs.sequences == pairs
        try:
            found[int(pairs)] = fit_parabola(runs.parameters[rows], runs.loss[rows], f"{pairs:,.0f} pairs")
        except NoOptimum as error:
            found[int(pairs)] = str(error)
    return found


def _in_words(cells: Sequence[CellLoss], pairs: int, curve: Parabola | str) -> str:
    here = [cell for cell in cells if cell.pairs == pairs]
    best = min(here, key=lambda cell: cell.loss)
    name = f"{here[0].data} ({pairs:,} pairs)"
    told = f"{name}: the lowest loss is that of {format_quantity(best.parameters)} parameters"
    if isinstance(curve, str):
        return f"{told}; {curve.partition(': ')[2]}."
    if curve.inside:
        return f"{told}; the parabola's minimum lies at {format_quantity(curve.optimum)}."
    beyond = "above the largest" if curve.optimum > curve.largest else "below the smallest"
    return (
        f"{told}; the parabola's minimum ({format_quantity(curve.optimum)}) lies {beyond} size that was "
        "trained: these runs show on which side the best size is, and not where."
    )


def _draw(fit: Fit | None, runs: Runs, curves: dict[int, Parabola | str], folder: Path) -> dict[str, Path]:
    known = {pairs: curve for pairs, curve in curves.items() if isinstance(curve, Parabola)}
    drawn = {"loss_by_size": plot_losses(runs, known)} if fit is None else dict(plot_fit(fit))
    drawn.pop("residuals", None)
    paths = save_plots(drawn, folder, ("png",))
    return dict(zip(drawn, paths, strict=True))
