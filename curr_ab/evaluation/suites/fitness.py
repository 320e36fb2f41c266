"""The suite `fitness`: how well likelihoods, and few examples, rank the measured fitness of pairs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from curr_ab.evaluation.plan import FitnessPlan
from curr_ab.evaluation.subject import Subject
from curr_ab.evaluation.suites.assays import Assay, germline_distances, read_assays, read_germlines
from curr_ab.extras import needs_extra
from curr_ab.files import replacing, write_json, write_parquet
from curr_ab.inference.embedding import embed_window, encoder_of
from curr_ab.inference.records import records_of, windows
from curr_ab.inference.scoring import score
from curr_ab.inference.settings import EmbeddingPlan
from curr_ab.measures.statistics import correlate, mean_and_standard_error
from curr_ab.randomness import random_stream
from curr_ab.results import Result
from curr_ab.words import CHAINS

SCORES = ("pair", *CHAINS)  # the pair as the model sees it, and each chain without the other
SKIPPED = "skipped.json"
Array = npt.NDArray[np.float64]
Row = dict[str, Any]
_SUMMARY = pa.schema(
    [
        *((name, pa.string()) for name in ("assay", "metric", "score")),
        ("shots", pa.int32()),
        *((name, pa.float64()) for name in ("value", "standard_error", "low", "high")),
        ("pairs", pa.int32()),
        ("germline", pa.string()),
    ]
)
_WINDOW = 1024
# From next to no shrinkage to nothing but the mean; features have unit variance.
_ALPHAS = np.logspace(-1, 6, 15)


@dataclass(frozen=True)
class FitnessData:
    """What is to be ranked, and from which germlines distances are counted where they are given."""

    assays: Sequence[Assay]
    germlines: Mapping[str, str] | None
    fingerprint: str


def open_data(plan: FitnessPlan, sources: list[str]) -> FitnessData:
    """All assays, with the direction of each."""
    found = read_assays(sources, plan.direction)
    germlines = None if plan.germlines is None else read_germlines(plan.germlines)
    text = json.dumps([found.fingerprint, germlines])
    return FitnessData(found.assays, germlines, sha256(text.encode()).hexdigest())


def measure(
    subject: Subject, plan: FitnessPlan, data: FitnessData, folder: Path, say: Callable[[str], None]
) -> list[Result]:
    """Correlations of every assay that is large enough, then their means over assays."""
    skipped = {assay.name: reason for assay in data.assays if (reason := _reason_to_skip(assay, plan))}
    write_json(folder / SKIPPED, skipped)
    for name, reason in skipped.items():
        say(f"  skipped, {name}: {reason}")
    assays = [assay for assay in data.assays if assay.name not in skipped]
    if not assays:
        raise ValueError(f"no assay is left: {'; '.join(f'{name}: {why}' for name, why in skipped.items())}")
    model, tokenizer = subject.load()
    if model.config.is_decoder:
        raise ValueError(f"{subject.name} is a causal model: it has no pseudo-log-likelihood")
    rows: list[Row] = []
    for assay in assays:
        say(f"  {assay.name}: {_counts(assay)}")
        scores = zero_shot_scores(model, tokenizer, assay.pairs, plan)
        _write_scores(folder / "scores" / f"{assay.name}.parquet", assay, scores)
        distances = _known_distances(assay, data, plan, say)
        rows += zero_shot_rows(assay, scores, distances, plan.seed)
        features = chain_embeddings(model, tokenizer, assay.pairs)
        for shots in plan.shots:
            if len(assay.pairs) >= shots + plan.min_pairs:
                found = few_shot(features, assay.fitness, shots, plan.repeats, plan.seed)
                rows.append(
                    _row(assay, "spearman", shots=shots, value=found.value, pairs=found.num_pairs)
                    | {"standard_error": found.standard_error}
                )
    with replacing(folder / "summary.csv") as temporary:
        pyarrow.csv.write_csv(pa.Table.from_pylist(rows, _SUMMARY), temporary)
    about = subject.result_fields(plan.command("fitness"))
    about |= {"task": "fitness", "dataset": f"assays {data.fingerprint[:12]}", "split": "all"}
    return [_result(row, about) for row in [*rows, *mean_rows(rows)]]


def _counts(assay: Assay) -> str:
    merged = f", with {assay.num_repeats:,} repeats merged into their means" if assay.num_repeats else ""
    return f"{len(assay.pairs):,} pairs{merged}; {assay.num_without:,} rows have no number"


def _reason_to_skip(assay: Assay, plan: FitnessPlan) -> str:
    if len(assay.fitness) < plan.min_pairs:
        return f"{len(assay.fitness)} pairs have a fitness, fewer than {plan.min_pairs}"
    return "all fitness values are equal" if np.ptp(assay.fitness) == 0 else ""


def _known_distances(
    assay: Assay, data: FitnessData, plan: FitnessPlan, say: Callable[[str], None]
) -> dict[str, Array] | None:
    """The distances from germline; None where too few pairs have one."""
    distances = germline_distances(assay.pairs, data.germlines)
    num_known = 0 if distances is None else int(np.isfinite(distances["pair"]).sum())
    known = f"known of {num_known:,} of {len(assay.pairs):,} pairs"
    if num_known < plan.min_pairs:
        warnings.warn(
            f"{assay.name}: the distance from germline is not controlled for ({known}), and explains much of "
            "what likelihoods seem to know; bring columns mutations_heavy and mutations_light, or "
            "germlines",
            stacklevel=3,
        )
        return None
    if num_known < len(assay.pairs):
        say(f"  {assay.name}: the distance from germline is {known}, which partial-spearman is of")
    return distances


def zero_shot_scores(model: Any, tokenizer: Any, pairs: pa.Table, plan: FitnessPlan) -> dict[str, Array]:
    """Mean log-probability of the known residues: of the pair, and of each chain alone."""
    from tqdm import tqdm

    found: dict[str, list[float]] = {name: [] for name in SCORES}
    scores = score(model, tokenizer, records_of(pairs), mode=plan.mode, alone=True)
    for one in tqdm(scores, total=len(pairs), unit="pair", disable=None):
        parts = {"pair": one.log_probabilities, **one.alone}
        for name in SCORES:
            found[name].append(float(parts[name].double().nanmean()))
    return {name: np.array(values) for name, values in found.items()}


def zero_shot_rows(
    assay: Assay, scores: Mapping[str, Array], distances: Mapping[str, Array] | None, seed: int
) -> Iterator[Row]:
    """Spearman's correlation of each score, and what is left of it beyond the distance from germline."""
    for name in SCORES:
        germline = None if distances is not None else "not controlled"
        found = correlate(scores[name], assay.fitness, seed)
        yield _row(assay, "spearman", score=name, pairs=found.num_pairs, germline=germline) | vars(found)
        if distances is not None:
            known = np.isfinite(distances[name])
            found = correlate(scores[name][known], assay.fitness[known], seed, distances[name][known])
            yield _row(assay, "partial-spearman", score=name, pairs=found.num_pairs) | vars(found)


