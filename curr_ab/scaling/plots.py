"""Pictures of the fits: colour-blind safe, each series with a marker of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from curr_ab.files import replacing
from curr_ab.quantities import format_quantity
from curr_ab.scaling.fit import Fit
from curr_ab.scaling.iso_data import IsoDataFit, Parabola
from curr_ab.scaling.isoflop import IsoFlopFit, budget_labels
from curr_ab.scaling.log_loss import LogLossFit
from curr_ab.scaling.runs import Array, DataColumn, Runs
from curr_ab.scaling.transfer import TransferFit
from curr_ab.scaling.uncertainty import Spread

# Okabe and Ito's palette without its yellow, which is too light for lines.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_BAND = 0.18


def plot_fit(fit: Fit, data: DataColumn = "seen_tokens") -> Mapping[str, Figure]:
    """All figures of `fit`, by name; `data` is the column that a parametric fit took for D."""
    figures = {"residuals": plot_residuals(fit)}
    if isinstance(fit, IsoDataFit):
        figures |= {"loss_by_size": plot_loss_by_size(fit), "data_by_size": plot_data_by_size(fit)}
    if isinstance(fit, IsoFlopFit):
        figures["isoflop_profiles"] = plot_isoflop(fit)
    if isinstance(fit, LogLossFit) and fit.law == "parametric":
        figures["surface"] = plot_surface(fit, data)
    return figures


def save_plots(
    figures: Mapping[str, Figure], folder: Path, formats: tuple[str, ...] = ("png", "svg")
) -> list[Path]:
    """Each figure in each format; a file appears complete or not at all."""
    paths = []
    for name, figure in figures.items():
        for suffix in formats:
            path = folder / f"{name}.{suffix}"
            with replacing(path) as temporary:
                figure.savefig(temporary, format=suffix, dpi=150)
            paths.append(path)
    return paths


def _figure(width: float = 6.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def _style(index: int) -> tuple[str, str]:
    return _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]


def plot_loss_by_size(fit: IsoDataFit) -> Figure:
    """The paper's first figure: loss against size for each data size, parabola, optimum with its band."""
    return plot_losses(fit.runs, fit.parabolas, fit.spreads[-1])


def plot_losses(runs: Runs, parabolas: Mapping[int, Parabola], spread: Spread | None = None) -> Figure:
    """The same for runs of which some data sizes, or all, have no parabola with a minimum."""
    figure, axes = _figure()
    for index, sequences in enumerate(np.unique(runs.sequences).astype(int).tolist()):
        colour, marker = _style(index)
        rows = runs.sequences == sequences
        label = f"{sequences:,} sequences" + ("" if sequences in parabolas else ": no minimum")
        axes.plot(runs.parameters[rows], runs.loss[rows], marker, color=colour, ms=6, label=label)
        if sequences not in parabolas:
            continue
        parabola = parabolas[sequences]
        sizes = np.geomspace(parabola.smallest, parabola.largest, 200)
        axes.plot(sizes, parabola(sizes), color=colour)
        axes.plot(parabola.optimum, parabola.floor, "*", color=colour, ms=13, mec="black", mew=0.7)
        name = f"optimal_parameters[{sequences}]"
        if spread is not None and name in spread.samples:
            between = spread.interval(name)
            axes.axvspan(between.low, between.high, color=colour, alpha=_BAND, lw=0)
    axes.set_xlim(runs.parameters.min() / 1.6, runs.parameters.max() * 1.6)
    axes.set(xscale="log", xlabel="parameters", ylabel="loss (nats per masked token)")
    doubt = "" if spread is None else f" with 95 % of draws: {spread.method}"
    axes.set_title(f"Optimal size (star){doubt}", fontsize=10)
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    return figure


def plot_data_by_size(fit: IsoDataFit) -> Figure:
    """The paper's second figure: data against optimal size, the power law with its band, the projection."""
    figure, axes = _figure()
    spread = fit.spreads[-1]
    optima = np.array([parabola.optimum for parabola in fit.parabolas.values()])
    data = np.array(list(fit.parabolas), dtype=float)
    sizes = fit.sizes
    line = fit.line(sizes)
    axes.plot(sizes, line, color=_COLOURS[0], label=_power_law_label(fit))
    if (band := fit.band(sizes)) is not None:
        axes.fill_between(sizes, *band, color=_COLOURS[0], alpha=_BAND, lw=0, label="95 % of draws")
    axes.plot(optima, data, "o", color=_COLOURS[0], ms=7, label="optima")
    projected = fit.estimates["projected_sequences"]
    label = f"{format_quantity(fit.project_to)} parameters: {format_quantity(projected)} sequences"
    axes.plot(fit.project_to, projected, "D", color=_COLOURS[1], ms=8, label=label)
    axes.set(xscale="log", yscale="log", xlabel="optimal parameters", ylabel="training sequences")
    axes.set_ylim(min(data.min(), line.min()) / 3, max(data.max(), line.max()) * 30)
    axes.set_title(
        f"{spread.method}; {spread.share_without_optimum:.0%} of draws without an optimum", fontsize=10
    )
    axes.legend(frameon=False, loc="upper left")
    return figure


def _power_law_label(fit: IsoDataFit) -> str:
    return f"D = {fit.estimates['coefficient']:.3g} N^{fit.estimates['exponent']:.3f}"


def plot_isoflop(fit: IsoFlopFit) -> Figure:
    """Loss against size for each budget: runs, parabola, both minima."""
    figure, axes = _figure(7.2)
    labels = budget_labels(fit.points.flops)
    for index, budget in enumerate(fit.budgets):
        colour, marker = _style(index)
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
    axes.set_title(f"Optimum of the parabola (star), best run (ring); N ~ C^{exponent:.3f}", fontsize=10)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plot_surface(fit: LogLossFit, data: DataColumn) -> Figure:
    """The fitted loss over size and data, the runs, and the compute-optimal line."""
    figure, axes = _figure(7.2)
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
        axes.plot(*best, "--", color=_COLOURS[1], lw=2, label="best for C = 6 N D")
    axes.set_xlim(sizes[0], sizes[-1])
    axes.set_ylim(amounts[0], amounts[-1])
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel=data.replace("_", " "))
    axes.set_title(f"{e:.3f} + {a:.4g} / N^{alpha:.3f} + {b:.4g} / D^{beta:.3f}", fontsize=10)
    axes.legend(loc="lower right", framealpha=0.9)
    return figure


def plot_residuals(fit: Fit) -> Figure:
    """Measured minus fitted, against size."""
    figure, axes = _figure()
    runs = fit.points if isinstance(fit, IsoFlopFit) else fit.runs
    sizes = runs.parameters
    if isinstance(fit, TransferFit):
        sizes = sizes[fit.used]
    axes.axhline(0, color="black", lw=0.8)
    axes.plot(sizes, fit.residuals, "o", color=_COLOURS[0], ms=5, alpha=0.8)
    axes.set(xscale="log", xlabel="parameters", ylabel=f"measured - fitted ({fit.residual_unit})")
    axes.set_title(f"Residuals of the {fit.law} law", fontsize=10)
    return figure
