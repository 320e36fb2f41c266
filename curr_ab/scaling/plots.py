"""Pictures of the fits: colour-blind safe, each series with a marker of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import resvg_py  # noqa: F401  # with matplotlib, so that a missing library is named before a fit, not after it
from matplotlib.figure import Figure

from curr_ab.charts import Drawing
from curr_ab.pictures import COLOURS, MARKERS, add_legend, new_figure, save_pictures, set_title
from curr_ab.scaling.doubt import DataColumn
from curr_ab.scaling.iso_data import IsoDataFit
from curr_ab.scaling.isoflop import IsoFlopFit, budget_labels
from curr_ab.scaling.law_figures import draw_fit
from curr_ab.scaling.log_loss import LogLossFit
from curr_ab.scaling.runs import Array
from curr_ab.scaling.transfer import TransferFit
from curr_ab.scaling.uncertainty import Fit


def plot_fit(fit: Fit, data: DataColumn = "seen_tokens") -> Mapping[str, Figure | Drawing]:
    """All figures of `fit`, by name; `data` is the column that a parametric fit took for D."""
    figures: dict[str, Figure | Drawing] = {"residuals": plot_residuals(fit)}
    if isinstance(fit, IsoDataFit):
        figures |= draw_fit(fit)
    if isinstance(fit, IsoFlopFit):
        figures["isoflop_profiles"] = plot_isoflop(fit)
    if isinstance(fit, LogLossFit) and fit.law == "parametric":
        figures["surface"] = plot_surface(fit, data)
    return figures


def save_plots(
    figures: Mapping[str, Figure | Drawing], folder: Path, formats: tuple[str, ...] = ("png", "svg")
) -> list[Path]:
    """Save each figure in each format; a file appears complete or not at all."""
    return save_pictures(figures, folder, formats)


def plot_isoflop(fit: IsoFlopFit) -> Figure:
    """Loss against size for each budget: runs, parabola, both minima."""
    figure, (axes,) = new_figure((7.2, 4.4), extra="scaling")
    labels = budget_labels(fit.points.flops)
    for index, budget in enumerate(fit.budgets):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        here = fit.points.take(labels == budget.flops)
        label = f"{budget.flops:.1e} FLOPs"
        axes.plot(here.parameters, here.loss, marker, color=colour, ms=5, label=label)
        sizes = np.geomspace(budget.parabola.smallest, budget.parabola.largest, 200)
        axes.plot(sizes, budget.parabola(sizes), color=colour)
        axes.plot(
            budget.parabola.optimum, budget.parabola.floor, "*", color=colour, ms=13, mec="black", mew=0.7
        )
        axes.plot(budget.best_parameters, budget.best_loss, "o", mfc="none", mec="black", ms=11)
    axes.set(xscale="log", xlabel="parameters", ylabel="loss (nats per token)")
    exponent = fit.estimates["parameters_exponent"]
    set_title(axes, f"Optimum of the parabola (star), best run (ring); N ~ C^{exponent:.3f}")
    add_legend(axes, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plot_surface(fit: LogLossFit, data: DataColumn) -> Figure:
    """The fitted loss over size and data, the runs, and the compute-optimal line."""
    figure, (axes,) = new_figure((7.2, 4.4), extra="scaling")
    x, y = fit.runs.parameters, getattr(fit.runs, data)
    sizes, amounts = (np.geomspace(v.min() / 1.5, v.max() * 1.5, 120) for v in (x, y))
    a, b, e, alpha, beta = (fit.estimates[name] for name in ("A", "B", "E", "alpha", "beta"))
    surface: Array = e + a / sizes[None, :] ** alpha + b / amounts[:, None] ** beta
    filled = axes.contourf(sizes, amounts, surface, levels=14, cmap="cividis_r")
    figure.colorbar(filled, ax=axes, label="fitted loss")
    axes.plot(x, y, "o", color="white", mec="black", ms=5, label="runs")
    if "parameters_exponent" in fit.estimates:
        flops = np.geomspace(6 * sizes[0] * amounts[0], 6 * sizes[-1] * amounts[-1], 100)
        best = [
            fit.estimates[f"{name}_coefficient"] * flops ** fit.estimates[f"{name}_exponent"]
            for name in ("parameters", "tokens")
        ]
        axes.plot(*best, "--", color=COLOURS[1], lw=2, label="best for C = 6 N D")
    axes.set_xlim(sizes[0], sizes[-1])
    axes.set_ylim(amounts[0], amounts[-1])
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel=data.replace("_", " "))
    set_title(axes, f"{e:.3f} + {a:.4g} / N^{alpha:.3f} + {b:.4g} / D^{beta:.3f}")
    add_legend(axes, loc="lower right", frameon=True, framealpha=0.9)
    return figure


def plot_residuals(fit: Fit) -> Figure:
    """Measured minus fitted, against size."""
    figure, (axes,) = new_figure(extra="scaling")
    runs = fit.points if isinstance(fit, IsoFlopFit) else fit.runs
    sizes = runs.parameters
    if isinstance(fit, TransferFit):
        sizes = sizes[fit.used]
    axes.axhline(0, color="black", lw=0.8)
    axes.plot(sizes, fit.residuals, "o", color=COLOURS[0], ms=5, alpha=0.8)
    axes.set(xscale="log", xlabel="parameters", ylabel=f"measured - fitted ({fit.residual_unit})")
    set_title(axes, f"Residuals of the {fit.law} law")
    return figure
