"""The suites and their options: what decides a measurement, with the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from curr_ab.family import NAMESPACE

Protocol = Literal["published", "grouped"]
Dtype = Literal["auto", "float32", "bfloat16"]
Mode = Literal["exact", "group", "unmasked"]
# How a checkpoint is found and where it runs; its digest tells which it was.
_HOW = ("device", "revision", "namespace", "name")


def _option(default: Any, help: str) -> Any:
    """A field with its line in `--help`."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class SuitePlan:
    """Options that all suites have: how the checkpoint is loaded."""

    name: str | None = _option(None, "what results call the model (its member's name, or its folder's)")
    revision: str | None = _option(None, "branch, tag or commit of the repository")
    namespace: str = _option(NAMESPACE, "owner of the members")
    separator: str | None = _option(None, "of checkpoints that do not say theirs, such as '<cls>'")
    device: str = _option("auto", "cpu, cuda, cuda:1; the GPU where there is one")
    dtype: Dtype = _option(
        "float32", "number type to compute in; auto: bfloat16 where hardware multiplies it"
    )

    def __post_init__(self) -> None:
        for option, kind in get_type_hints(type(self)).items():
            value, choices = getattr(self, option), get_args(kind)
            if choices and isinstance(choices[0], str) and value not in choices:
                raise ValueError(f"{option} is {value!r}; choose one of {', '.join(choices)}")
            if isinstance(value, int) and value < (0 if option == "seed" else 1):
                raise ValueError(f"{option} is {value}; it must be positive")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers."""
        return {key: value for key, value in asdict(self).items() if key not in _HOW}

    def command(self, suite: str) -> str:
        """How to measure it again: the command with the options that are not the defaults."""
        words = [f"curr-ab evaluate {suite}"]
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name not in _HOW and value != option.default:
                told = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words.append(f"--{option.name.replace('_', '-')} {told}")
        return " ".join(words)


@dataclass(frozen=True)
class LossPlan(SuitePlan):
    """The loss under fixed masks; the same seed and draws as pretraining's, so that numbers compare."""

    split: str = _option("test", "train, validation or test")
    pairs: int | None = _option(None, "the first so many of the split (all)")
    draws: int = _option(2, "maskings of every pair")
    seed: int = _option(0, "of the masks: equal for all models that are compared")


@dataclass(frozen=True)
class RegionsPlan(SuitePlan):
    """The loss of each residue, masked alone, by region."""

    split: str = _option("test", "train, validation or test")
    pairs: int = _option(200, "drawn from the split by the seed; one pass of the model for each residue")
    seed: int = _option(0, "of the draw of pairs, and of the bootstrap")


@dataclass(frozen=True)
class FitnessPlan(SuitePlan):
    """Rank correlations with measured fitness."""

    direction: str | None = _option(
        None, "higher or lower is better, or a YAML file of `assay: higher|lower` (or a column)"
    )
    mode: Mode = _option("exact", "each residue masked alone, every 7th at once, or none, in one pass")
    min_pairs: int = _option(20, "smaller assays are listed as skipped")
    germlines: str | None = _option(
        None, "FASTA of V genes as amino acids, for the distance where the assays do not bring it"
    )
    shots: tuple[int, ...] = _option((8, 32, 128), "sizes of the few-shot training sets")
    repeats: int = _option(10, "few-shot training sets of each size")
    seed: int = _option(0, "of the few-shot sets and of the bootstrap")


@dataclass(frozen=True)
class ClassificationPlan(SuitePlan):
    """A head on the model, cross-validated."""

    recipe: str = _option("specificity-binary", "recipe or YAML file")
    protocol: Protocol = _option(
        "grouped", "folds that keep groups together, or `published`: the paper's folds by row"
    )
    group_by: str | None = _option(None, "column that names donor or clone, for grouped folds (the recipe's)")
    method: str = _option("frozen", "frozen, probe, lora, dora or full")
    set: tuple[str, ...] = _option((), "other changes of the recipe, as KEY=VALUE")
    seed: int = _option(42, "of folds, heads and order")


@dataclass(frozen=True)
class PairingPlan(ClassificationPlan):
    """The same for native against shuffled pairs, and split by mutation status."""

    recipe: str = _option("pairing", "recipe or YAML file")


PLANS: Mapping[str, type[SuitePlan]] = {
    "loss": LossPlan,
    "regions": RegionsPlan,
    "specificity": ClassificationPlan,
    "pairing": PairingPlan,
    "fitness": FitnessPlan,
}


def make_plan(suite: str, options: Mapping[str, Any]) -> SuitePlan:
    """The suite's plan; a suite or an option that does not exist is an error that lists what does."""
    if suite not in PLANS:
        raise ValueError(f"no suite is called {suite!r}; the suites are {', '.join(PLANS)}")
    known = [option.name for option in fields(PLANS[suite])]
    if unknown := sorted(options.keys() - set(known)):
        raise ValueError(f"the suite {suite} has no option {unknown[0]!r}; it has {', '.join(known)}")
    return PLANS[suite](**options)
