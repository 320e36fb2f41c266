"""The suite `regions`: the loss of every residue masked alone, by region, segment and mutation status."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.schema import MASK_LETTERS
from curr_ab.evaluation.measurement import Measurement, Subject, read_measurement
from curr_ab.evaluation.pair_tables import PairTable, mutation_status, read_pair_table
from curr_ab.evaluation.plan import RegionsPlan, SuitePlan
from curr_ab.family import MEMBERS
from curr_ab.files import replacing, write_parquet
from curr_ab.inference.functions import score
from curr_ab.inference.numbering import number_chain
from curr_ab.inference.records import records_of
from curr_ab.measures.metrics import Flags, Floats
from curr_ab.measures.statistics import bootstrapped_medians, mean_over_pairs, spread_of
from curr_ab.pictures import MARKERS, add_legend, colours, new_figure, save_pictures, set_title
from curr_ab.results import Result
from curr_ab.words import CHAINS, REGIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POSITIONS = "positions.parquet"
_SCHEMA = pa.schema(
    [
        ("pair", pa.int32()),
        ("id", pa.string()),
        ("chain", pa.string()),
        ("position", pa.int32()),
        ("residue", pa.string()),
        ("region", pa.string()),
        ("segment", pa.string()),
        ("chain_mutated", pa.bool_()),
        ("residue_mutated", pa.bool_()),
        ("loss", pa.float32()),
    ]
)
Summary = dict[tuple[str, str], dict[str, float]]  # by region and group
# Chains that differ from their germline, or do not; and in the former the residues that do, or do not.
GROUPS = ("all", "mutated chains", "unmutated chains", "mutated residues", "germline residues")


def open_data(plan: RegionsPlan, sources: list[str]) -> PairTable:
    """The pairs whose regions are known, from their masks or by alignment; at least two."""
    table = read_pair_table(sources, plan.split, plan.columns)
    table = replace(table, pairs=_with_masks(table.pairs))
    known = [table.pairs[name] for chain in CHAINS for name in (chain, f"region_mask_{chain}")]
    complete = pc.and_(pc.and_(*map(pc.is_valid, known[:2])), pc.and_(*map(pc.is_valid, known[2:])))
    pairs = table.pairs.filter(complete)
    if len(pairs) < 2:
        raise ValueError(
            f"{', '.join(sources)} ({table.split}): at least 2 pairs must have regions; got {len(pairs)} "
            f"of {len(table.pairs)}: both chains must be variable domains of antibodies, or bring columns "
            "region_mask_heavy and region_mask_light (docs/how-to/prepare.md)"
        )
    return replace(table, pairs=pairs)


def _with_masks(pairs: pa.Table) -> pa.Table:
    """The pairs with a region mask for each chain that has none, where alignment numbers it."""
    num_numbered = 0
    for chain in CHAINS:
        name = f"region_mask_{chain}"
        missing = pc.and_(pairs[chain].is_valid(), pairs[name].is_null()).combine_chunks()
        made = [_mask_of(text, chain) for text in pairs[chain].filter(missing).to_pylist()]
        num_numbered += len(made)
        masks = pc.replace_with_mask(pairs[name].combine_chunks(), missing, pa.array(made, pa.string()))
        pairs = pairs.set_column(pairs.schema.get_field_index(name), name, masks)
    if num_numbered:
        print(
            f"regions: {num_numbered:,} chains without a mask numbered by alignment (IMGT)", file=sys.stderr
        )
    return pairs


def _mask_of(text: str, chain: str) -> str | None:
    try:
        return number_chain(text, chain).region_mask
    except ValueError:
        return None


def measure(
    subject: Subject, plan: RegionsPlan, data: PairTable, folder: Path, say: Callable[[str], None]
) -> list[Result]:
    """Mean and median by region and group; every residue's loss stays in `positions.parquet`."""
    model, tokenizer = subject.load()
    if model.config.is_decoder:
        raise ValueError(
            f"{subject.name} must be a masked model; got a causal one, in which no residue can be masked; "
            "use the suite `loss`"
        )
    positions = position_losses(model, tokenizer, data.drawn(plan.pairs, plan.seed))
    write_parquet(folder / POSITIONS, positions)
    estimates = estimate_regions(positions, plan.seed)
    write_summary(folder / "summary.csv", estimates)
    about = subject.result_fields(plan.command("regions"))
    about |= {"task": "regions", "dataset": data.name, "split": data.split}
    return [result for estimate in estimates for result in _results(estimate, about)]


