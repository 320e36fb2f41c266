"""The transfer law of a study's masked cells, from scratch and after causal ones, or why there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from curr_ab.results import Result
from curr_ab.scaling.doubt import Doubt
from curr_ab.scaling.report import to_json
from curr_ab.scaling.runs import make_runs
from curr_ab.scaling.transfer import fit_transfer

_COLUMNS = ("parameters", "sequences", "unique_tokens", "seen_tokens", "flops", "clm_tokens", "loss", "seed")


def run_of(name: str, results: Sequence[Result]) -> dict[str, Any] | None:
    """A row of the table of runs, with the cell's name and the error of its loss; None without its tokens."""
    for row in results:
        details = row.details
        if row.metric == "loss" and details.get("place") == "all" and "seen_tokens" in details:
            numbers = {key: details[key] for key in _COLUMNS[:5]}
            return {
                "cell": name,
                **numbers,
                "clm_tokens": details.get("clm_tokens", 0),
                "loss": row.value,
                "seed": str(details["training_seed"]),
                "standard_error": row.standard_error or 0.0,
            }
    return None


def fit_study_transfer(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fit as `curr-ab scaling fit --law transfer --json` writes it, with its table; empty without CLM.

    Where no law can be fitted, `problem` says why. Data sets are fitted as one law if there are several.
    """
    if not any(row["clm_tokens"] for row in table):
        return {}
    values: dict[str, Any] = {"table": [dict(row) for row in table]}
    rows = [{"objective": "mlm", **{key: row[key] for key in _COLUMNS}} for row in table]
    # One data set, the largest: repeated pairs are another reason why a loss ends where it does.
    largest = max(row["sequences"] for row in table)
    try:
        runs = make_runs(row for row in rows if row["sequences"] == largest)
        fit = fit_transfer(runs, Doubt(noise_sd=_noise(table)))
    except ValueError as error:
        return values | {"problem": f"No transfer law can be fitted to these losses: {error}."}
    fitted: dict[str, Any] = json.loads(to_json(fit))
    cells = [row["cell"] for row in table if row["sequences"] == largest]
    for name in ("transferred", "transferred_intervals"):
        fitted[name] = {
            cells[int(row.removeprefix("row ")) - 1]: found for row, found in fitted[name].items()
        }
    return values | fitted


def _noise(table: Sequence[Mapping[str, Any]]) -> float | None:
    """None where seeds repeat cells, whose scatter is the noise; else the mean error over held-out pairs."""
    if len({row["seed"] for row in table}) > 1:
        return None
    errors = [row["standard_error"] for row in table if row["standard_error"] > 0]
    return sum(errors) / len(errors) if errors else None
