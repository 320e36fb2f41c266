"""Plots of a prepared folder, one PNG each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.data.atomic import replacing
from curr_ab.data.describing import Description, Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"heavy": "#31688e", "light": "#e07b39"}
_SINGLE = "#31688e"
_MOST_BARS = 20


def _figure(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no window system

    figure = Figure(figsize=(6.4, 3.6), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _by_number(title: str, x_label: str, histogram: Histogram) -> Figure:
    """Shares, because chains need not be equally many."""
    figure, axes = _figure(title, x_label, "share of chains")
    for series, values in histogram.items():
        if total := sum(values.values()):
            first, last = int(min(values)), int(max(values))
            numbers = range(first, last + 1)
            shares = [values.get(number, 0) / total for number in numbers]
            axes.bar(numbers, shares, width=0.9, alpha=0.65, color=COLORS[series], label=series)
    axes.legend(frameon=False)
    return figure


def _by_name(title: str, histogram: Histogram) -> Figure:
    figure, axes = _figure(title, "", "share of chains")
    labels: list[str] = []
    for series, values in histogram.items():
        total = sum(values.values())
        largest = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:_MOST_BARS]
        places = range(len(labels), len(labels) + len(largest))
        axes.bar(places, [count / total for _, count in largest], color=COLORS[series], label=series)
        labels += [str(name) for name, _ in largest]
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8)
    axes.legend(frameon=False)
    return figure


def _cluster_sizes(sizes: Mapping[int, int]) -> Figure:
    figure, axes = _figure("Cluster sizes", "pairs in the cluster", "clusters")
    axes.plot(sorted(sizes), [sizes[size] for size in sorted(sizes)], "o", markersize=4, color=_SINGLE)
    axes.set_xscale("log")
    axes.set_yscale("log")
    return figure


def _drops(report: Mapping[str, Any]) -> Figure:
    figure, axes = _figure("Records kept and dropped, by reason", "records", "")
    counts = {"kept": report["kept"], **report["dropped"]}
    colors = [_SINGLE, *["#b03a48"] * len(report["dropped"])]
    bars = axes.barh(list(counts), list(counts.values()), color=colors)
    axes.bar_label(bars, [f" {count:,}" for count in counts.values()], fontsize=8)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, 10 * max(counts.values()))
    axes.grid(False)
    axes.invert_yaxis()
    return figure


def draw_plots(description: Description) -> dict[str, Figure]:
    """Every plot for which the data has values, under the name of its file."""
    figures = {"lengths": _by_number("Lengths", "residues", description.lengths)}
    if any(description.v_families.values()):
        figures["v_genes"] = _by_name("V-gene families", description.v_families)
    if any(description.cdr3_lengths.values()):
        figures["cdr3_lengths"] = _by_number("CDR3 lengths", "residues", description.cdr3_lengths)
    if any(description.mutations.values()):
        figures["mutations"] = _by_number("Mutation levels", description.mutation_unit, description.mutations)
    figures["cluster_sizes"] = _cluster_sizes(description.cluster_sizes)
    figures["drops"] = _drops(description.report)
    return figures


def save_plots(figures: Mapping[str, Figure], folder: Path) -> dict[str, Path]:
    """The PNG files, under the names of the plots."""
    paths = {name: folder / f"{name}.png" for name in figures}
    for name, path in paths.items():
        with replacing(path) as temporary:
            figures[name].savefig(temporary, format="png")
    return paths