def position_losses(model: Any, tokenizer: Any, pairs: pa.Table) -> pa.Table:
    """The loss of each known residue of each pair, with all that is known of the residue."""
    from tqdm import tqdm

    status = mutation_status(pairs)
    batches = []  # columns a chain at a time: Python's own numbers of 10,000 pairs would fill the memory
    rows = zip(pairs.to_pylist(), score(model, tokenizer, records_of(pairs)), strict=True)
    for number, (row, scored) in enumerate(tqdm(rows, total=len(pairs), unit="pair", disable=None)):
        losses = (-scored.log_probabilities).numpy()
        for chain in CHAINS:
            own, length = losses[scored.tokens.residues(chain)], len(row[chain])
            region, segment, mutated = _of_residues(row, chain)
            columns = (
                *([number] * length, [scored.id] * length, [chain] * length),
                *(range(1, length + 1), list(row[chain]), region, segment),
                *([status[chain][number]] * length, mutated, own),
            )
            arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
            whole = pa.record_batch(arrays, schema=_SCHEMA)
            batches.append(whole.filter(pa.array(~np.isnan(own))))  # what is unknown has no loss
    return pa.Table.from_batches(batches, _SCHEMA)


def _of_residues(row: Mapping[str, Any], chain: str) -> tuple[list[Any], list[Any], list[Any]]:
    """Region, segment and whether it is mutated, for each residue; None where unknown."""
    length, columns = len(row[chain]), []
    meanings: dict[str, Mapping[str, Any]] = {
        "region_mask": dict(zip(MASK_LETTERS["region_mask"], REGIONS, strict=True)),
        "segment_mask": {letter: letter for letter in MASK_LETTERS["segment_mask"]},
        "mutation_mask": {"0": False, "1": True},
    }
    for mask, meaning in meanings.items():
        text = row[f"{mask}_{chain}"]
        if text is not None and len(text) != length:
            raise ValueError(
                f"pair {row['id']!r}: {mask}_{chain} must be as long as the {chain} chain, {length}; "
                f"got {len(text)} letters"
            )
        columns.append([None] * length if text is None else [meaning.get(letter) for letter in text])
    return columns[0], columns[1], columns[2]


def _results(estimate: RegionEstimate, about: Mapping[str, Any]) -> list[Result]:
    details = {"place": estimate.region, "group": estimate.group}
    numbers = {
        "loss": (estimate.mean, estimate.mean_error),
        "median-loss": (estimate.median, estimate.median_error),
    }
    return [
        Result(
            metric=metric,
            value=value,
            standard_error=error,
            num_items=estimate.num_residues,
            details=details,
            **about,
        )
        for metric, (value, error) in numbers.items()
    ]


@dataclass(frozen=True, kw_only=True)
class RegionEstimate:
    """The loss of one region in one group, in nats; `low` and `high` hold 95 % of bootstrapped medians."""

    region: str
    group: str
    mean: float
    mean_error: float
    median: float
    median_error: float
    low: float
    high: float
    num_residues: int
    num_pairs: int


def regions_of(positions: pa.Table) -> Iterator[tuple[str, Flags]]:
    """Names and residues of the pair, its chains, their regions, and the segments of CDRH3."""
    chain, region, segment = (
        np.array(positions[name].to_pylist(), dtype=object) for name in ("chain", "region", "segment")
    )
    yield "pair", np.ones(len(positions), bool)
    for name in CHAINS:
        of_chain = chain == name
        yield name, of_chain
        yield f"{name} FWR", of_chain & np.isin(region, [each for each in REGIONS if "FWR" in each])
        for of_region in REGIONS:
            yield f"{name} {of_region}", of_chain & (region == of_region)
    for letter in MASK_LETTERS["segment_mask"]:
        yield f"CDRH3 {letter}", (chain == "heavy") & (region == "CDR3") & (segment == letter)


def groups_of(positions: pa.Table) -> dict[str, Flags]:
    """The residues of each group; nothing unknown is in any but the first."""
    chain, residue = (positions[name].to_pylist() for name in ("chain_mutated", "residue_mutated"))
    flags = [
        (True, mine is True, mine is False, mine is True and its is True, mine is True and its is False)
        for mine, its in zip(chain, residue, strict=True)
    ]
    return dict(zip(GROUPS, np.array(flags, bool).reshape(-1, len(GROUPS)).T, strict=True))


def estimate_regions(positions: pa.Table, seed: int) -> list[RegionEstimate]:
    """Every region in every group that has residues of at least two pairs."""
    losses = positions["loss"].to_numpy().astype(np.float64)
    pairs = positions["pair"].to_numpy()
    groups, estimates = groups_of(positions), []
    for region, in_region in regions_of(positions):
        for group, in_group in groups.items():
            chosen = in_region & in_group
            if len(np.unique(pairs[chosen])) > 1:
                estimates.append(
                    _estimate(losses[chosen], pairs[chosen], region=region, group=group, seed=seed)
                )
    return estimates


def _estimate(
    losses: Floats, pairs: npt.NDArray[np.int32], *, region: str, group: str, seed: int
) -> RegionEstimate:
    distinct, numbers = np.unique(pairs, return_inverse=True)
    counts = np.bincount(numbers).astype(np.float64)
    mean, mean_error = mean_over_pairs(np.bincount(numbers, losses).astype(np.float64), counts)
    spread = spread_of(bootstrapped_medians(losses, numbers, seed))
    return RegionEstimate(
        region=region,
        group=group,
        mean=mean,
        mean_error=mean_error,
        median=float(np.median(losses)),
        median_error=spread.standard_error,
        low=spread.low,
        high=spread.high,
        num_residues=len(losses),
        num_pairs=len(distinct),
    )


