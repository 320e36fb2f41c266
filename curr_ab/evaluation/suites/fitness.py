"""The suite `fitness`: rank correlation of measured fitness with likelihoods, and after few examples."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from curr_ab.evaluation.measurement import Subject
from curr_ab.evaluation.plan import FitnessPlan
from curr_ab.evaluation.suites.assays import Assay, germline_distances, read_assays, read_germlines
from curr_ab.extras import needs_extra
from curr_ab.files import replacing, write_json, write_parquet
from curr_ab.formulas import guard_fields
from curr_ab.inference.embedding import embed_window, encoder_of
from curr_ab.inference.functions import score
from curr_ab.inference.records import records_of, windows
from curr_ab.inference.settings import EmbeddingPlan
from curr_ab.measures.metrics import Floats
from curr_ab.measures.modules.regression.core import spearman
from curr_ab.measures.statistics import correlate, mean_and_standard_error
from curr_ab.randomness import random_stream
from curr_ab.results import Result
from curr_ab.words import CHAINS

SCORES = ("pair", *CHAINS)  # the pair as the model sees it, and each chain without the other
SKIPPED = "skipped.json"
NOT_CONTROLLED = "not controlled"  # the distance from germline
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


@dataclass(frozen=True, kw_only=True)
class FitnessEstimate:
    """A rank correlation with fitness, of a score or after training on `shots` pairs; in one assay or all."""

    metric: str
    value: float
    standard_error: float | None  # None of a single training set
    num_pairs: int  # that were ranked; of a mean over assays, their number
    assay: str | None = None  # None of a mean
    assays: int | None = None
    score: str | None = None
    shots: int | None = None
    low: float | None = None  # with `high`, 95 % of the bootstrap
    high: float | None = None
    germline: str | None = None


@dataclass(frozen=True)
class FitnessData:
    """Assays to be ranked, and the germlines from which distances are counted where they are given."""

    assays: Sequence[Assay]
    germlines: Mapping[str, str] | None
    fingerprint: str


def open_data(plan: FitnessPlan, sources: list[str]) -> FitnessData:
    """All assays, with the direction of each."""
    assays = read_assays(sources, plan.direction, plan.columns)
    germlines = None if plan.germlines is None else read_germlines(plan.germlines)
    digest = sha256()
    for assay in assays:
        digest.update(repr([assay.name, assay.fitness.tolist(), assay.pairs.to_pydict()]).encode())
    text = json.dumps([digest.hexdigest(), germlines])
    return FitnessData(assays, germlines, sha256(text.encode()).hexdigest())


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
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise ValueError(f"at least one assay must be large enough; all were skipped: {reasons}")
    model, tokenizer = subject.load()
    if model.config.is_decoder:
        raise ValueError(
            f"{subject.name} must be a masked model; got a causal one, which has no pseudo-log-likelihood"
        )
    estimates: list[FitnessEstimate] = []
    for assay in assays:
        say(f"  {assay.name}: {_counts(assay)}")
        scores = zero_shot_scores(model, tokenizer, assay.pairs, plan)
        _write_scores(folder / "scores" / f"{assay.name}.parquet", assay, scores)
        distances = _known_distances(assay, data, plan, say)
        of_assay = list(zero_shot(assay, scores, distances, plan.seed))
        features = chain_embeddings(model, tokenizer, assay.pairs)
        for shots in plan.shots:
            if len(assay.pairs) >= shots + plan.min_pairs:
                of_assay.append(
                    few_shot(features, assay.fitness, shots=shots, repeats=plan.repeats, seed=plan.seed)
                )
        estimates += [replace(estimate, assay=assay.name) for estimate in of_assay]
    with replacing(folder / "summary.csv") as temporary:
        rows = [asdict(estimate) | {"pairs": estimate.num_pairs} for estimate in estimates]
        pyarrow.csv.write_csv(guard_fields(pa.Table.from_pylist(rows, _SUMMARY)), temporary)
    about = subject.result_fields(plan.command("fitness"))
    about |= {"task": "fitness", "dataset": f"assays {data.fingerprint[:12]}", "split": "all"}
    return [_result(estimate, about) for estimate in [*estimates, *means_over_assays(estimates)]]


def _counts(assay: Assay) -> str:
    merged = f", with {assay.num_repeats:,} repeats merged into their means" if assay.num_repeats else ""
    return f"{len(assay.pairs):,} pairs{merged}; {assay.num_without:,} rows have no number"


def _reason_to_skip(assay: Assay, plan: FitnessPlan) -> str:
    if len(assay.fitness) < plan.min_pairs:
        return f"{len(assay.fitness)} pairs have a fitness, fewer than {plan.min_pairs}"
    return "all fitness values are equal" if np.ptp(assay.fitness) == 0 else ""


def _known_distances(
    assay: Assay, data: FitnessData, plan: FitnessPlan, say: Callable[[str], None]
) -> dict[str, Floats] | None:
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


def zero_shot_scores(model: Any, tokenizer: Any, pairs: pa.Table, plan: FitnessPlan) -> dict[str, Floats]:
    """Mean log-probability of the known residues: of the pair, and of each chain alone."""
    from tqdm import tqdm

    means: dict[str, list[float]] = {name: [] for name in SCORES}
    scored = score(model, tokenizer, records_of(pairs), mode=plan.mode, alone=True)
    for pair in tqdm(scored, total=len(pairs), unit="pair", disable=None):
        parts = {"pair": pair.log_probabilities, **pair.alone}
        for name in SCORES:
            means[name].append(float(parts[name].double().nanmean()))
    return {name: np.array(values) for name, values in means.items()}


def zero_shot(
    assay: Assay, scores: Mapping[str, Floats], distances: Mapping[str, Floats] | None, seed: int
) -> Iterator[FitnessEstimate]:
    """Spearman's correlation of each score, and its rest beyond the distance from germline."""
    for name in SCORES:
        germline = None if distances is not None else NOT_CONTROLLED
        plain = correlate(scores[name], assay.fitness, seed)
        yield FitnessEstimate(metric="spearman", score=name, germline=germline, **vars(plain))
        if distances is not None:
            known = np.isfinite(distances[name])
            partial = correlate(scores[name][known], assay.fitness[known], seed, distances[name][known])
            yield FitnessEstimate(metric="partial-spearman", score=name, **vars(partial))


