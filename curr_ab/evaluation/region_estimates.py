"""Mean and median loss of every region and group of residues, with errors that take pairs as independent."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curr_ab.data.atomic import replacing
from curr_ab.data.schema import CHAINS, MASK_LETTERS, REGIONS
from curr_ab.pretraining.sampling import random_stream
from curr_ab.pretraining.validation import mean_over_pairs

DRAWS = 500
_DRAWS_AT_ONCE = 50
# Chains that differ from their germline, or do not; and in the former the residues that do, or do not.
GROUPS = ("all", "mutated chains", "unmutated chains", "mutated residues", "germline residues")

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


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
