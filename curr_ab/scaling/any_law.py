"""Fit of any of the five laws, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from curr_ab.options import OptionError

if TYPE_CHECKING:
    from curr_ab.scaling.doubt import Doubt
    from curr_ab.scaling.fit import Fit
    from curr_ab.scaling.runs import Runs

Law = Literal["iso-data", "isoflop", "parametric", "repeated-data", "transfer"]
DataColumn = Literal["seen_tokens", "unique_tokens", "sequences"]


def fit_law(
    runs: Runs, law: Law, doubt: Doubt, data: DataColumn | None = None, project_to: float | None = None
) -> Fit:
    """Fit the law called `law`; an option of another law is refused."""
    from curr_ab import scaling
    from curr_ab.scaling.iso_data import PROJECTED_PARAMETERS

    if data is not None and law != "parametric":
        raise OptionError(f"data must be none for the law {law}; only parametric has a choice", "data")
    if project_to is not None and law != "iso-data":
        raise OptionError(f"project_to must be none for the law {law}; only iso-data projects", "project_to")
    if law == "iso-data":
        return scaling.fit_iso_data(runs, doubt, project_to or PROJECTED_PARAMETERS)
    if law == "parametric":
        return scaling.fit_parametric(runs, doubt, data=data or "seen_tokens")
    fits = {
        "isoflop": scaling.fit_isoflop,
        "repeated-data": scaling.fit_repeated_data,
        "transfer": scaling.fit_transfer,
    }
    return fits[law](runs, doubt)
