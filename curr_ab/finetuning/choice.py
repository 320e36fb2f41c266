"""The choice of a method inside one training part: regressions first, dearer methods where they pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from curr_ab.files import read_object, write_json
from curr_ab.finetuning.recipe import Method
from curr_ab.measures.metrics import Floats, Labels
from curr_ab.probes.regression import Regression

CHOICE = "choice.json"
MOST_BLENDED = 3  # sets of features whose regressions are averaged
# What the best set leaves unexplained, as a share of what another does that is averaged with it.
_NEARLY = 0.9
_SMALLEST = 1e-6  # probability: being sure and wrong once is not endlessly bad
# A dearer method must be better by so many standard errors of the paired differences; ties go to the cheaper.
_MARGIN = 1.0


@dataclass(frozen=True)
class Tried:
    """A candidate, and how well it predicted what was left out inside the training part."""

    name: str
    score: float  # share of the variance or entropy that is explained; at most 1


@dataclass(frozen=True)
class Choice:
    """The method for one training part, and why."""

    method: Method
    features: tuple[str, ...]  # of a probe: the mean of a regression on each
    reason: str
    tried: tuple[Tried, ...]  # best first
    seconds: float

    @property
    def named(self) -> str:
        """The method with its features."""
        return f"{self.method} on {' + '.join(self.features)}" if self.features else self.method

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CHOICE, {"format": "curr-ab choice 1", **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Choice:
        content = read_object(folder / CHOICE)
        content.pop("format")
        tried = tuple(Tried(**one) for one in content["tried"])
        return cls(**{**content, "features": tuple(content["features"]), "tried": tried})


def features_to_blend(scores: Mapping[str, float]) -> tuple[str, ...]:
    """The sets of features whose regressions are averaged: the best, and what explains nearly as much.

    Which of near-equals is better a small training part cannot tell, and their errors are unlike, so that
    their mean is seldom worse than the best of them and often better.
    """
    best = sorted(scores, key=lambda name: -scores[name])
    left = 1 - scores[best[0]]
    return tuple(name for name in best[:MOST_BLENDED] if left >= _NEARLY * (1 - scores[name]))


def blended(regressions: Sequence[Regression]) -> Regression:
    """The mean of these regressions, as one on their features side by side."""
    share = 1 / len(regressions)
    weights = np.concatenate([share * one.weights for one in regressions])
    bias = np.mean([one.bias for one in regressions], axis=0)
    return Regression(weights, bias, regressions[0].num_classes)


def losses_of(labels: Labels, predictions: Floats) -> Floats:
    """Losses of answers: minus the log of the class's probability, or the squared error of the number."""
    if predictions.ndim == 1:
        return np.square(predictions - labels)
    chosen = predictions[np.arange(len(labels)), labels.astype(np.int64)]
    return -np.log(np.maximum(chosen, _SMALLEST))


def is_better(cheap: Floats, dear: Floats, groups: Labels) -> tuple[bool, str]:
    """Whether the dearer method's losses are lower beyond what groups differ by, and by how much in words."""
    if not len(cheap):
        return False, "nothing: all of them are bounds"
    names, places = np.unique(groups, return_inverse=True)
    gains = np.bincount(places, cheap - dear, len(names))
    mean = float(gains.sum() / len(cheap))
    spread = float(np.sqrt(len(names)) * gains.std(ddof=1) / len(cheap)) if len(names) > 1 else np.inf
    return mean > _MARGIN * spread, f"{mean:+.3f} ± {spread:.3f}"
