"""The methods that `--method auto` tries, the cheapest first, and the time that each is expected to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from curr_ab.files import read_object, write_json
from curr_ab.finetuning.examples import Indices
from curr_ab.finetuning.methods import ADAPTERS
from curr_ab.finetuning.recipe import Method, Recipe
from curr_ab.quantities import format_duration
from curr_ab.randomness import random_stream

PLAN = "plan.json"
# Trained models, cheapest first; a later one is tried where one before it has beaten the regressions.
TRAINED: tuple[Method, ...] = ("lora", "dora", "full")
# Fewer labels in a training part teach adapters nothing that regressions on frozen features do not know.
FEWEST_LABELS = 1_000
TRIAL_EPOCHS = 2
FEWEST_TRIAL_STEPS = 20  # a trial of fewer says nothing
HELD_SHARE = 0.2  # of a training part, by which a trial is judged
_REGRESSIONS = 0.004  # seconds for each label, on one core: all sets of features, over one fold


@dataclass(frozen=True)
class Candidate:
    """A method, the time of its trials and of its fits over all folds, and whether it is tried."""

    method: Method
    trial_seconds: float
    fit_seconds: float
    tried: bool
    reason: str
    trial_steps: int | None = None  # of each trial at most; None where its epochs alone bound it


@dataclass(frozen=True)
class Plan:
    """All candidates of a run, decided before it begins and kept with it."""

    budget: float  # minutes
    candidates: tuple[Candidate, ...]

    def write(self, folder: Path) -> None:
        write_json(folder / PLAN, {"format": "curr-ab finetuning plan 1", **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Plan:
        content = read_object(folder / PLAN)
        return cls(content["budget"], tuple(Candidate(**one) for one in content["candidates"]))

    def trial_steps(self, method: Method) -> int | None:
        """Steps of a trial of the method at most."""
        return next(one.trial_steps for one in self.candidates if one.method == method)

    @property
    def trained(self) -> list[Method]:
        """The methods beyond regressions that are tried."""
        return [one.method for one in self.candidates if one.tried and one.method != "probe"]

    @property
    def seconds(self) -> tuple[float, float]:
        """The least and the most that the run is expected to take."""
        tried = [one for one in self.candidates if one.tried]
        first = [one for one in tried if one.method in ("probe", *TRAINED[:1])]
        least = sum(one.trial_seconds for one in first) + tried[0].fit_seconds
        return least, sum(one.trial_seconds for one in tried) + max(one.fit_seconds for one in tried)


def make_plan(
    recipe: Recipe,
    num_labels: int,
    num_folds: int,
    seconds: dict[Method, tuple[float, float]],
    trial_steps: int,
) -> Plan:
    """The plan for so many labels in a training part; `seconds` are of trials and of fits, by method.

    `trial_steps` are those of a trial of adapters.
    """
    trial, fit = seconds["probe"]
    known = num_labels * (num_folds + recipe.fits_everything)
    candidates = [Candidate("probe", trial + _REGRESSIONS * known, fit, True, "always")]
    for method in TRAINED:
        trial, fit = seconds[method]
        tried, reason = (
            True,
            "" if method == TRAINED[0] else f"where {TRAINED[0]} is better than regressions",
        )
        if recipe.label_columns:
            tried, reason = False, "several columns at once"
        elif num_labels < FEWEST_LABELS:
            tried, reason = False, f"{num_labels:,} labels in a training part, fewer than {FEWEST_LABELS:,}"
        elif method == TRAINED[0] and trial_steps < FEWEST_TRIAL_STEPS:
            tried = False
            reason = f"{trial_steps} steps in twice the time of the features, fewer than {FEWEST_TRIAL_STEPS}"
        elif method != TRAINED[0] and not candidates[1].tried:
            tried, reason = False, f"{TRAINED[0]} is not"
        elif (trial + fit) / 60 > recipe.budget:
            tried, reason = False, f"longer than the budget of {recipe.budget:g} minutes"
        steps = trial_steps if method in ADAPTERS else None
        candidates.append(Candidate(method, trial, fit, tried, reason, steps))
    return Plan(recipe.budget, tuple(candidates))


@dataclass(frozen=True)
class TrialCosts:
    """What trials of adapters cost, in passes of one example through all layers of the model.

    Adapters of a trial are those of the last layer, above states that are computed once for all folds; the
    features in which its head begins follow from these states.
    """

    num_examples: int
    num_layers: int
    num_fits: int  # choices, and so trials
    pairs_per_step: int
    states_kept: bool  # else every pass goes through all layers

    def passes(self, steps: int) -> float:
        """All trials of so many steps each: backward is twice as much as forward."""
        last = 1 / self.num_layers if self.states_kept else 1.0
        once = self.num_examples * (1 + last)
        judged = self.num_examples * HELD_SHARE * last
        return once + self.num_fits * (judged + steps * self.pairs_per_step * (last + 2 / self.num_layers))

    @property
    def steps(self) -> int:
        """The most steps with which all trials take no more passes than the features of a probe twice."""
        none = self.passes(0)
        each = self.passes(1) - none
        return max(0, int((2 * self.num_examples - none) / each))


def trial_recipe(recipe: Recipe, method: Method, epochs: int = TRIAL_EPOCHS) -> Recipe:
    """A short fit of the method, by which it is judged: of adapters, those of the last layer."""
    short = recipe.as_method(method)
    return replace(
        short,
        epochs=min(recipe.epochs, epochs),
        fewest_steps=0,
        early_stopping=0,
        layers=int(method in ADAPTERS),
        adapt_epochs=0,
    )


def trial_part(train: Indices, recipe: Recipe, most_steps: int | None) -> tuple[Indices, int]:
    """The examples that a trial trains on, and its epochs, so that it takes no more than so many steps."""
    per_epoch = -(-len(train) // recipe.pairs_per_step)
    if most_steps is None or most_steps >= TRIAL_EPOCHS * per_epoch:
        return train, TRIAL_EPOCHS
    if most_steps >= per_epoch:
        return train, 1
    order = random_stream(recipe.seed, "examples of a trial").permutation(train)
    return np.sort(order[: most_steps * recipe.pairs_per_step]), 1


def describe(plan: Plan) -> Sequence[str]:
    """A line for each candidate."""
    lines = []
    for one in plan.candidates:
        said = "tried" if one.tried else "not tried"
        spent = f"trials {format_duration(one.trial_seconds)}, fits {format_duration(one.fit_seconds)}"
        lines.append(f"{one.method:<8} {', '.join(filter(None, (said, one.reason)))}; {spent}")
    least, most = plan.seconds
    lines.append(f"{format_duration(least)} to {format_duration(most)} expected, budget {plan.budget:g} min")
    return lines
