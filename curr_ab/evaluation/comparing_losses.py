"""The losses of two models under the same masks, pair by pair: which is lower, and more so than by chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab.data.atomic import write_parquet
from curr_ab.evaluation.measurement_record import RECORD, read_record
from curr_ab.evaluation.paired_tests import permutation_p
from curr_ab.extras import needs_extra

PAIRS = "pairs.parquet"
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
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


def write_pair_losses(folder: Path, sums: Array, counts: Array) -> None:
    """For each pair of the split, in its order, the sum of its losses and how many there are."""
    columns = {"pair": np.arange(len(sums)), "loss_sum": sums, "count": counts.astype(np.int64)}
    write_parquet(folder / PAIRS, pa.table(columns))


def is_loss(folder: str | Path) -> bool:
    """Whether the folder is of the suite `loss`."""
    record = read_record(Path(folder))
    return record is not None and record["suite"] == "loss"


def compare_losses(
    first: str | Path, second: str | Path, *, draws: int = 1_000, seed: int = 0
) -> LossComparison:
    """Compare two folders of the suite `loss`, `OUT/loss/MODEL-KEY`; they must be of the same masks.

    p is how often a difference as large is found when the models are swapped in random pairs.
    """
    with needs_extra("pretrain"):
        from curr_ab.pretraining.validation import mean_over_pairs
    one, other = _record(Path(first)), _record(Path(second))
    both = f"{first} and {second} cannot be compared"
    for what, left, right in [
        ("data", one["data"], other["data"]),
        *(
            (name, one["settings"][name], other["settings"][name])
            for name in ("split", "pairs", "draws", "seed")
        ),
    ]:
        if left != right:
            raise ValueError(f"{both}: their {what} differ ({left} and {right}); measure both with the same")
    (sums, counts), (other_sums, other_counts) = _pairs(Path(first)), _pairs(Path(second))
    if not np.array_equal(counts, other_counts):
        raise ValueError(f"{both}: they predict other residues, as a masked and a causal model do")
    gaps = sums - other_sums
    total = counts.sum()
    p = permutation_p(lambda swap: float(np.where(swap, -gaps, gaps).sum() / total), len(gaps), draws, seed)
    alike = one["model"] == other["model"]
    return LossComparison(
        f"{one['model']} ({first})" if alike else one["model"],
        f"{other['model']} ({second})" if alike else other["model"],
        one["settings"]["split"],
        len(gaps),
        mean_over_pairs(sums, counts),
        mean_over_pairs(other_sums, counts),
        mean_over_pairs(gaps, counts),
        p,
    )


def _record(folder: Path) -> dict[str, Any]:
    record = read_record(folder)
    if record is None or record["suite"] != "loss":
        raise ValueError(f"{folder} is no folder of `curr-ab evaluate loss`: its {RECORD} does not say so")
    return record


def _pairs(folder: Path) -> tuple[Array, Array]:
    if not (folder / PAIRS).is_file():
        raise ValueError(f"{folder} has no {PAIRS}; remove the folder and measure again")
    table = pq.read_table(folder / PAIRS)
    return table["loss_sum"].to_numpy(), table["count"].to_numpy().astype(np.float64)
