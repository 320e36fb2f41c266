"""A run beside the baselines on the same folds: differences, paired tests, and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from curr_ab.files import read_object, write_json
from curr_ab.measures.fold_comparison import compare_predictions
from curr_ab.measures.fold_predictions import BESIDE, RunPredictions, fold_folder, read_run
from curr_ab.measures.metrics import metrics_for, score
from curr_ab.measures.statistics import CONFIDENCE, mean_and_standard_error
from curr_ab.quantities import format_duration, format_value
from curr_ab.words import Target

COMPARISON = "comparison.json"
FORMAT = "curr-ab finetuning comparison 1"
SECONDS = "seconds.json"
PROBE = "probe"  # stands beside other methods; it reads the member, so it is no baseline
GUESSES: dict[Target, str] = {"classes": "majority", "residues": "majority", "number": "mean"}
# The metric by which methods are compared, the same for all of a target.
HEADLINES: dict[Target, str] = {"classes": "auroc", "residues": "aupr", "number": "spearman"}


@dataclass(frozen=True)
class Row:
    """One method or baseline: mean and standard error over folds, and the distance to the best baseline."""

    name: str
    kind: Literal["run", "probe", "baseline"]
    value: float
    error: float | None
    seconds: float | None
    difference: float | None = None  # from the best baseline
    low: float | None = None
    high: float | None = None
    p_folds: float | None = None
    p_predictions: float | None = None

    @property
    def p(self) -> float | None:
        """Of the test over folds; of a single fold, of the test over its predictions."""
        return self.p_predictions if self.p_folds is None else self.p_folds


@dataclass(frozen=True)
class Comparison:
    """All rows, best first, and what they say."""

    metric: str
    num_folds: int
    best_baseline: str
    sentence: str
    rows: tuple[Row, ...]
    column: str | None = None  # where several are learnt at once


def write_comparisons(folder: Path, comparisons: Sequence[Comparison]) -> None:
    """Write them into one file; of a run of several columns there is one for each."""
    columns = [asdict(one) for one in comparisons]
    if comparisons[0].column is None:
        [only] = columns
        del only["column"]
        write_json(folder / COMPARISON, {"format": FORMAT, **only})
    else:
        write_json(folder / COMPARISON, {"format": FORMAT, "columns": columns})


def read_comparisons(folder: Path) -> list[Comparison]:
    """The comparison of a run, or those of its columns."""
    content = read_object(folder / COMPARISON)
    content.pop("format")
    return [
        Comparison(**{**one, "rows": tuple(Row(**row) for row in one["rows"])})
        for one in content.get("columns", [content])
    ]


def compare_beside(folder: Path, method: str, column: str | None = None) -> Comparison:
    """The finished run in `folder`, called by its method, and everything that stands beside it.

    Of a run of several columns it is about one.
    """
    run = read_run(folder, column=column)
    metric = HEADLINES[run.target]
    names = [path.name for path in sorted((folder / BESIDE).iterdir())]
    others = {name: read_run(folder, column=column, beside=name) for name in names}
    values = {name: _means(other, metric) for name, other in others.items()}
    baselines = [name for name in others if name != PROBE]
    best = max(baselines, key=lambda name: values[name][0])
    rows = [_row(method, "run", run, others[best], metric, _seconds(folder, run))]
    for name, other in others.items():
        kind: Literal["probe", "baseline"] = "probe" if name == PROBE else "baseline"
        seconds = _seconds(folder / BESIDE / name, run)
        if name == best:
            rows.append(Row(name, kind, *values[name], seconds))
        else:
            rows.append(_row(name, kind, other, others[best], metric, seconds))
    sentence = _sentence(rows[0], best, values[best], metric, len(run.folds))
    if column is not None:
        sentence = f"{column}: {sentence}"
    rows.sort(key=lambda row: -row.value)
    return Comparison(metric, len(run.folds), best, sentence, tuple(rows), column)


def _means(run: RunPredictions, metric: str) -> tuple[float, float | None]:
    found = metrics_for(run.target, len(run.label_names))[metric]
    return mean_and_standard_error([score(found, fold.labels, fold.predictions) for fold in run.folds])


def _row(
    name: str,
    kind: Literal["run", "probe", "baseline"],
    run: RunPredictions,
    best: RunPredictions,
    metric: str,
    seconds: float | None,
) -> Row:
    compared = compare_predictions(run, best, metrics=[metric])
    [found] = compared.metrics
    over = found.over_folds
    return Row(
        name,
        kind,
        found.first,
        found.first_error,
        seconds,
        difference=found.first - found.second,
        low=None if over is None else over.low,
        high=None if over is None else over.high,
        p_folds=None if over is None else over.p,
        p_predictions=found.p_predictions,
    )


def _seconds(folder: Path, run: RunPredictions) -> float | None:
    """Time of all folds, where it is known of each."""
    paths = [fold_folder(folder, fold.number) / SECONDS for fold in run.folds]
    if not all(path.exists() for path in paths):
        return None
    return sum(float(read_object(path)["seconds"]) for path in paths)


def write_seconds(folder: Path, seconds: float) -> None:
    """Beside the results of a fold, which are the same whatever the time."""
    write_json(folder / SECONDS, {"seconds": round(seconds, 3)})


def _sentence(row: Row, best: str, of_best: tuple[float, float | None], metric: str, folds: int) -> str:
    assert row.difference is not None and row.p is not None
    beats = row.p < 1 - CONFIDENCE
    verdict = "cannot be told apart from"
    if beats:
        verdict = "beats" if row.difference > 0 else "is worse than"
    interval = "" if row.low is None else f", 95% from {row.low:+.3f} to {row.high:+.3f}"
    test = "corrected t-test over folds" if row.p_folds is not None else "permutations of the predictions"
    counted = "1 fold" if folds == 1 else f"{folds} folds"
    return (
        f"{row.name} {verdict} the best baseline, {best}: {metric} {row.value:.3f} against {of_best[0]:.3f} "
        f"(difference {row.difference:+.3f}{interval}; p = {row.p:.2g}, {test}, {counted})."
    )


def table_of(comparison: Comparison) -> tuple[Sequence[str], list[list[str]]]:
    """Header and rows of the table that people read."""
    against = f"minus {comparison.best_baseline}"
    header = ["method", comparison.metric, against, "95%", "p folds", "p predictions", "time"]
    return header, [_fields(row) for row in comparison.rows]


def _fields(row: Row) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    interval = "" if row.low is None else f"{row.low:+.3f} to {row.high:+.3f}"
    return [
        row.name,
        format_value(row.value, row.error),
        shown(row.difference, "+.3f"),
        interval,
        shown(row.p_folds, ".2g"),
        shown(row.p_predictions, ".2g"),
        "" if row.seconds is None else format_duration(row.seconds),
    ]
