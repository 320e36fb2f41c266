"""Paired tests of two losses under the same masks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab.evaluation.measurement import RECORD, Measurement, read_measurement
from curr_ab.files import write_parquet
from curr_ab.measures.fold_comparison import DRAWS
from curr_ab.measures.metrics import Flags, Floats
from curr_ab.measures.statistics import mean_over_pairs, permutation_p

PAIRS = "pairs.parquet"


@dataclass(frozen=True, kw_only=True)
class LossComparison:
    """Two losses, each with its standard error; the difference is first minus second."""

    first: str
    second: str
    split: str
    num_pairs: int
    first_loss: tuple[float, float]
    second_loss: tuple[float, float]
    difference: tuple[float, float]
    p: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"format": "curr-ab loss comparison 1", **asdict(self)}


def write_pair_losses(folder: Path, sums: Floats, counts: Floats) -> None:
    """Write the sum of its losses and their number for each pair of the split, in its order."""
    columns = {"pair": np.arange(len(sums)), "loss_sum": sums, "count": counts.astype(np.int64)}
    write_parquet(folder / PAIRS, pa.table(columns))


def is_loss(folder: str | Path) -> bool:
    """True for a folder of the suite `loss`."""
    measurement = read_measurement(Path(folder))
    return measurement is not None and measurement.suite == "loss"


def compare_losses(
    first: str | Path, second: str | Path, *, draws: int = DRAWS, seed: int = 0
) -> LossComparison:
    """Compare two folders of the suite `loss`, `OUT/loss/MODEL-KEY`; they must be of the same masks.

    p is the share of random swaps of the models, pair by pair, that make a difference as large.
    """
    one, other = _measurement(Path(first)), _measurement(Path(second))
    both = f"{first} and {second} cannot be compared"
    for name, mine, its in [
        ("data", one.data, other.data),
        *((name, one.settings[name], other.settings[name]) for name in ("split", "pairs", "draws", "seed")),
    ]:
        if mine != its:
            raise ValueError(f"{both}: {name} must be equal; got {mine} and {its}; measure them alike")
    (sums, counts), (other_sums, other_counts) = _pairs(Path(first)), _pairs(Path(second))
    if not np.array_equal(counts, other_counts):
        raise ValueError(f"{both}: they predict other residues, as a masked and a causal model do")
    gaps = sums - other_sums

    def difference(swapped: Flags) -> Floats:
        of_draws: Floats = np.where(swapped, -gaps, gaps).sum(axis=-1) / counts.sum()
        return of_draws

    alike = one.model == other.model
    return LossComparison(
        first=f"{one.model} ({first})" if alike else one.model,
        second=f"{other.model} ({second})" if alike else other.model,
        split=one.settings["split"],
        num_pairs=len(gaps),
        first_loss=mean_over_pairs(sums, counts),
        second_loss=mean_over_pairs(other_sums, counts),
        difference=mean_over_pairs(gaps, counts),
        p=permutation_p(difference, num_units=len(gaps), draws=draws, seed=seed),
    )


def _measurement(folder: Path) -> Measurement:
    measurement = read_measurement(folder)
    if measurement is None or measurement.suite != "loss":
        raise ValueError(
            f"{folder} must be a folder of `curr-ab evaluate loss`, OUT/loss/MODEL-KEY; its {RECORD} is "
            f"{'missing or broken' if measurement is None else f'of the suite {measurement.suite}'}"
        )
    return measurement


def _pairs(folder: Path) -> tuple[Floats, Floats]:
    if not (folder / PAIRS).is_file():
        raise ValueError(f"{folder} must have the file {PAIRS}; remove the folder and measure again")
    table = pq.read_table(folder / PAIRS)
    return table["loss_sum"].to_numpy(), table["count"].to_numpy().astype(np.float64)
