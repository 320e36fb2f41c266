"""Scaling laws: fits with their uncertainty, advice on sizes and data, plans for further runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curr_ab.extras import lazy_names

if TYPE_CHECKING:
    from curr_ab.scaling.advice import Advice, Question, advise
    from curr_ab.scaling.curves import read_curves
    from curr_ab.scaling.doubt import Doubt
    from curr_ab.scaling.iso_data import IsoDataFit, fit_iso_data
    from curr_ab.scaling.isoflop import IsoFlopFit, fit_isoflop
    from curr_ab.scaling.log_loss import LogLossFit
    from curr_ab.scaling.next_runs import Plan, plan_iso_data
    from curr_ab.scaling.parametric import fit_parametric
    from curr_ab.scaling.plots import plot_fit, save_plots
    from curr_ab.scaling.repeated_data import fit_repeated_data
    from curr_ab.scaling.reproduction import Reproduced, reproduce
    from curr_ab.scaling.runs import COLUMNS, Runs, make_runs, published_runs, read_measured_runs, read_runs
    from curr_ab.scaling.spending import Prices, Purchase, Spending, spend
    from curr_ab.scaling.spending_runs import Trials, plan_spending
    from curr_ab.scaling.transfer import TransferFit, fit_transfer
    from curr_ab.scaling.uncertainty import Fit, Interval, NoOptimum, Profile, Spread

# Imported when first asked for: the command line must start without scipy or matplotlib.
_HOMES = {
    "advice": ("Advice", "Question", "advise"),
    "curves": ("read_curves",),
    "doubt": ("Doubt",),
    "iso_data": ("IsoDataFit", "fit_iso_data"),
    "isoflop": ("IsoFlopFit", "fit_isoflop"),
    "log_loss": ("LogLossFit",),
    "parametric": ("fit_parametric",),
    "next_runs": ("Plan", "plan_iso_data"),
    "plots": ("plot_fit", "save_plots"),
    "repeated_data": ("fit_repeated_data",),
    "reproduction": ("Reproduced", "reproduce"),
    "runs": ("COLUMNS", "Runs", "make_runs", "published_runs", "read_runs", "read_measured_runs"),
    "spending": ("Prices", "Purchase", "Spending", "spend"),
    "spending_runs": ("Trials", "plan_spending"),
    "transfer": ("TransferFit", "fit_transfer"),
    "uncertainty": ("Fit", "Interval", "NoOptimum", "Profile", "Spread"),
}
_LAZY = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [
    "COLUMNS",
    "Advice",
    "Doubt",
    "Fit",
    "Interval",
    "IsoDataFit",
    "IsoFlopFit",
    "LogLossFit",
    "NoOptimum",
    "Plan",
    "Prices",
    "Profile",
    "Purchase",
    "Question",
    "Reproduced",
    "Runs",
    "Spending",
    "Spread",
    "TransferFit",
    "Trials",
    "advise",
    "fit_iso_data",
    "fit_isoflop",
    "fit_parametric",
    "fit_repeated_data",
    "fit_transfer",
    "make_runs",
    "plan_iso_data",
    "plan_spending",
    "plot_fit",
    "published_runs",
    "read_curves",
    "read_measured_runs",
    "read_runs",
    "reproduce",
    "save_plots",
    "spend",
]

__getattr__, __dir__ = lazy_names(__name__, _LAZY, extra="scaling")
