"""Options of what to measure next, and of rounds that are tried out on a given assay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curr_ab.options import OptionError, Options, option

By = Literal["greedy", "ucb", "thompson", "uncertainty"]
STRATEGIES: tuple[By, ...] = ("greedy", "ucb", "thompson", "uncertainty")
RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class AcquisitionPlan(Options):
    """The way in which pairs are chosen for the bench."""

    by: By = option(
        "ucb",
        "Choice by the models' mean (greedy), their mean and one deviation more (ucb), a model that is drawn "
        "for each pair (thompson), or their deviation (uncertainty)",
    )
    diverse: bool = option(
        False, "Choose among four times as many of the best those that are least alike by IMGT position"
    )
    goal: Literal["high", "low"] = option("high", "Numbers, or probabilities of the label, that are wanted")
    label: str | None = option(
        None,
        "Class that is wanted, or one of the columns that a model predicts at once",
        shown="the last of the labels, the positive one",
        metavar="NAME",
    )
    choice_seed: int = option(0, "Seed of what thompson draws", least=0)


@dataclass(frozen=True, kw_only=True)
class AcquireOptions(Options):
    """The choice of pairs to measure next, in the place of predictions."""

    acquire: int | None = option(
        None, "Number of pairs to measure next; OUT lists them with the reasons, best first", above=0
    )
    ensemble: tuple[Path, ...] = option(
        (),
        "Adapters whose disagreement is the uncertainty",
        shown="fold-*/adapter beside the model",
        metavar="FOLDER",
    )


@dataclass(frozen=True, kw_only=True)
class RoundsPlan(Options):
    """Rounds of measuring that are tried out on an assay whose labels are known."""

    rounds: int = option(5, "Number of rounds after the first pairs", above=0)
    per_round: int = option(16, "Number of pairs that a round measures", above=0)
    first: int = option(16, "Number of pairs that are measured before, drawn by chance", least=8)
    repetitions: int = option(20, "Number of draws of the first pairs, over which intervals are", least=2)
    members: int = option(8, "Number of regressions on bootstrapped pairs, the ensemble", least=2)
    features: str = option(
        "mean-per-chain", "Features of the regressions: of the member, or a baseline such as one-hot"
    )
    strategies: tuple[By, ...] = option(
        STRATEGIES, "Strategies that are compared with random choice", metavar="NAME"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strategies:
            raise OptionError(f"strategies must be some of {', '.join(STRATEGIES)}; got none", "strategies")