def means_over_assays(estimates: Sequence[FitnessEstimate]) -> Iterator[FitnessEstimate]:
    """The mean of every number that two assays or more have; assays are what is independent."""
    kinds: dict[tuple[Any, ...], list[FitnessEstimate]] = {}
    for estimate in estimates:
        kinds.setdefault((estimate.metric, estimate.score, estimate.shots), []).append(estimate)
    for alike in kinds.values():
        if len(alike) > 1:
            value, error = mean_and_standard_error([estimate.value for estimate in alike])
            yield FitnessEstimate(
                metric=alike[0].metric,
                score=alike[0].score,
                shots=alike[0].shots,
                assays=len(alike),
                value=value,
                standard_error=error,
                num_pairs=len(alike),
                germline=NOT_CONTROLLED if any(estimate.germline for estimate in alike) else None,
            )


def _result(estimate: FitnessEstimate, about: Mapping[str, Any]) -> Result:
    names = ("assay", "assays", "score", "shots", "germline")
    details = {name: getattr(estimate, name) for name in names if getattr(estimate, name) is not None}
    return Result(
        metric=estimate.metric,
        value=estimate.value,
        standard_error=estimate.standard_error,
        num_items=estimate.num_pairs,
        details=details,
        **about,
    )


def _write_scores(path: Path, assay: Assay, scores: Mapping[str, Floats]) -> None:
    table = assay.pairs.select(["id", "record"]).append_column("fitness", pa.array(assay.fitness))
    for name, values in scores.items():
        table = table.append_column(f"score_{name}", pa.array(values))
    write_parquet(path, table)


def chain_embeddings(model: Any, tokenizer: Any, pairs: pa.Table) -> Floats:
    """The mean over each chain's residues, side by side [pairs, 2 * width]."""
    plan = EmbeddingPlan(parts=("heavy", "light")).resolve(encoder_of(model).config.num_hidden_layers)
    rows = [
        np.concatenate(list(parts.values()))
        for window in windows(records_of(pairs), _WINDOW)
        for parts in embed_window(encoder_of(model), tokenizer, window, plan)
    ]
    return np.stack(rows).astype(np.float64)


def few_shot(features: Floats, fitness: Floats, *, shots: int, repeats: int, seed: int) -> FitnessEstimate:
    """Train on `shots` pairs, rank the rest; `repeats` times with other pairs."""
    correlations = []
    for repeat in range(repeats):
        order = random_stream(seed, "few-shot", shots, repeat).permutation(len(fitness))
        train, rest = order[:shots], order[shots:]
        predicted = _ridge(features[train], fitness[train], features[rest])
        correlations.append(float(spearman(fitness[rest], predicted)))
    value, error = mean_and_standard_error(correlations)
    return FitnessEstimate(
        metric="spearman",
        shots=shots,
        value=value,
        standard_error=error,
        num_pairs=len(fitness) - shots,
    )


def _ridge(features: Floats, fitness: Floats, others: Floats) -> Floats:
    """Predictions for `others`; the shrinkage is that of the least error when each example is left out."""
    with needs_extra("evaluate"):
        from sklearn.linear_model import RidgeCV

    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1
    fitted = RidgeCV(alphas=_ALPHAS).fit((features - mean) / scale, fitness)
    predicted: Floats = fitted.predict((others - mean) / scale)
    return predicted
