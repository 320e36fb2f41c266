"""The next pairs to measure: scores of a pool by an ensemble, and batches of them that are not alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curr_ab.finetuning.acquisition_plan import By
from curr_ab.measures.metrics import Floats, Labels
from curr_ab.measures.repertoires import Residues, identities

_SHORTLIST = 4  # times as many as are wanted, of which the least alike are taken


def acquisition_order(draws: Floats, by: By, randomness: np.random.Generator) -> tuple[Labels, Floats]:
    """The pool from the best choice on, and the score of each; `draws` are [models, pool], higher is better.

    Thompson's choices come one by one, each the best of a model that is drawn anew (Thompson 1933,
    doi:10.1093/biomet/25.3-4.285); their score is that model's prediction.
    """
    if by == "thompson":
        return _thompson(draws, randomness)
    mean, deviation = draws.mean(axis=0), spread(draws)
    scores = {"greedy": mean, "ucb": mean + deviation, "uncertainty": deviation}[by]
    return np.argsort(-scores, kind="stable"), scores


def spread(draws: Floats) -> Floats:
    """Standard deviation of the models' predictions for each of the pool; 0 of a single model."""
    if len(draws) == 1:
        return np.zeros(draws.shape[1])
    deviation: Floats = draws.std(axis=0, ddof=1)
    return deviation


def _thompson(draws: Floats, randomness: np.random.Generator) -> tuple[Labels, Floats]:
    ranked = np.argsort(-draws, axis=1, kind="stable")
    places, left = np.zeros(len(draws), int), np.ones(draws.shape[1], bool)
    order, scores = np.zeros(draws.shape[1], int), np.zeros(draws.shape[1])
    for number in range(draws.shape[1]):
        model = int(randomness.integers(0, len(draws)))
        while not left[ranked[model, places[model]]]:
            places[model] += 1
        order[number] = chosen = ranked[model, places[model]]
        scores[chosen], left[chosen] = draws[model, chosen], False
    return order, scores


def choose_batch(order: Labels, count: int, residues: Residues | None = None) -> Labels:
    """The first of the order; with residues, of four times as many those that are least alike.

    The best comes first. Each further one is the one whose nearest among those chosen is the farthest; of
    equals the better one.
    """
    if residues is None or len(order) <= count:
        return order[:count]
    shortlist = order[: _SHORTLIST * count]
    own = residues[shortlist]
    nearest = np.full(len(shortlist), -np.inf)
    chosen: list[int] = []
    for _ in range(count):
        nearest[chosen] = np.inf
        place = int(nearest.argmin())  # the first of equals
        chosen.append(place)
        nearest = np.maximum(nearest, np.nan_to_num(identities(own, own[place]), nan=0.0))
    return shortlist[chosen]


def reasons(
    chosen: Labels,
    *,
    draws: Floats,
    by: By,
    shown: Sequence[str],
    training_identity: Floats | None,
    residues: Residues,
) -> list[str]:
    """A line for each choice: prediction and deviation, ranks, and how near it is to what is known."""
    mean, deviation = draws.mean(axis=0), spread(draws)
    ranks = [_rank_of(values) for values in (mean, deviation)]
    lines = []
    for place, row in enumerate(chosen):
        words = [f"predicted {shown[row]}, {ranks[0][row]:,} of {len(mean):,}"]
        words.append(f"uncertainty {deviation[row]:.3g}, {ranks[1][row]:,} of {len(mean):,}")
        if training_identity is not None and np.isfinite(training_identity[row]):
            words.append(f"{training_identity[row]:.0%} like the nearest that was measured")
        if place:
            alike = np.nanmax(np.append(identities(residues[chosen[:place]], residues[row]), 0.0))
            words.append(f"{alike:.0%} like the nearest that is chosen above")
        lines.append(f"{by}: " + "; ".join(words))
    return lines


def _rank_of(values: Floats) -> Labels:
    """1 for the largest."""
    ranks = np.empty(len(values), int)
    ranks[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return ranks
