"""The suites and their options: what decides a measurement, with the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from curr_ab.family import NAMESPACE
from curr_ab.options import check_names, check_types, explained, option
from curr_ab.results import Detail
from curr_ab.words import Mode

Protocol = Literal["published", "grouped"]
Dtype = Literal["auto", "float32", "bfloat16"]
Split = Literal["train", "validation", "test"]
# Settings that every result has as its split or among its details.
_TOLD_ANYWAY = ("split", "protocol", "method", "set", "shots")


@dataclass(frozen=True)
class SuitePlan:
    """Options that all suites have: how the checkpoint is loaded."""

    # How a checkpoint is found and where it runs; its digest tells which it was.
    name: str | None = option(
        None, "what results call the model (its member's name, or its folder's)", execution=True
    )
    revision: str | None = option(None, "branch, tag or commit of the repository", execution=True)
    namespace: str = option(NAMESPACE, "owner of the members", execution=True)
    device: str = option("auto", "cpu, cuda, cuda:1; the GPU where there is one", execution=True)
    separator: str | None = option(None, "of checkpoints that do not say theirs, such as '<cls>'")
    dtype: Dtype = option("float32", "number type to compute in; auto: bfloat16 where hardware multiplies it")

    def __post_init__(self) -> None:
        check_types(self)
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, int) and value < (0 if one.name == "seed" else 1):
                raise ValueError(f"{one.name} is {value}; it must be positive")

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the numbers."""
        names = [one.name for one in fields(self) if not one.metadata["execution"]]
        return {name: getattr(self, name) for name in names}

    @property
    def settings(self) -> dict[str, Any]:
        """The same without names of files, whose content is in the fingerprint of the data."""
        return self.decisive

    @property
    def unusual(self) -> dict[str, Detail]:
        """The settings that are not the defaults, as a result's details; not those that it tells anyway."""
        return {
            name: " ".join(map(str, value)) if isinstance(value, tuple) else value
            for name, value in self.settings.items()
            if name not in _TOLD_ANYWAY and value is not None and value != getattr(type(self), name)
        }

    def command(self, suite: str) -> str:
        """How to measure it again: the command with the options that are not the defaults."""
        words = [f"curr-ab evaluate {suite}"]
        for name, value in self.decisive.items():
            if value != getattr(type(self), name):
                told = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words.append(f"--{name.replace('_', '-')} {told}")
        return " ".join(words)


@dataclass(frozen=True)
class LossPlan(SuitePlan):
    """The loss under fixed masks; the same seed and draws as pretraining's, so that numbers compare."""

    split: Split = option("test", "part of the prepared pairs")
    pairs: int | None = option(None, "the first so many of the split (all)")
    draws: int = option(2, "maskings of every pair")
    seed: int = option(0, "of the masks: equal for all models that are compared")


@dataclass(frozen=True)
class RegionsPlan(SuitePlan):
    """The loss of each residue, masked alone, by region."""

    split: Split = option("test", "part of the prepared pairs")
    pairs: int = option(200, "drawn from the split by the seed; one pass of the model for each residue")
    seed: int = option(0, "of the draw of pairs, and of the bootstrap")


@dataclass(frozen=True)
class FitnessPlan(SuitePlan):
    """Rank correlations with measured fitness."""

    direction: str | None = option(
        None, "higher or lower is better, or a YAML file of `assay: higher|lower` (or a column)"
    )
    mode: Mode = option("exact", "each residue masked alone, every 7th at once, or none, in one pass")
    min_pairs: int = option(20, "smaller assays are listed as skipped")
    germlines: str | None = option(
        None, "FASTA of V genes as amino acids, for the distance where the assays do not bring it"
    )
    shots: tuple[int, ...] = option((8, 32, 128), "sizes of the few-shot training sets")
    repeats: int = option(10, "few-shot training sets of each size")
    seed: int = option(0, "of the few-shot sets and of the bootstrap")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.shots)) < len(self.shots) or min(self.shots, default=2) < 2:
            raise ValueError(
                f"shots are {' '.join(map(str, self.shots))}; they must be different numbers of at least 2"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Directions and germlines count by what they say."""
        files = ("direction", "germlines")
        return {name: value for name, value in self.decisive.items() if name not in files}


@dataclass(frozen=True)
class ClassificationPlan(SuitePlan):
    """A head on the model, cross-validated."""

    recipe: str = option("specificity-binary", "recipe or YAML file")
    protocol: Protocol = option(
        "grouped", "folds that keep groups together, or `published`: the paper's folds by row"
    )
    group_by: str | None = option(None, "column that names donor or clone, for grouped folds (the recipe's)")
    method: str = option("frozen", "frozen, probe, lora, dora or full")
    set: tuple[str, ...] = option((), "other changes of the recipe, as KEY=VALUE")
    seed: int = option(42, "of folds, heads and order")

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe counts by what it says."""
        return {name: value for name, value in self.decisive.items() if name != "recipe"}


@dataclass(frozen=True)
class PairingPlan(ClassificationPlan):
    """The same for native against shuffled pairs, and split by mutation status."""

    recipe: str = option("pairing", "recipe or YAML file")


PLANS: Mapping[str, type[SuitePlan]] = {
    "loss": LossPlan,
    "regions": RegionsPlan,
    "specificity": ClassificationPlan,
    "pairing": PairingPlan,
    "fitness": FitnessPlan,
}


def make_plan(suite: str, options: Mapping[str, Any]) -> SuitePlan:
    """The suite's plan; a suite or an option that does not exist is an error that lists what does."""
    check_suite(suite)
    check_names(options, PLANS[suite], f"suite {suite}")
    return PLANS[suite](**options)


def check_suite(suite: str) -> None:
    """Refuse what is no suite."""
    if suite not in PLANS:
        raise ValueError(f"no suite is called {suite!r}; the suites are {', '.join(PLANS)}")


def options_of(suite: str) -> Iterator[tuple[str, Any, str]]:
    """Name, type and explanation of every option."""
    return explained(PLANS[suite])
