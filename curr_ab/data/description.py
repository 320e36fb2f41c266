"""Description of a prepared folder by counts: lengths, genes, CDR3s, mutations, clusters, drops."""

from __future__ import annotations

import os
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from curr_ab.data.preparing.checks import check_rows
from curr_ab.data.preparing.clean import REASONS
from curr_ab.data.preparing.splits import SPLITS
from curr_ab.data.reading.table import Recognised, summaries
from curr_ab.data.shards import TokenDataset
from curr_ab.files import replacing
from curr_ab.pages import render_page
from curr_ab.pictures import (
    CHAIN_COLOURS,
    COLOURS,
    add_legend,
    new_figure,
    plain,
    save_pictures,
    set_title,
)
from curr_ab.words import CHAINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Histogram = Mapping[str, Mapping[Any, int]]  # series, such as a chain → value → records
_MOST_BARS = 20
FOLDER_NAME = "report"
_PLOT_SIZE = (6.4, 3.6)  # inches
_PAGE_STYLE = """
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.plots img { width: 100%; }
"""


@dataclass(frozen=True)
class Description:
    """Histograms by name, and the report of the preparation."""

    folder: Path
    index: Mapping[str, Any]
    lengths: Histogram
    cdr3_lengths: Histogram
    v_families: Histogram
    mutations: Histogram
    mutation_unit: str

    @property
    def report(self) -> Mapping[str, Any]:
        """Counts that the preparation left in `dataset.json`."""
        return dict(self.index["report"])

    @property
    def sources(self) -> list[tuple[str, list[str]]]:
        """Layout that was recognised of each source, and the fate of its rows."""
        return summaries([Recognised(**one) for one in self.index.get("recognised", ())])

    @property
    def cluster_sizes(self) -> dict[int, int]:
        """Pairs in a cluster → clusters."""
        return {int(size): count for size, count in self.report["cluster_sizes"].items()}


def _count(counter: Counter[Any], values: pa.ChunkedArray) -> None:
    for item in pc.value_counts(values.drop_null()).to_pylist():
        counter[item["values"]] += item["counts"]


def _family(calls: pa.ChunkedArray) -> pa.ChunkedArray:
    """IGHV3 of IGHV3-23*01."""
    return pc.replace_substring_regex(calls, "[-*/,S].*$", "")


def describe(folder: str | os.PathLike[str], *, progress: bool = False) -> Description:
    """Counts over all splits, read file by file."""
    from tqdm import tqdm

    path = Path(folder)
    index = TokenDataset(path).index
    counters: dict[str, dict[str, Counter[Any]]] = defaultdict(lambda: {chain: Counter() for chain in CHAINS})
    shards = [entry["name"] for split in SPLITS for entry in index["splits"][split]]
    names = ("cdr3", "v_call", "mutations", "v_identity")
    columns = [*CHAINS, *(f"{name}_{chain}" for name in names for chain in CHAINS)]
    for shard in tqdm(shards, desc="describe", disable=not progress):
        for batch in pyarrow.parquet.ParquetFile(path / f"{shard}.parquet").iter_batches(columns=columns):
            table = pa.Table.from_batches([batch])
            for chain in CHAINS:
                _count(counters["lengths"][chain], pc.binary_length(table[chain]))
                _count(counters["cdr3"][chain], pc.binary_length(table[f"cdr3_{chain}"]))
                _count(counters["v_call"][chain], _family(table[f"v_call_{chain}"]))
                _count(counters["mutations"][chain], table[f"mutations_{chain}"])
                mutated = pc.multiply(pc.subtract(1.0, table[f"v_identity_{chain}"]), 100.0)
                _count(counters["v_identity"][chain], pc.round(mutated))
    counted = any(counters["mutations"].values())
    return Description(
        folder=path,
        index=index,
        lengths=counters["lengths"],
        cdr3_lengths=counters["cdr3"],
        v_families=counters["v_call"],
        mutations=counters["mutations" if counted else "v_identity"],
        mutation_unit="mutated residues" if counted else "mutated nucleotides of the V gene, per cent",
    )


def statistics(values: Mapping[Any, int]) -> dict[str, float]:
    """Number, least, median, mean and greatest of a histogram of numbers; empty where it is."""
    ordered = sorted(values)
    total = sum(values.values())
    if not total:
        return {}
    upto = accumulate(values[value] for value in ordered)
    median = next(value for value, seen in zip(ordered, upto, strict=True) if 2 * seen >= total)
    mean = sum(value * values[value] for value in ordered) / total
    return {"records": total, "min": ordered[0], "median": median, "mean": mean, "max": ordered[-1]}


