"""What stands beside a run on its folds: predictions of baselines and of a probe, and the learning curve."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from curr_ab.finetuning.beside import GUESSES, HEADLINES, PROBE, write_seconds
from curr_ab.finetuning.choice import features_to_blend
from curr_ab.finetuning.contenders import Contenders
from curr_ab.finetuning.examples import Examples, Indices
from curr_ab.finetuning.folds import Fold
from curr_ab.finetuning.learning_curve import LearningCurve, measure_curve, nested_parts
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.run_folder import write_predictions
from curr_ab.measures.fold_predictions import PREDICTIONS, beside_folder, fold_folder
from curr_ab.measures.metrics import Floats, metrics_for, score
from curr_ab.probes.residue_windows import RESIDUE_WINDOWS
from curr_ab.probes.sequence_features import BASELINES


def whole_part(fold: Fold) -> Indices:
    """The training part with what early stopping watches: a regression has no epochs to stop between."""
    return np.sort(np.concatenate([fold.train, fold.validation]))


def names_beside(recipe: Recipe, baselines: Sequence[str]) -> list[str]:
    """All that stand beside a run: a guess, the baselines, and a probe where the run is none."""
    return [GUESSES[recipe.target], *baselines, *([PROBE] if recipe.method != PROBE else [])]


def write_beside(
    folder: Path, recipe: Recipe, examples: Examples, contenders: Contenders, fold: Fold
) -> None:
    """Fit and predict what is not there yet, for one fold."""
    part = whole_part(fold)
    tested = examples.take(fold.test)

    def regressed(name: str) -> Callable[[], Floats]:
        return lambda: contenders.predict((name,), part, fold.test)

    ways: dict[str, Callable[[], Floats]] = {name: regressed(name) for name in contenders.sequence}
    ways[GUESSES[recipe.target]] = lambda: contenders.guess(part, fold.test)
    ways[PROBE] = lambda: contenders.predict((contenders.best_of_member(part),), part, fold.test)
    for name in names_beside(recipe, list(contenders.sequence)):
        place = _place(folder, name, fold)
        if (place / PREDICTIONS).exists():
            continue
        began = time.perf_counter()
        predictions = ways[name]()
        place.mkdir(parents=True, exist_ok=True)
        write_seconds(place, time.perf_counter() - began)
        write_predictions(place / PREDICTIONS, recipe, tested, predictions)


def is_beside(folder: Path, recipe: Recipe, fold: Fold) -> bool:
    """True where all predictions stand beside a fold; those of a run from before there were any do not."""
    baselines = [RESIDUE_WINDOWS] if recipe.target == "residues" else BASELINES
    names = names_beside(recipe, baselines)
    return all((_place(folder, name, fold) / PREDICTIONS).exists() for name in names)


def _place(folder: Path, name: str, fold: Fold) -> Path:
    return fold_folder(beside_folder(folder, name), fold.number)


def curve_of(recipe: Recipe, contenders: Contenders, folds: Sequence[Fold]) -> LearningCurve:
    """The learning curve of the regressions that the whole training part of each fold chooses."""
    metric = HEADLINES[recipe.target]
    found = metrics_for(recipe.target, len(recipe.labels))[metric]
    answers, of_fold = contenders.answers, {fold.number: fold for fold in folds}
    features = {fold.number: features_to_blend(contenders.scores(whole_part(fold))) for fold in folds}

    def scored(number: int, part: Indices) -> float:
        rows = answers.of(of_fold[number].test)
        known = answers.measured[rows]
        predictions = contenders.predict(features[number], part, of_fold[number].test)[known]
        labels = answers.labels[rows][known]
        return score(found, labels if recipe.target == "number" else labels.astype(np.int64), predictions)

    parts = []
    for fold in folds:
        whole = whole_part(fold)
        families = answers.groups[answers.firsts[whole]].tolist()
        parts.append((fold.number, nested_parts(whole, families, recipe.seed, fold.number)))
    return measure_curve(metric, "regressions on features", parts, scored)
