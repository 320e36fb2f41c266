"""Two fine-tunings on the same folds of the same examples: which is better, and more so than by chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab.evaluation.run import RECORD, read_record
from curr_ab.extras import needs_extra
from curr_ab.files import write_parquet
from curr_ab.measures.fold_predictions import RunPredictions, read_run
from curr_ab.measures.metrics import Labels, Metric, metrics_for, quick_score, scorer, swappable
from curr_ab.measures.statistics import (
    FoldTest,
    Swaps,
    corrected_t,
    exact_mcnemar,
    mean_and_standard_error,
    permutation_p,
)

DRAWS = 1_000
PAIRS = "pairs.parquet"
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MetricComparison:
    """One metric of both: means over folds, and two tests that ask different questions.

    `over_folds` tells whether the difference would stay with other training data; `p_predictions` whether
    these very models would differ on other examples.
    """

    metric: str
    first: float
    first_error: float | None
    second: float
    second_error: float | None
    over_folds: FoldTest | None  # none of a single fold
    p_predictions: float
    test_of_predictions: Literal["exact McNemar", "permutation"]


@dataclass(frozen=True)
class Comparison:
    """Two runs; differences are first minus second."""

    first: str
    second: str
    task: str
    num_folds: int
    num_pairs: int
    units: str  # what was swapped
    num_units: int
    metrics: tuple[MetricComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        content = asdict(self)
        for row, metric in zip(content["metrics"], self.metrics, strict=True):
            row["over_folds"] = metric.over_folds._asdict() if metric.over_folds else None
        return {"format": "curr-ab comparison 1", **content}


def compare_runs(
    first: str | Path,
    second: str | Path,
    *,
    metrics: Sequence[str] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare the folders of two fine-tunings by some metrics, or all; they must have the same folds."""
    one, other = read_run(first), read_run(second)
    _refuse_what_cannot_be_paired(one, other)
    known = metrics_for(one.target, len(one.label_names))
    if unknown := [name for name in metrics if name not in known]:
        raise ValueError(f"{unknown[0]!r} is no metric of these runs; they have {', '.join(known)}")
    if draws < 1:
        raise ValueError(f"{draws} draws are none")
    num_units, units = _units(one)
    rows = tuple(
        _compare(name, known[name], one, other, units, num_units, draws, seed) for name in metrics or known
    )
    pairs = sum(len(fold.ids) for fold in one.folds)
    kind = "groups" if one.grouped else "pairs"
    return Comparison(
        _title(one, other), _title(other, one), one.task, len(one.folds), pairs, kind, num_units, rows
    )


def _title(run: RunPredictions, beside: RunPredictions) -> str:
    return run.model if run.model != beside.model else f"{run.model} ({run.folder})"


def _refuse_what_cannot_be_paired(one: RunPredictions, other: RunPredictions) -> None:
    both = f"{one.folder} and {other.folder}"
    for what, differ in {
        "targets": (one.target, other.target),
        "labels": (", ".join(one.label_names), ", ".join(other.label_names)),
        "examples (fingerprints)": (one.examples, other.examples),
        "numbers of folds": (len(one.folds), len(other.folds)),
    }.items():
        if differ[0] != differ[1]:
            raise ValueError(f"{both} cannot be compared: their {what} differ ({differ[0]} and {differ[1]})")
    for left, right in zip(one.folds, other.folds, strict=True):
        if left.ids != right.ids:
            strangers = sorted(set(left.ids) ^ set(right.ids)) or [left.ids[0]]
            raise ValueError(
                f"{both} cannot be compared: fold {left.number} tests other pairs, such as {strangers[0]!r}; "
                "use the same seed, scheme and number of folds"
            )
        if not np.array_equal(left.labels, right.labels):
            raise ValueError(f"{both} cannot be compared: fold {left.number} has other labels")


def _units(run: RunPredictions) -> tuple[int, list[Labels]]:
    """How many are swapped, each as a whole, and the unit of each item, fold by fold."""
    names: dict[str, int] = {}
    units = []
    for fold in run.folds:
        of_pairs = np.array(
            [
                names.setdefault(group if run.grouped else f"{fold.number} {place}", len(names))
                for place, group in enumerate(fold.groups)
            ]
        )
        units.append(of_pairs[fold.pairs])
    return len(names), units


def _compare(
    name: str,
    metric: Metric,
    one: RunPredictions,
    other: RunPredictions,
    units: list[Labels],
    num_units: int,
    draws: int,
    seed: int,
) -> MetricComparison:
    score = scorer(metric)
    firsts = [score(fold.labels, fold.predictions) for fold in one.folds]
    seconds = [score(fold.labels, fold.predictions) for fold in other.folds]
    over_folds = None
    if len(firsts) > 1:
        ratio = float(np.mean([len(fold.ids) / fold.num_fitted for fold in one.folds]))
        over_folds = corrected_t(np.subtract(firsts, seconds).tolist(), ratio)

    exact = name == "accuracy" and one.target == "classes" and not one.grouped
    if exact:
        labels, mine, theirs = one.pooled_labels, one.pooled_predictions, other.pooled_predictions
        p = exact_mcnemar(mine.argmax(axis=1) == labels, theirs.argmax(axis=1) == labels)
    else:
        p = permutation_p(_difference_when_swapped(metric, one, other, units), num_units, draws, seed)
    return MetricComparison(
        name,
        *mean_and_standard_error(firsts),
        *mean_and_standard_error(seconds),
        over_folds,
        p,
        "exact McNemar" if exact else "permutation",
    )


def _difference_when_swapped(
    metric: Metric, one: RunPredictions, other: RunPredictions, units: list[Labels]
) -> Callable[[Swaps], float]:
    """The difference that is shown, a mean over folds, as it would be with some units swapped."""
    folds = [
        (left.labels, swappable(metric, left.predictions), swappable(metric, right.predictions), of_items)
        for left, right, of_items in zip(one.folds, other.folds, units, strict=True)
    ]
    num_classes = len(one.label_names)

    def difference(swapped: Swaps) -> float:
        found = []
        for labels, mine, theirs, of_items in folds:
            swap = swapped[of_items].reshape(-1, *[1] * (mine.ndim - 1))
            first, second = np.where(swap, theirs, mine), np.where(swap, mine, theirs)
            found.append(
                quick_score(metric, labels, first, num_classes)
                - quick_score(metric, labels, second, num_classes)
            )
        return float(np.mean(found))

    return difference


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
        from curr_ab.measures.held_out import mean_over_pairs
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
