"""The suites and their options: what decides a measurement, with the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.finetuning.recipe import Method
from curr_ab.inference.settings import DTYPE_HELP, MODE_HELP, Dtype, LoadingOptions
from curr_ab.options import OptionError, check_names, check_types, option, unknown
from curr_ab.results import Detail
from curr_ab.words import Mode

Protocol = Literal["published", "grouped"]
Split = Literal["train", "validation", "test"]
# Options that name files, which count by what they say: their content is in the fingerprint of the data.
_FILES = ("direction", "germlines", "recipe", "train", "judge", "pairing_head")
# Settings that every result has as its split or among its details.
_ALWAYS_GIVEN = ("split", "protocol", "method", "set", "shots")


@dataclass(frozen=True)
class SuitePlan(LoadingOptions):
    """Options that all suites have: how the checkpoint is loaded; its digest says which it was."""

    dtype: Dtype = option("float32", DTYPE_HELP)
    name: str | None = option(
        None, "Name of the model in results", shown="its member's, or its folder's", execution=True
    )

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def decisive(self) -> dict[str, Any]:
        """The options that decide the numbers."""
        names = [one.name for one in fields(self) if not one.metadata["execution"]]
        return {name: getattr(self, name) for name in names}

    @property
    def settings(self) -> dict[str, Any]:
        """The same without names of files."""
        return {name: value for name, value in self.decisive.items() if name not in _FILES}

    @property
    def unusual(self) -> dict[str, Detail]:
        """The settings that are not the defaults, as a result's details; without those that it always has."""
        return {
            name: " ".join(map(str, value)) if isinstance(value, tuple) else value
            for name, value in self.settings.items()
            if name not in _ALWAYS_GIVEN and value is not None and value != getattr(type(self), name)
        }

    def command(self, suite: str) -> str:
        """The command that measures it again, with the options that are not the defaults."""
        words = [f"curr-ab evaluate {suite}"]
        for name, value in self.decisive.items():
            if value != getattr(type(self), name):
                text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words.append(f"--{name.replace('_', '-')} {text}")
        return " ".join(words)


@dataclass(frozen=True)
class LossPlan(SuitePlan):
    """The loss under fixed masks; the same seed and draws as pretraining's, so that numbers compare."""

    split: Split = option("test", "Split of the prepared pairs that is measured")
    pairs: int | None = option(None, "Number of pairs, from the first of the split", shown="all", least=1)
    draws: int = option(2, "Number of maskings of each pair", least=1)
    seed: int = option(0, "Seed of the masks, equal for all models that are compared", least=0)


@dataclass(frozen=True)
class TablePlan(SuitePlan):
    """Options of suites that read tables. Names of columns count by what is read under them."""

    names: ColumnNames | None = field(default=None, metadata={"execution": True})

    @property
    def columns(self) -> ColumnNames:
        return self.names or ColumnNames()

    def command(self, suite: str) -> str:
        named = (f" --{name}-column {column}" for name, column in self.columns.named().items())
        return super().command(suite) + "".join(named)


@dataclass(frozen=True)
class RegionsPlan(TablePlan):
    """The loss of each residue, masked alone, by region."""

    split: Split = option("test", "Split of the prepared pairs that is measured")
    pairs: int = option(
        200, "Number of pairs drawn from the split; each residue takes a pass of the model", least=1
    )
    seed: int = option(0, "Seed of the pairs that are drawn, and of the bootstrap", least=0)


@dataclass(frozen=True)
class FitnessPlan(TablePlan):
    """Rank correlations with measured fitness."""

    direction: str | None = option(
        None,
        "Direction of better fitness: higher, lower, or a YAML file of `assay: higher|lower`",
        shown="the column `direction`",
        metavar="TEXT|YAML",
    )
    mode: Mode = option("exact", MODE_HELP)
    min_pairs: int = option(20, "Number of pairs below which an assay is listed as skipped", least=1)
    germlines: str | None = option(
        None,
        "FASTA file of V genes as amino acids, for the distance where the assays do not bring it",
        metavar="FILE",
    )
    shots: tuple[int, ...] = option((8, 32, 128), "Sizes of the few-shot training sets, in pairs")
    repeats: int = option(10, "Number of few-shot training sets of each size", least=1)
    seed: int = option(0, "Seed of the few-shot sets and of the bootstrap", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.shots)) < len(self.shots) or min(self.shots, default=2) < 2:
            raise OptionError(
                f"shots must be different numbers of at least 2; got {' '.join(map(str, self.shots))}",
                "shots",
            )


@dataclass(frozen=True)
class ClassificationPlan(TablePlan):
    """A head on the model, cross-validated."""

    recipe: str = option("specificity-binary", "Recipe: a shipped one, or a YAML file", metavar="NAME|YAML")
    protocol: Protocol = option(
        "grouped", "Folds: grouped keeps groups together, published takes the paper's folds by row"
    )
    group_by: str | None = option(
        None, "Column that names donor or clone, for grouped folds", shown="the recipe's", metavar="NAME"
    )
    method: Method = option("frozen", "Method of the training: the head alone, adapters, or everything")
    set: tuple[str, ...] = option(
        (), "Further changes of the recipe, as `curr-ab finetune --help` names them", metavar="KEY=VALUE"
    )
    seed: int = option(42, "Seed of folds, heads and order", least=0)


@dataclass(frozen=True)
class PairingPlan(ClassificationPlan):
    """The same for native against shuffled pairs, and split by mutation status."""

    recipe: str = option("pairing", "Recipe: a shipped one, or a YAML file", metavar="NAME|YAML")


@dataclass(frozen=True)
class GeneratedPairsPlan(TablePlan):
    """Pairs that a model draws, judged against real ones."""

    train: str | None = option(
        None,
        "Training pairs, a prepared folder or a table: novelty and usual genes are measured against them",
        shown="none; it must be given",
        metavar="DATA",
    )
    split: Split = option(
        "test", "Split of held-out pairs, of which one half is given, and one compared with"
    )
    given: tuple[Literal["heavy", "nothing"], ...] = option(
        ("heavy", "nothing"), "What is given to the model: heavy chains of held-out pairs, or nothing"
    )
    temperatures: tuple[float, ...] = option((0.7, 1.0), "Temperatures at which pairs are drawn")
    pairs: int = option(300, "Number of pairs of each sample, at most half of the held-out ones", least=2)
    at_once: int = option(1, "Number of positions that a masked model fills in one pass", least=1)
    judge: str | None = option(
        None, "Another model, under which the loss of all pairs is measured", metavar="MODEL"
    )
    pairing_head: str | None = option(
        None, "Fine-tuned pairing head that never saw the generator's training pairs", metavar="MODEL"
    )
    seed: int = option(0, "Seed of halves, samples, shuffling and bootstrap", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperatures or min(self.temperatures) <= 0:
            text = " ".join(map(str, self.temperatures))
            raise OptionError(f"temperatures must be numbers above 0; got {text or 'none'}", "temperatures")


PLANS: Mapping[str, type[SuitePlan]] = {
    "loss": LossPlan,
    "regions": RegionsPlan,
    "specificity": ClassificationPlan,
    "pairing": PairingPlan,
    "fitness": FitnessPlan,
    "generation": GeneratedPairsPlan,
}


def make_plan(suite: str, options: Mapping[str, Any]) -> SuitePlan:
    """The suite's plan; a suite or an option that does not exist is an error with the nearest one."""
    if suite not in PLANS:
        raise ValueError(unknown("suite", suite, PLANS))
    check_names(options, PLANS[suite], f"suite {suite}")
    return PLANS[suite](**options)
