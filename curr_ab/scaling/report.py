"""Fits, advice, plans, reproductions as text for people, and as JSON for programs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curr_ab.files import replacing
from curr_ab.quantities import format_quantity
from curr_ab.scaling.advice import Advice
from curr_ab.scaling.iso_data import IsoDataFit
from curr_ab.scaling.log_loss import LogLossFit
from curr_ab.scaling.next_runs import Plan
from curr_ab.scaling.reproduction import Reproduced
from curr_ab.scaling.spending import Purchase, Spending
from curr_ab.scaling.spending_runs import AMOUNTS, Trials
from curr_ab.scaling.transfer import TransferFit
from curr_ab.scaling.uncertainty import Fit, Interval, Profile, Spread

_BULKY = ("samples", "starts", "runs", "points")  # draws and inputs: in the Python objects, not in the report


def to_json(result: Any) -> str:
    """Valid JSON: what is not a finite number becomes null, infinities the words `-inf` and `inf`."""
    return json.dumps(_plain(result), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, IsoDataFit):
        return _plain(value.record())
    if is_dataclass(value) and not isinstance(value, type):
        plain = {
            field.name: _plain(getattr(value, field.name))
            for field in fields(value)
            if field.name not in _BULKY or isinstance(value, Plan | Trials)
        }
        if isinstance(value, Spread):
            plain["intervals"] = _plain(value.intervals)
        if isinstance(value, Reproduced):
            plain["difference"] = value.difference
        return plain
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def describe_fit(fit: Fit) -> Iterator[str]:
    """The lines of a fit's report."""
    yield f"{fit.law} law, {len(fit.runs)} rows"
    spreads = [spread for spread in fit.spreads if spread.samples]
    yield "  ".join(["", f"{'estimate':<40} {'value':>12}", *(f"{s.method:>24}" for s in spreads)])
    for name, value in fit.estimates.items():
        cells = [f"{_interval(s.interval(name)) if name in s.samples else '-':>24}" for s in spreads]
        yield "  ".join(["", f"{name:<40} {format_quantity(value):>12}", *cells])
    for spread in fit.spreads:
        lost = f"{spread.share_without_optimum:.1%} without an optimum"
        yield f"  {spread.method}: {spread.draws} draws, {lost}"
    if fit.profiles:
        yield "  profile likelihood, 95 %:"
        for profile in fit.profiles:
            yield f"    {profile.parameter:<38} {_interval(profile)}"
    if isinstance(fit, LogLossFit):
        yield from _describe_optima(fit)
    if isinstance(fit, TransferFit):
        yield from _describe_transferred(fit)
    yield from _describe_influence(fit)
    scatter, largest = np.std(fit.residuals), np.abs(fit.residuals).max()
    yield f"  residuals ({fit.residual_unit}): sd {scatter:.2g}, largest {largest:.2g}"
    for warning in fit.warnings:
        yield f"  WARNING: {warning}"


def _describe_optima(fit: LogLossFit) -> Iterator[str]:
    stopped = int((~fit.starts.converged).sum())
    yield (
        f"  {len(fit.starts.begin)} starts, {len(fit.optima)} distinct local optima "
        f"({stopped} starts stopped before they converged):"
    )
    for optimum in fit.optima:
        values = ", ".join(f"{name} {format_quantity(value)}" for name, value in optimum.estimates.items())
        vanished = f"; no {', '.join(optimum.vanished)}" if optimum.vanished else ""
        yield f"    objective {optimum.objective:.6g}, {optimum.num_starts} starts{vanished}: {values}"


def _describe_transferred(fit: TransferFit) -> Iterator[str]:
    """The tokens that CLM training saved each run."""
    yield "  MLM tokens from scratch that CLM training stood in for, 95 %:"
    for row, tokens in fit.transferred.items():
        yield f"    {row:<38} {format_quantity(tokens):>12}  {_interval(fit.transferred_intervals.get(row))}"


def _describe_influence(fit: Fit) -> Iterator[str]:
    """For each estimate the run whose absence moves it most."""
    yield "  most influential run (the estimate without it):"
    for name, value in fit.estimates.items():
        without = [(i.run, i.estimates[name]) for i in fit.influences if i.estimates and name in i.estimates]
        if without:
            run, estimate = max(without, key=lambda pair: abs(pair[1] - value))
            yield f"    {name:<38} {run}: {format_quantity(estimate)}"
    lost = [influence.run for influence in fit.influences if influence.estimates is None]
    if lost:
        yield f"    without one of {', '.join(lost)} there is no fit"


def _interval(between: Interval | Profile | None) -> str:
    if between is None:
        return "-"
    return f"{format_quantity(between.low)} to {format_quantity(between.high)}"