def _row(assay: Assay, metric: str, **values: Any) -> Row:
    return {"assay": assay.name, "metric": metric, **values}


def mean_rows(rows: list[Row]) -> Iterator[Row]:
    """The mean over assays of every number that two assays or more have; assays are what is independent."""
    kinds: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row["metric"], row.get("score"), row.get("shots")), []).append(row)
    for alike in kinds.values():
        if len(alike) > 1:
            values = [row["value"] for row in alike]
            error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
            uncontrolled = any(row.get("germline") for row in alike)
            yield alike[0] | {
                "assay": None,
                "assays": len(alike),
                "value": float(np.mean(values)),
                "standard_error": error,
                "pairs": len(alike),
                "germline": "not controlled" if uncontrolled else None,
            }


def _result(row: Row, about: Mapping[str, Any]) -> Result:
    details = {
        key: row[key] for key in ("assay", "assays", "score", "shots", "germline") if row.get(key) is not None
    }
    return Result(
        metric=row["metric"],
        value=row["value"],
        standard_error=row["standard_error"],
        num_items=row["pairs"],
        details=details,
        **about,
    )


def _write_scores(path: Path, assay: Assay, scores: Mapping[str, Array]) -> None:
    table = assay.pairs.select(["id", "record"]).append_column("fitness", pa.array(assay.fitness))
    for name, values in scores.items():
        table = table.append_column(f"score_{name}", pa.array(values))
    write_parquet(path, table)


@dataclass(frozen=True)
class FewShot:
    """Rank correlation on the pairs that were not trained on: mean and standard error over training sets."""

    shots: int
    value: float
    standard_error: float | None  # none of a single training set
    num_pairs: int  # that were left to predict


def chain_embeddings(model: Any, tokenizer: Any, pairs: pa.Table) -> Array:
    """The mean over each chain's residues, side by side [pairs, 2 * width]."""
    plan = EmbeddingPlan(parts=("heavy", "light")).resolve(encoder_of(model).config.num_hidden_layers)
    rows = [
        np.concatenate(list(found.values()))
        for window in windows(records_of(pairs), _WINDOW)
        for found in embed_window(encoder_of(model), tokenizer, window, plan)
    ]
    return np.stack(rows).astype(np.float64)


def few_shot(features: Array, fitness: Array, shots: int, repeats: int, seed: int) -> FewShot:
    """Train on `shots` pairs, rank the rest; `repeats` times with other pairs."""
    from scipy.stats import spearmanr

    found = []
    for repeat in range(repeats):
        order = random_stream(seed, "few-shot", shots, repeat).permutation(len(fitness))
        train, rest = order[:shots], order[shots:]
        predicted = _ridge(features[train], fitness[train], features[rest])
        constant = np.ptp(predicted) == 0 or np.ptp(fitness[rest]) == 0  # ranks nothing
        found.append(0.0 if constant else float(spearmanr(predicted, fitness[rest]).statistic))
    return FewShot(shots, *mean_and_standard_error(found), len(fitness) - shots)


def _ridge(features: Array, fitness: Array, others: Array) -> Array:
    """Predictions for `others`; the shrinkage is that of the least error when each example is left out."""
    with needs_extra("finetune"):
        from sklearn.linear_model import RidgeCV

    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1
    fitted = RidgeCV(alphas=_ALPHAS).fit((features - mean) / scale, fitness)
    predicted: Array = fitted.predict((others - mean) / scale)
    return predicted