def write_summary(path: Path, estimates: Sequence[RegionEstimate]) -> None:
    """The estimates as a table, intervals included; the file calls the region `place`."""
    names = [field.name for field in fields(RegionEstimate)]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["place" if name == "region" else name for name in names])
        writer.writerows(map(astuple, estimates))


def draw(folder: Path, measurement: Measurement) -> None:
    """Draw all measurements in `folder` on the same pairs as this one, side by side."""
    save_pictures(region_figures(read_summaries(folder, measurement)), folder / "figures")


def read_summaries(folder: Path, measurement: Measurement) -> dict[str, Summary]:
    """Summaries by model, members from small to large, then the others."""
    summaries: dict[str, Summary] = {}
    for path in sorted(folder.glob("*/summary.csv")):
        other = read_measurement(path.parent)
        if other is not None and _pairs_of(other) == _pairs_of(measurement):
            name = other.model
            if (dtype := other.settings["dtype"]) != SuitePlan.dtype:
                name = f"{name} {dtype}"
            summaries[name if name not in summaries else f"{name} {other.checkpoint[:8]}"] = _read(path)
    order = list(MEMBERS)
    ranks = {name: (order.index(name) if name in order else len(order), name) for name in summaries}
    return {name: summaries[name] for name in sorted(summaries, key=ranks.__getitem__)}


def _pairs_of(measurement: Measurement) -> list[Any]:
    """All that must be equal in one picture: the pairs that were drawn, and how their chains were joined."""
    names = ("split", "pairs", "seed", "separator")
    return [measurement.suite, measurement.data, *(measurement.settings[name] for name in names)]


def _read(path: Path) -> Summary:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (row.pop("place"), row.pop("group")): {key: float(value) for key, value in row.items()}
        for row in rows
    }


def region_figures(summaries: Mapping[str, Summary]) -> dict[str, Figure]:
    """Figures by name: regions of each chain, segments of CDRH3, mutated beside germline residues."""
    chains = ("mutated chains", "unmutated chains")
    known = {group for summary in summaries.values() for _, group in summary}
    by_chain = [group for group in chains if group in known] or ["all"]
    figures = {
        f"{chain}_regions": _figure(summaries, [f"{chain} {region}" for region in REGIONS], by_chain)
        for chain in CHAINS
    }
    segments = [f"CDRH3 {letter}" for letter in MASK_LETTERS["segment_mask"]]
    if any(key[0] in segments for summary in summaries.values() for key in summary):
        figures["cdrh3_segments"] = _figure(summaries, segments, by_chain)
    residues = [group for group in ("mutated residues", "germline residues") if group in known]
    if residues:
        figures["mutated_residues"] = _figure(summaries, [f"heavy {region}" for region in REGIONS], residues)
    return figures


def _figure(summaries: Mapping[str, Summary], regions: Sequence[str], groups: Sequence[str]) -> Figure:
    size = (1.2 + 4.6 * len(groups), 4.2)
    figure, panels = new_figure(size, columns=len(groups), extra="evaluate", sharey=True)
    for axes, group in zip(panels, groups, strict=True):
        _panel(axes, summaries, regions, group)
    panels[0].set_ylabel("median loss (nats)")
    handles, labels = panels[0].get_legend_handles_labels()
    add_legend(figure, handles, labels, loc="outside right upper", title="model")
    return figure


def _panel(axes: Axes, summaries: Mapping[str, Summary], regions: Sequence[str], group: str) -> None:
    """A point for each model and region, with 95 % of bootstrapped medians."""
    shades = colours(len(summaries))
    shifts = np.linspace(-0.3, 0.3, len(summaries)) if len(summaries) > 1 else [0.0]
    for number, (name, summary) in enumerate(summaries.items()):
        known = [
            (index, summary[region, group])
            for index, region in enumerate(regions)
            if (region, group) in summary
        ]
        values = np.array([row["median"] for _, row in known])
        bounds = np.array([[row["low"], row["high"]] for _, row in known]).reshape(-1, 2)
        axes.errorbar(
            [index + shifts[number] for index, _ in known],
            values,
            # A median of few values may lie outside its own interval by a rounding.
            np.abs(np.stack([values - bounds[:, 0], bounds[:, 1] - values])),
            fmt=MARKERS[number % len(MARKERS)],
            color=shades[number],
            markersize=5,
            elinewidth=1,
            label=name,
        )
    axes.set_xticks(range(len(regions)), [region.split(" ", 1)[1] for region in regions])
    axes.set_xlim(-0.6, len(regions) - 0.4)
    set_title(axes, f"{regions[0].split(' ')[0]}, {group}")
    axes.grid(False, axis="x")
