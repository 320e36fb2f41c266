"""Transfer law, from CLM to MLM: the tokens that CLM training saves, and its best share of all tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from curr_ab.quantities import format_quantity
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.iso_data import FLAT
from curr_ab.scaling.runs import Array, Runs, trainings
from curr_ab.scaling.uncertainty import Estimate, Fit, Interval, NoOptimum, interval, measure, noise_of

LAW = "transfer"
_SAME_TOTAL = 0.01  # runs of one size whose tokens in all agree to 1 % compete for the best share
_SIZES = ("parameters", "clm_tokens", "seen_tokens")


@dataclass(frozen=True, kw_only=True)
class TransferFit(Fit):
    """transferred tokens = coefficient * product of size^exponent over the sizes that vary in the table."""

    transferred: Mapping[str, float]  # row: the MLM tokens from scratch that CLM training stood in for
    # 95 %, by the noise of all losses; an end is infinite where the loss leaves what was trained from scratch
    transferred_intervals: Mapping[str, Interval]
    used: npt.NDArray[np.intp]  # the rows that the power law goes through, in the residuals' order


def effectively_transferred(runs: Runs) -> tuple[npt.NDArray[np.intp], Array]:
    """Rows after CLM and their transferred tokens; NaN where no runs from scratch bracket the loss.

    These are the tokens that training from scratch needs for the same loss, less those that were seen
    (arXiv 2102.01293), by interpolation of ln(loss) in ln(tokens) between runs from scratch of that size.
    """
    rows, transferred = _transferred(runs)
    return rows, np.where(np.isfinite(transferred), transferred, np.nan)


def _transferred(runs: Runs) -> tuple[npt.NDArray[np.intp], Array]:
    """The same, infinite where the loss is below all from scratch and -infinite where it is above all."""
    rows = np.flatnonzero(runs.clm_tokens > 0)
    transferred = np.full(len(rows), np.nan)
    for size in np.unique(runs.parameters[rows]):
        here = runs.parameters[rows] == size
        scratch = runs.take((runs.clm_tokens == 0) & (runs.parameters == size))
        if len(scratch) < 2:
            continue
        tokens, cell = np.unique(scratch.seen_tokens, return_inverse=True)
        num_runs = np.bincount(cell)
        means = np.bincount(cell, weights=scratch.loss) / num_runs
        # Noise makes neighbours rise; more tokens from scratch are taken never to be worse.
        losses = isotonic_regression(means, weights=num_runs, increasing=False).x
        if losses[-1] < losses[0]:
            known = -np.log(losses), np.log(tokens)
            needed = np.interp(-np.log(runs.loss[rows[here]]), *known, left=-np.inf, right=np.inf)
            transferred[here] = np.exp(needed) - np.where(
                needed > -np.inf, runs.seen_tokens[rows[here]], np.inf
            )
    return rows, transferred


def transferred_intervals(runs: Runs, doubt: Doubt) -> dict[str, Interval]:
    """Intervals of the transferred tokens of each run after CLM, by the noise of all losses; none if unknown.

    A standard deviation that a few repeated runs gave is itself drawn, as Student's t does.
    """
    noise_sd = noise_of(runs, doubt)
    if not noise_sd:
        return {}
    freedom = len(runs) - len(np.unique(trainings(runs))) if doubt.noise_sd is None else 0
    generator = np.random.default_rng(doubt.seed)
    drawn = []
    for _ in range(doubt.draws):
        sd = noise_sd * float(np.sqrt(freedom / generator.chisquare(freedom))) if freedom else noise_sd
        noisy = np.maximum(runs.loss + generator.normal(0, sd, len(runs)), np.finfo(float).tiny)
        rows, transferred = _transferred(runs.with_losses(noisy))
        drawn.append(transferred)
    known = zip(rows, np.array(drawn).T, strict=True)
    return {f"row {row + 1}": _interval(values[~np.isnan(values)]) for row, values in known}


def _interval(samples: Array) -> Interval:
    """As of other estimates, but of samples that may be infinite, between which nothing is interpolated."""
    if len(samples) == 0:
        return interval(samples)
    low, median, high = np.quantile(samples, [0.025, 0.5, 0.975], method="nearest")
    return Interval(float(low), float(median), float(high))


def best_shares(runs: Runs) -> dict[str, float]:
    """Share of CLM at the minimum of a parabola of the loss, for each size and total of tokens."""
    total = runs.clm_tokens + runs.seen_tokens
    share = runs.clm_tokens / total
    best = {}
    for size in np.unique(runs.parameters):
        rows = np.flatnonzero(runs.parameters == size)
        rows = rows[np.argsort(total[rows])]
        for group in np.split(rows, np.flatnonzero(np.diff(np.log(total[rows])) > _SAME_TOTAL) + 1):
            if len(np.unique(share[group])) < 3:
                continue
            curvature, slope, _ = np.polyfit(share[group], runs.loss[group], 2)
            if curvature <= FLAT * runs.loss[group].max():
                continue
            vertex = -slope / (2 * curvature)
            if 0 < vertex < 1:
                name = (
                    f"best_clm_share[{format_quantity(size)}, {format_quantity(total[group].mean())} tokens]"
                )
                best[name] = float(vertex)
    return best


def _regression(runs: Runs) -> tuple[dict[str, float], Array, npt.NDArray[np.intp]]:
    rows, transferred = effectively_transferred(runs)
    rows, transferred = rows[transferred > 0], transferred[transferred > 0]
    varying = (
        [name for name in _SIZES if np.ptp(np.log(getattr(runs, name)[rows])) > 1e-9] if len(rows) else []
    )
    columns = [np.ones(len(rows)), *(np.log(getattr(runs, name)[rows]) for name in varying)]
    design = np.column_stack(columns)
    if len(rows) < len(columns) or np.linalg.matrix_rank(design) < len(columns):
        raise NoOptimum(
            f"{len(rows)} runs in which CLM saved tokens do not determine {len(columns)} coefficients"
        )
    solution = np.linalg.lstsq(design, np.log(transferred), rcond=None)[0]
    if not abs(solution[0]) < 700:
        raise NoOptimum("the sizes vary too little for a power law")
    estimates = {"coefficient": float(np.exp(solution[0]))}
    estimates |= {f"{name}_exponent": float(value) for name, value in zip(varying, solution[1:], strict=True)}
    return estimates, np.log(transferred) - design @ solution, rows


def _estimate(names: frozenset[str] | None, runs: Runs) -> Estimate:
    estimates, *_ = _regression(runs)
    shares = best_shares(runs)
    if shares:
        estimates["best_clm_share"] = float(np.median(list(shares.values())))
    if names is not None and names != set(estimates):
        raise NoOptimum("the resampled runs do not determine every estimate")
    return estimates


def fit_transfer(runs: Runs, doubt: Doubt | None = None) -> TransferFit:
    """Fit MLM runs from scratch (clm_tokens 0) and after CLM, of the same model sizes."""
    doubt = doubt or Doubt()
    runs.require("seen_tokens", "clm_tokens", law=LAW)
    if set(runs.objective) - {"mlm", ""}:
        raise ValueError(f"the {LAW} law compares MLM losses: remove the runs that end in another objective")
    if not (runs.clm_tokens > 0).any() or not (runs.clm_tokens == 0).any():
        raise ValueError(f"the {LAW} law needs runs from scratch (clm_tokens 0) and runs after CLM")
    if np.ptp(runs.loss) == 0:
        raise ValueError("all losses are equal: they say nothing about transfer")
    estimates = _estimate(None, runs)
    _, residuals, used = _regression(runs)
    rows, transferred = effectively_transferred(runs)
    warnings = []
    if len(used) < len(rows):
        outside, harmed = int(np.isnan(transferred).sum()), int((transferred <= 0).sum())
        warnings.append(
            f"{len(rows) - len(used)} of {len(rows)} runs after CLM left out: {outside} with a loss that no "
            f"runs from scratch of that size bracket, {harmed} in which CLM saved nothing"
        )
    for name in _SIZES:
        if f"{name}_exponent" not in estimates:
            warnings.append(f"{name} does not vary among the runs after CLM: its exponent is unknown")
    if len(used) == len(estimates) - ("best_clm_share" in estimates):
        warnings.append("as many runs as coefficients: the residuals are zero and say nothing")
    if "best_clm_share" not in estimates:
        warnings.append(
            "no size has three shares of CLM at equal total tokens with a minimum between 0 and 1"
        )
    strata = np.char.add(runs.parameters.astype(np.str_), np.where(runs.clm_tokens > 0, " after CLM", ""))
    spreads, influences, doubts = measure(partial(_estimate, frozenset(estimates)), runs, strata, doubt)
    return TransferFit(
        law=LAW,
        runs=runs,
        estimates={**estimates, **best_shares(runs)},
        residuals=residuals,
        residual_unit="ln(tokens)",
        spreads=spreads,
        influences=influences,
        warnings=(*warnings, *doubts),
        transferred={f"row {row + 1}": float(value) for row, value in zip(rows, transferred, strict=True)},
        transferred_intervals=transferred_intervals(runs, doubt),
        used=used,
    )