def describe_advice(answers: Sequence[Advice]) -> Iterator[str]:
    """One line for each law, its source and note under it."""
    yield f"{'law':<26} {'parameters':>10} {'95 %':>18} {'sequences':>10} {'95 %':>18}"
    for answer in answers:
        size, data = (
            "silent" if value is None else format_quantity(value)
            for value in (answer.parameters, answer.sequences)
        )
        intervals = [_interval(i) for i in (answer.parameters_interval, answer.sequences_interval)]
        yield f"{answer.law:<26} {size:>10} {intervals[0]:>18} {data:>10} {intervals[1]:>18}"
        yield f"    {answer.source}: {answer.note}"


def describe_reproduced(rows: Sequence[Reproduced]) -> Iterator[str]:
    """The table of published figures and ours."""
    yield f"{'figure':<54} {'published':>14} {'ours':>14} {'difference':>10}  source"
    for row in rows:
        published, ours = (
            f"{value:,.2f}" if value > 1e4 else f"{value:.4g}" for value in (row.published, row.ours)
        )
        yield f"{row.figure:<54} {published:>14} {ours:>14} {row.difference:>10.2%}  {row.source}"


def describe_plan(plan: Plan) -> Iterator[str]:
    """The planned runs, and what they buy."""
    yield f"{'parameters':>10} {'sequences':>12} {'seeds':>6} {'FLOPs':>10}"
    for run in plan.runs:
        size = format_quantity(run.parameters)
        yield f"{size:>10} {run.sequences:>12,} {run.num_seeds:>6} {run.flops:>10.2g}"
    yield f"cost: {plan.flops:.3g} FLOPs in {sum(run.num_seeds for run in plan.runs)} runs"
    at = format_quantity(plan.projected_parameters)
    yield f"sequences for {at} parameters, 95 % of simulated studies:"
    yield f"  now  {_interval(plan.before)} ({plan.lost_before:.1%} without an optimum)"
    yield f"  then {_interval(plan.after)} ({plan.lost_after:.1%} without an optimum)"


def describe_spending(spending: Spending) -> Iterator[str]:
    """What to buy, what it costs, and the same money at each size of the family."""
    best = spending.best
    yield f"{'':<12} {'best':>10} {'95 %':>22}"
    for name in ("loss", "cost", "parameters", "sequences", "passes"):
        between = _interval(spending.intervals[name])
        unit = "pairs" if name == "sequences" else name
        yield f"{unit:<12} {format_quantity(getattr(best, name)):>10} {between:>22}"
    pairs, training = map(format_quantity, (best.for_pairs, best.for_training))
    yield f"for new pairs {pairs}, for training {training}"
    if spending.by_size:
        yield "the same money at the sizes of the family:"
        yield from (_describe_purchase(name, at_size) for name, at_size in spending.by_size.items())
    for note in spending.notes:
        yield f"  WARNING: {note}"


def describe_trials(trials: Trials) -> Iterator[str]:
    """The planned runs, and how much surer the advice is with them."""
    yield f"{'parameters':>10} {'pairs':>10} {'passes':>8} {'seeds':>6} {'FLOPs':>10}"
    for run in trials.runs:
        size, pairs, passes = map(format_quantity, (run.parameters, run.sequences, run.passes))
        yield f"{size:>10} {pairs:>10} {passes:>8} {run.num_seeds:>6} {run.flops:>10.2g}"
    yield f"cost: {trials.flops:.3g} FLOPs in {sum(run.num_seeds for run in trials.runs)} runs"
    yield "advised by 95 % of simulated studies:"
    for name in AMOUNTS:
        unit = "pairs" if name == "sequences" else name
        yield f"  {unit:<12} now {_interval(trials.before[name])}, then {_interval(trials.after[name])}"
    if lost := max(trials.lost_before, trials.lost_after):
        yield f"  WARNING: up to {lost:.1%} of the simulated studies give no advice and are left out"


def _describe_purchase(name: str, bought: Purchase) -> str:
    pairs, passes = format_quantity(bought.sequences), format_quantity(bought.passes)
    return f"  {name:>5}: loss {bought.loss:.4g}, {pairs} pairs, {passes} passes"


def write_starts(fit: LogLossFit, path: Path) -> None:
    """The outcome of every start as CSV, in the fit's own parameters (`log_` for logarithms)."""
    names = fit.parameter_names
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"start_{name}" for name in names), *names, "objective", "converged", "optimum"])
        starts = fit.starts
        for begin, end, *rest in zip(
            starts.begin, starts.end, starts.objective, starts.converged, starts.optimum, strict=True
        ):
            writer.writerow([*begin, *end, *rest])