def summary_rows(description: Description) -> list[tuple[str, str, dict[str, float]]]:
    """Measure, chain and statistics, where the data has them."""
    measures = {
        "length": description.lengths,
        "CDR3 length": description.cdr3_lengths,
        description.mutation_unit: description.mutations,
        "cluster size": {"": description.cluster_sizes},
    }
    return [
        (measure, series, found)
        for measure, histogram in measures.items()
        for series, values in histogram.items()
        if (found := statistics(values))
    ]


def table(description: Description) -> str:
    """The statistics and the drops as text."""
    lines = [f"{'':<45} {'records':>12} {'min':>6} {'median':>6} {'mean':>8} {'max':>6}"]
    for measure, series, found in summary_rows(description):
        figures = f"{found['records']:>12,} {found['min']:>6.0f} {found['median']:>6.0f}"
        lines.append(f"{f'{measure} {series}':<45} {figures} {found['mean']:>8.2f} {found['max']:>6.0f}")
    report = description.report
    lines += ["", f"{'split':<12} {'pairs':>12} {'clusters':>12}"]
    lines += [
        f"{split:<12} {report['pairs'][split]:>12,} {report['clusters'][split]:>12,}" for split in SPLITS
    ]
    lines += [*(f"{name}: {count}" for name, count in check_rows(report)), ""]
    for source, changes in description.sources:
        lines += [source, *(f"  {change}" for change in changes)]
    lines += [""] if description.sources else []
    lines += [f"{'dropped as':<20} {'records':>12}"]
    lines += [f"{reason:<20} {count:>12,}" for reason, count in report["dropped"].items()] or ["nothing"]
    return "\n".join(lines)


def _figure(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure, (axes,) = new_figure(_PLOT_SIZE)
    set_title(axes, title)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(False, axis="x")
    return figure, axes


def _by_number(title: str, x_label: str, histogram: Histogram) -> Figure:
    """Shares, because chains need not be equally many."""
    figure, axes = _figure(title, x_label, "share of chains")
    for series, values in histogram.items():
        if total := sum(values.values()):
            numbers = range(int(min(values)), int(max(values)) + 1)
            shares = [values.get(number, 0) / total for number in numbers]
            axes.bar(numbers, shares, width=0.9, alpha=0.65, color=CHAIN_COLOURS[series], label=series)
    add_legend(axes)
    return figure


def _by_name(title: str, histogram: Histogram) -> Figure:
    figure, axes = _figure(title, "", "share of chains")
    labels: list[str] = []
    for series, values in histogram.items():
        total = sum(values.values())
        largest = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:_MOST_BARS]
        places = range(len(labels), len(labels) + len(largest))
        axes.bar(places, [count / total for _, count in largest], color=CHAIN_COLOURS[series], label=series)
        labels += [plain(str(name)) for name, _ in largest]
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8)
    add_legend(axes)
    return figure


def _cluster_sizes(sizes: Mapping[int, int]) -> Figure:
    figure, axes = _figure("Cluster sizes", "pairs in the cluster", "clusters")
    axes.plot(sorted(sizes), [sizes[size] for size in sorted(sizes)], "o", markersize=4, color=COLOURS[0])
    axes.set_xscale("log")
    axes.set_yscale("log")
    return figure


def _drops(report: Mapping[str, Any]) -> Figure:
    figure, axes = _figure("Records kept and dropped, by reason", "records", "")
    counts = {"kept": report["kept"], **report["dropped"]}
    colors = [COLOURS[0], *[COLOURS[1]] * len(report["dropped"])]
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


def _page(description: Description, pictures: Mapping[str, Path]) -> str:
    report = description.report
    statistics = [
        (f"{measure} {series}", *(f"{value:,.2f}".removesuffix(".00") for value in found.values()))
        for measure, series, found in summary_rows(description)
    ]
    images = {
        name.replace("_", " "): b64encode(path.read_bytes()).decode() for name, path in pictures.items()
    }
    return render_page(
        "data/description.html",
        styles=(_PAGE_STYLE,),
        description=description,
        report=report,
        splits=[(name, f"{report['pairs'][name]:,}", f"{report['clusters'][name]:,}") for name in SPLITS],
        checks=check_rows(report),
        dropped=[(f"{reason}: {REASONS[reason]}", f"{n:,}") for reason, n in report["dropped"].items()],
        statistics=statistics,
        images=images,
    )


def write_report(description: Description, folder: str | os.PathLike[str]) -> Path:
    """Write the page and its pictures into `report` in the folder; returns the path of the page."""
    out = Path(folder) / FOLDER_NAME
    figures = draw_plots(description)
    pictures = dict(zip(figures, save_pictures(figures, out), strict=True))
    with replacing(out / "index.html") as temporary:
        temporary.write_text(_page(description, pictures), encoding="utf-8")
    return out / "index.html"
