"""Pictures of the loss by region: several models side by side, as in the paper's third figure."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curr_ab.evaluation.plan import SuitePlan
from curr_ab.evaluation.run import read_record
from curr_ab.family import MEMBERS
from curr_ab.pictures import MARKERS, add_legend, colours, new_figure, save_pictures, set_title
from curr_ab.words import REGIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Summary = dict[tuple[str, str], dict[str, float]]  # by place and group


def draw_regions(folder: Path, record: Mapping[str, Any]) -> None:
    """The figures of all measurements in `folder` on the same pairs as that of `record`."""
    summaries = read_summaries(folder, record)
    save_pictures(region_figures(summaries), folder / "figures")


def read_summaries(folder: Path, record: Mapping[str, Any]) -> dict[str, Summary]:
    """By model, members from small to large, then the others."""
    found: dict[str, Summary] = {}
    for summary in sorted(folder.glob("*/summary.csv")):
        other = read_record(summary.parent)
        if other is not None and _pairs_of(other) == _pairs_of(record):
            name = other["model"]
            if (dtype := other["settings"]["dtype"]) != SuitePlan.dtype:
                name = f"{name} {dtype}"
            found[name if name not in found else f"{name} {other['checkpoint'][:8]}"] = _read(summary)
    order = list(MEMBERS)
    ranks = {name: (order.index(name) if name in order else len(order), name) for name in found}
    return {name: found[name] for name in sorted(found, key=ranks.__getitem__)}


def _pairs_of(record: Mapping[str, Any]) -> list[Any]:
    """Settings that must be equal in one picture: the pairs drawn, and how their chains were joined."""
    settings = record["settings"]
    names = ("split", "pairs", "seed", "separator")
    return [record["suite"], record["data"], *(settings[name] for name in names)]


def _read(path: Path) -> Summary:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (row.pop("place"), row.pop("group")): {key: float(value) for key, value in row.items()}
        for row in rows
    }


def region_figures(summaries: Mapping[str, Summary]) -> dict[str, Figure]:
    """By name: the regions of each chain, the segments of CDRH3, and mutated beside germline residues."""
    chains = ("mutated chains", "unmutated chains")
    known = {group for summary in summaries.values() for _, group in summary}
    by_chain = [group for group in chains if group in known] or ["all"]
    figures = {
        f"{chain}_regions": _figure(summaries, [f"{chain} {region}" for region in REGIONS], by_chain)
        for chain in ("heavy", "light")
    }
    segments = [f"CDRH3 {letter}" for letter in "VDNJ"]
    if any(key[0] in segments for summary in summaries.values() for key in summary):
        figures["cdrh3_segments"] = _figure(summaries, segments, by_chain)
    residues = [group for group in ("mutated residues", "germline residues") if group in known]
    if residues:
        figures["mutated_residues"] = _figure(summaries, [f"heavy {region}" for region in REGIONS], residues)
    return figures


def _figure(summaries: Mapping[str, Summary], places: Sequence[str], groups: Sequence[str]) -> Figure:
    size = (1.2 + 4.6 * len(groups), 4.2)
    figure, panels = new_figure(size, columns=len(groups), extra="finetune", sharey=True)
    for axes, group in zip(panels, groups, strict=True):
        _panel(axes, summaries, places, group)
    panels[0].set_ylabel("median loss (nats)")
    handles, labels = panels[0].get_legend_handles_labels()
    add_legend(figure, handles, labels, loc="outside right upper", title="model")
    return figure


def _panel(axes: Axes, summaries: Mapping[str, Summary], places: Sequence[str], group: str) -> None:
    """A point for each model and place, with 95 % of bootstrapped medians."""
    shades = colours(len(summaries))
    shifts = np.linspace(-0.3, 0.3, len(summaries)) if len(summaries) > 1 else [0.0]
    for number, (name, summary) in enumerate(summaries.items()):
        known = [(place, summary[one, group]) for place, one in enumerate(places) if (one, group) in summary]
        values = np.array([row["median"] for _, row in known])
        bounds = np.array([[row["low"], row["high"]] for _, row in known]).reshape(-1, 2)
        axes.errorbar(
            [place + shifts[number] for place, _ in known],
            values,
            # A median of few values may lie outside its own interval by a rounding.
            np.abs(np.stack([values - bounds[:, 0], bounds[:, 1] - values])),
            fmt=MARKERS[number % len(MARKERS)],
            color=shades[number],
            markersize=5,
            elinewidth=1,
            label=name,
        )
    axes.set_xticks(range(len(places)), [place.split(" ", 1)[1] for place in places])
    axes.set_xlim(-0.6, len(places) - 0.4)
    set_title(axes, f"{places[0].split(' ')[0]}, {group}")
    axes.grid(False, axis="x")
