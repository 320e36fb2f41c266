"""The suite `regions`: the loss of every residue masked alone, by region, segment and mutation status."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.schema import MASK_LETTERS
from curr_ab.evaluation.pair_tables import PairTable, mutation_status, read_pair_table
from curr_ab.evaluation.plan import RegionsPlan
from curr_ab.evaluation.subject import Subject
from curr_ab.files import replacing, write_parquet
from curr_ab.inference.records import records_of
from curr_ab.inference.scoring import score
from curr_ab.measures.held_out import mean_over_pairs
from curr_ab.randomness import random_stream
from curr_ab.results import Result
from curr_ab.words import CHAINS, REGIONS

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
DRAWS = 500
_DRAWS_AT_ONCE = 50
# Chains that differ from their germline, or do not; and in the former the residues that do, or do not.
GROUPS = ("all", "mutated chains", "unmutated chains", "mutated residues", "germline residues")
Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def open_data(plan: RegionsPlan, sources: list[str]) -> PairTable:
    """The pairs whose regions are known; without any there is nothing to tell."""
    found = read_pair_table(sources, plan.split)
    known = [found.pairs[name] for chain in CHAINS for name in (chain, f"region_mask_{chain}")]
    complete = pc.and_(pc.and_(*map(pc.is_valid, known[:2])), pc.and_(*map(pc.is_valid, known[2:])))
    pairs = found.pairs.filter(complete)
    if len(pairs) < 2:
        raise ValueError(
            f"{', '.join(sources)} ({found.split}): {len(pairs)} of {len(found.pairs)} pairs say where their "
            "regions are, and at least 2 are needed; bring columns region_mask_heavy and region_mask_light "
            "(docs/data.md)"
        )
    return PairTable(found.name, found.split, found.fingerprint, pairs)


def measure(
    subject: Subject, plan: RegionsPlan, data: PairTable, folder: Path, say: Callable[[str], None]
) -> list[Result]:
    """Mean and median by place and group; every residue's loss stays in `positions.parquet`."""
    model, tokenizer = subject.load()
    if model.config.is_decoder:
        raise ValueError(
            f"{subject.name} is a causal model: a residue cannot be masked; use the suite `loss`"
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
    for number, (row, found) in enumerate(tqdm(rows, total=len(pairs), unit="pair", disable=None)):
        losses = (-found.log_probabilities).numpy()
        for chain in CHAINS:
            own, length = losses[found.tokens.residues(chain)], len(row[chain])
            region, segment, mutated = _of_residues(row, chain)
            columns = (
                *([number] * length, [found.id] * length, [chain] * length),
                *(range(1, length + 1), list(row[chain]), region, segment),
                *([status[chain][number]] * length, mutated, own),
            )
            arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
            whole = pa.record_batch(arrays, schema=_SCHEMA)
            batches.append(whole.filter(pa.array(~np.isnan(own))))  # what is unknown has no loss
    return pa.Table.from_batches(batches, _SCHEMA)


def _of_residues(row: Mapping[str, Any], chain: str) -> tuple[list[Any], list[Any], list[Any]]:
    """Region, segment and whether it is mutated, for each residue; None where unknown."""
    length, found = len(row[chain]), []
    meanings: dict[str, Mapping[str, Any]] = {
        "region_mask": dict(zip(MASK_LETTERS["region_mask"], REGIONS, strict=True)),
        "segment_mask": {letter: letter for letter in MASK_LETTERS["segment_mask"]},
        "mutation_mask": {"0": False, "1": True},
    }
    for mask, meaning in meanings.items():
        text = row[f"{mask}_{chain}"]
        if text is not None and len(text) != length:
            raise ValueError(f"pair {row['id']!r}: {mask}_{chain} is not as long as the {chain} chain")
        found.append([None] * length if text is None else [meaning.get(letter) for letter in text])
    return found[0], found[1], found[2]


def _results(estimate: RegionEstimate, about: Mapping[str, Any]) -> list[Result]:
    details = {"place": estimate.place, "group": estimate.group}
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


def draw(folder: Path, record: Mapping[str, Any]) -> None:
    """Pictures of all models that were measured like this one, side by side."""
    from curr_ab.evaluation.suites.region_figures import draw_regions

    draw_regions(folder, record)


@dataclass(frozen=True)
class RegionEstimate:
    """The loss at one place in one group, in nats; `low` and `high` hold 95 % of bootstrapped medians."""

    place: str
    group: str
    mean: float
    mean_error: float
    median: float
    median_error: float
    low: float
    high: float
    num_residues: int
    num_pairs: int


def places_of(positions: pa.Table) -> Iterator[tuple[str, Flags]]:
    """Every place by name, and which residues lie in it: chains, regions, segments of CDRH3."""
    chain, region, segment = (
        np.array(positions[name].to_pylist(), dtype=object) for name in ("chain", "region", "segment")
    )
    yield "pair", np.ones(len(positions), bool)
    for one in CHAINS:
        yield one, chain == one
        yield f"{one} FWR", (chain == one) & np.isin(region, [name for name in REGIONS if "FWR" in name])
        for name in REGIONS:
            yield f"{one} {name}", (chain == one) & (region == name)
    for letter in MASK_LETTERS["segment_mask"]:
        yield f"CDRH3 {letter}", (chain == "heavy") & (region == "CDR3") & (segment == letter)


def groups_of(positions: pa.Table) -> dict[str, Flags]:
    """Which residues are in each group; nothing unknown is in any but the first."""
    chain, residue = (positions[name].to_pylist() for name in ("chain_mutated", "residue_mutated"))
    flags = [
        (True, mine is True, mine is False, mine is True and its is True, mine is True and its is False)
        for mine, its in zip(chain, residue, strict=True)
    ]
    return dict(zip(GROUPS, np.array(flags, bool).reshape(-1, len(GROUPS)).T, strict=True))


def estimate_regions(positions: pa.Table, seed: int) -> list[RegionEstimate]:
    """Every place in every group that has residues of at least two pairs."""
    losses = positions["loss"].to_numpy().astype(np.float64)
    pairs = positions["pair"].to_numpy()
    groups, found = groups_of(positions), []
    for place, at_place in places_of(positions):
        for group, in_group in groups.items():
            chosen = at_place & in_group
            if len(np.unique(pairs[chosen])) > 1:
                found.append(_estimate(place, group, losses[chosen], pairs[chosen], seed))
    return found


def _estimate(
    place: str, group: str, losses: Array, pairs: npt.NDArray[np.int32], seed: int
) -> RegionEstimate:
    distinct, numbers = np.unique(pairs, return_inverse=True)
    counts = np.bincount(numbers).astype(np.float64)
    mean, mean_error = mean_over_pairs(np.bincount(numbers, losses).astype(np.float64), counts)
    medians = bootstrapped_medians(losses, numbers, seed)
    low, high = np.percentile(medians, [2.5, 97.5])
    return RegionEstimate(
        *(place, group, mean, mean_error, float(np.median(losses)), float(medians.std(ddof=1))),
        *(float(low), float(high), len(losses), len(distinct)),
    )


def bootstrapped_medians(losses: Array, pairs: npt.NDArray[np.intp], seed: int) -> Array:
    """Medians of the residues of as many pairs, drawn with replacement; `pairs` are numbered from 0."""
    order = np.argsort(losses, kind="stable")
    values, owners = losses[order], pairs[order]
    num_pairs = int(pairs.max()) + 1
    randomness = random_stream(seed, "bootstrap")
    medians = []
    for _ in range(DRAWS // _DRAWS_AT_ONCE):
        drawn = randomness.multinomial(num_pairs, np.full(num_pairs, 1 / num_pairs), _DRAWS_AT_ONCE)
        reached = np.cumsum(drawn[:, owners], axis=1)
        medians.append(values[(2 * reached < reached[:, -1:]).sum(axis=1)])
    return np.concatenate(medians)


def write_summary(path: Path, estimates: Sequence[RegionEstimate]) -> None:
    """The estimates as a table, intervals included."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(RegionEstimate)])
        writer.writeheader()
        writer.writerows(map(asdict, estimates))
