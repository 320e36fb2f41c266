"""The methods that `--method auto` tries, the cheapest first, and the time that each is expected to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from curr_ab.files import read_object, write_json
from curr_ab.finetuning.recipe import Method, Recipe
from curr_ab.quantities import format_duration

PLAN = "plan.json"
# Trained models, cheapest first; a later one is tried where one before it has beaten the regressions.
TRAINED: tuple[Method, ...] = ("lora", "dora", "full")
# Fewer labels in a training part teach adapters nothing that regressions on frozen features do not know.
FEWEST_LABELS = 1_000
TRIAL_EPOCHS = 2
_REGRESSIONS = 0.004  # seconds for each label, on one core: all sets of features, over one fold


@dataclass(frozen=True)
class Candidate:
    """A method, the time of its trials and of its fits over all folds, and whether it is tried."""

    method: Method
    trial_seconds: float
    fit_seconds: float
    tried: bool
    reason: str


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
    recipe: Recipe, num_labels: int, num_folds: int, seconds: dict[Method, tuple[float, float]]
) -> Plan:
    """The plan for so many labels in a training part; `seconds` are of trials and of fits, by method."""
    known = num_labels * (num_folds + recipe.fits_everything)
    trial, fit = seconds["probe"]
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
        elif (trial + fit) / 60 > recipe.budget:
            tried, reason = False, f"longer than the budget of {recipe.budget:g} minutes"
        candidates.append(Candidate(method, trial, fit, tried, reason))
    return Plan(recipe.budget, tuple(candidates))


def trial_recipe(recipe: Recipe, method: Method) -> Recipe:
    """A short fit of the method, by which it is judged."""
    return replace(
        recipe.as_method(method),
        epochs=min(recipe.epochs, TRIAL_EPOCHS),
        fewest_steps=0,
        early_stopping=0,
    )


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
