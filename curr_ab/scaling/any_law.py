"""Fit of any of the five laws, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curr_ab.scaling.fit import Fit
    from curr_ab.scaling.runs import Runs
    from curr_ab.scaling.uncertainty import Doubt

LAWS = ("iso-data", "isoflop", "parametric", "repeated-data", "transfer")


def fit_law(
    runs: Runs, law: str, doubt: Doubt, data: str | None = None, project_to: float | None = None
) -> Fit:
    """Fit the law called `law`; an option of another law is refused."""
    from curr_ab import scaling
    from curr_ab.scaling.iso_data import PROJECTED_PARAMETERS

    if data is not None and law != "parametric":
        raise ValueError(f"--data belongs to the parametric law, not to {law}")
    if project_to is not None and law != "iso-data":
        raise ValueError(f"--project-to belongs to the iso-data law, not to {law}")
    if law == "iso-data":
        return scaling.fit_iso_data(runs, doubt, project_to or PROJECTED_PARAMETERS)
    if law == "parametric":
        return scaling.fit_parametric(runs, doubt, data=data or "seen_tokens")  # type: ignore[arg-type]
    fits = {
        "isoflop": scaling.fit_isoflop,
        "repeated-data": scaling.fit_repeated_data,
        "transfer": scaling.fit_transfer,
    }
    return fits[law](runs, doubt)
