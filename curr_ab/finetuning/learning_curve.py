"""The learning curve: the score of a regression against the number of labels, and a power law through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from curr_ab.extras import needs_extra
from curr_ab.files import read_object, write_json
from curr_ab.finetuning.examples import Indices
from curr_ab.measures.statistics import CONFIDENCE, mean_and_standard_error
from curr_ab.randomness import random_stream

CURVE = "learning_curve.json"
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of a training part
_FEWEST = 10  # labels of which anything is learnt
_LEAST = 1e-3  # of 1 - score: a perfect score has no logarithm
_FURTHEST = 100  # times the labels that there are: nobody knows what lies beyond


@dataclass(frozen=True)
class Point:
    """The score on a fold's test part after learning from so many of its training labels."""

    fold: int
    labels: int
    score: float


@dataclass(frozen=True)
class Law:
    """1 - score = factor · labels ** -exponent, through the mean score at all labels."""

    factor: float
    exponent: float
    low: float  # of the exponent, 95 %
    high: float
    more_labels: float | None  # so many raise the score by its standard error; None where nothing says so
    fewest: float | None  # the interval of that number
    most: float | None

    def score(self, labels: float) -> float:
        """What the law gives for so many labels."""
        return 1 - self.factor * math.pow(labels, -self.exponent)


@dataclass(frozen=True)
class LearningCurve:
    """All points of all folds, for one metric, and the law where one can be fitted."""

    metric: str
    learner: str
    points: tuple[Point, ...]
    law: Law | None

    def write(self, folder: Path) -> None:
        write_json(folder / CURVE, {"format": "curr-ab learning curve 1", **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> LearningCurve:
        content = read_object(folder / CURVE)
        law = content["law"]
        return cls(
            content["metric"],
            content["learner"],
            tuple(Point(**point) for point in content["points"]),
            None if law is None else Law(**law),
        )

    @property
    def means(self) -> list[tuple[float, float, float | None]]:
        """Labels, mean score and its standard error, of each share of the training parts."""
        folds: dict[int, list[Point]] = {}
        for point in self.points:
            folds.setdefault(point.fold, []).append(point)
        rows = []
        for of_share in zip(*folds.values(), strict=True):
            mean, error = mean_and_standard_error([point.score for point in of_share])
            rows.append((float(np.mean([point.labels for point in of_share])), mean, error))
        return rows

    @property
    def sentence(self) -> str:
        """Advice on more labels, as far as the law goes."""
        labels, value, error = self.means[-1]
        if self.law is None or self.law.more_labels is None or self.law.low <= 0 or error is None:
            return (
                f"These {labels:,.0f} labels do not tell whether more of them would help: {self.metric} does "
                "not rise with their number beyond what folds differ by."
            )
        few, most = self.law.fewest or labels, self.law.most
        upper = f"{most:,.0f}" if most is not None else f"more than {_FURTHEST} times as many as there are"
        return (
            f"About {self.law.more_labels:,.0f} labels in the place of {labels:,.0f} would probably raise "
            f"{self.metric} by its standard error of {error:.3f}, to {value + error:.3f} "
            f"(95%: {few:,.0f} to {upper})."
        )


def nested_parts(indices: Indices, groups: Sequence[Hashable] | None, seed: int, fold: int) -> list[Indices]:
    """Parts of a training part, each in the next and the last all of it; groups come whole."""
    names = np.unique(np.arange(len(indices)) if groups is None else np.asarray(groups), return_inverse=True)[
        1
    ]
    order = random_stream(seed, "learning curve", fold).permutation(int(names.max()) + 1)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ordered = np.argsort(place[names], kind="stable")
    ends = np.searchsorted(place[names][ordered], np.arange(len(order)), side="right")
    sizes = [int(ends[np.abs(ends - share * len(indices)).argmin()]) for share in SHARES]
    return [
        np.sort(indices[ordered[:size]])
        for size in dict.fromkeys(sizes)
        if size >= min(_FEWEST, len(indices))
    ]


def measure_curve(
    metric: str,
    learner: str,
    folds: Sequence[tuple[int, Sequence[Indices]]],
    score: Callable[[int, Indices], float],
) -> LearningCurve:
    """Score every part of every fold; `score` learns from a part and measures on the fold's test part."""
    fewest = min(len(parts) for _, parts in folds)
    points = tuple(
        Point(fold, len(part), float(score(fold, part)))
        for fold, parts in folds
        for part in list(parts)[-fewest:]  # as many of each fold, so that they have means
    )
    return LearningCurve(metric, learner, points, fit_law(points))


def fit_law(points: Sequence[Point]) -> Law | None:
    """The power law through the points, or none where there are too few to fit one.

    Each fold has a line of its own in logarithms; the exponent is their mean with its t-interval.
    """
    with needs_extra("finetune"):
        from scipy.stats import t as student
    folds = sorted({point.fold for point in points})
    if len(folds) < 2 or len({point.labels for point in points}) < 3:
        return None
    slopes, last = [], []
    for fold in folds:
        own = sorted((point.labels, point.score) for point in points if point.fold == fold)
        sizes, scores = np.array(own, np.float64).T
        slopes.append(-float(np.polyfit(np.log(sizes), np.log(np.maximum(1 - scores, _LEAST)), 1)[0]))
        last.append((sizes[-1], scores[-1]))
    exponent, error = mean_and_standard_error(slopes)
    reach = (error or 0.0) * float(student.ppf((1 + CONFIDENCE) / 2, len(folds) - 1))
    labels = float(np.mean([size for size, _ in last]))
    value, spread = mean_and_standard_error([float(score) for _, score in last])
    missing = max(1 - value, _LEAST)

    def enough(slope: float) -> float | None:
        """Labels that raise the score by its standard error, if the law goes on with this exponent."""
        if spread is None or slope <= 0 or spread >= missing:
            return None
        factor = math.pow(1 - spread / missing, -1 / slope) if spread < missing * (1 - 1e-9) else math.inf
        return labels * factor if factor <= _FURTHEST else None

    low, high = exponent - reach, exponent + reach
    factor = missing * math.pow(labels, exponent)
    return Law(factor, exponent, low, high, enough(exponent), enough(high), enough(low))
