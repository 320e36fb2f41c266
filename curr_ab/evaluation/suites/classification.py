"""The suites `specificity` and `pairing`: a recipe cross-validated, as published or without leaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.pairs import read_sources
from curr_ab.evaluation.measurement import Subject
from curr_ab.evaluation.pair_tables import mutation_status
from curr_ab.evaluation.plan import ClassificationPlan, PairingPlan
from curr_ab.finetuning.cross_validation import cross_validate
from curr_ab.finetuning.examples import Examples, read_examples
from curr_ab.finetuning.labelled_pairs import Example
from curr_ab.finetuning.labelled_rows import names_of
from curr_ab.finetuning.recipe import Recipe
from curr_ab.finetuning.recipe_files import resolve_recipe, shipped_recipes
from curr_ab.measures.fold_predictions import read_run
from curr_ab.measures.statistics import mean_and_standard_error
from curr_ab.options import OptionError, read_settings
from curr_ab.results import Detail, Result
from curr_ab.words import CHAINS

_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16"}
RUN = "cross-validation"
KINDS = {2: "both mutated", 0: "both unmutated", 1: "only one mutated"}
Status = Mapping[str, Mapping[str, bool]]  # by chain, then by its residues


@dataclass(frozen=True)
class LabelledData:
    """Examples as the recipe reads them, and their sources."""

    recipe: Recipe
    sources: Sequence[str]
    examples: Examples

    @property
    def fingerprint(self) -> str:
        """Digest of the examples, made negatives included, and of the recipe, whatever its file is called."""
        return _digest([self.examples.fingerprint, self.recipe.to_dict()])


def _digest(content: Any) -> str:
    return sha256(json.dumps(content).encode()).hexdigest()


def recipe_of(plan: ClassificationPlan) -> Recipe:
    """The recipe with the protocol's folds and method."""
    changes: dict[str, Any] = {"method": plan.method, "seed": plan.seed, "final": False}
    own = ("heavy", "light", "id")  # names of columns that a recipe has itself
    changes |= {f"{name}_column": column for name, column in plan.columns.named().items() if name in own}
    if plan.dtype != "auto":
        changes["precision"] = _PRECISIONS[plan.dtype]
    if plan.protocol == "published":
        if plan.method != "frozen" or plan.group_by is not None or plan.set:
            raise OptionError(
                "protocol must be grouped for another method, group_by or set, because the published one "
                "trains a head on the frozen base as the recipe says and parts rows, whatever donor they are "
                "of; got published: for folds by row set fold_scheme=rows",
                "protocol",
            )
        if plan.recipe not in shipped_recipes():
            raise OptionError(
                f"protocol must be grouped for the recipe {plan.recipe}, because the published one has "
                f"{', '.join(shipped_recipes())}; got published",
                "protocol",
            )
        changes["fold_scheme"] = "rows"
    elif plan.group_by is not None:
        changes["group_by"] = plan.group_by
    changes |= read_settings(plan.set, Recipe, "recipe")
    return resolve_recipe(plan.recipe, changes)


def open_data(plan: ClassificationPlan, sources: list[str]) -> LabelledData:
    """The labelled pairs, checked."""
    recipe = recipe_of(plan)
    return LabelledData(recipe, sources, read_examples(recipe, sources, names=plan.columns))


def measure(
    subject: Subject, plan: ClassificationPlan, data: LabelledData, folder: Path, say: Callable[[str], None]
) -> list[Result]:
    """Every fold's metrics and their means; for pairing the accuracy by mutation status, too."""
    if plan.device != "auto" or plan.revision is not None or plan.separator is not None:
        raise OptionError(
            "a cross-validation runs where Accelerate puts it and loads the model as it is: leave out "
            "device, revision and separator; download another revision first and name its folder",
            *("device", "revision", "separator"),
        )
    if subject.is_adapter:
        raise ValueError(
            f"{subject.name} must be a whole model; got an adapter; merge it into its base first"
        )
    suite = "pairing" if isinstance(plan, PairingPlan) else "specificity"
    run = folder / RUN
    rows = cross_validate(
        data.recipe, subject.checkpoint.name, data.sources, run, names=plan.columns, figures=True
    )
    details: dict[str, Detail] = {"protocol": plan.protocol}
    if plan.set:
        details["changes"] = " ".join(plan.set)
    if plan.recipe not in shipped_recipes():  # its name may stay when its content changes
        details["recipe_digest"] = _digest(data.recipe.to_dict())[:8]
    about = subject.result_fields(plan.command(suite))
    results = [replace(row, details={**row.details, **details}, **about) for row in rows]
    if suite == "pairing":
        status = status_of_chains(data.recipe, data.sources, plan.columns)
        if status is None:
            say("  no column tells which chains are mutated: accuracy is not split by mutation status")
        else:
            kinds = [kind_of(example, status) for example in data.examples]
            if unknown := kinds.count(None):
                say(
                    f"  accuracy by mutation status leaves out {unknown:,} of {len(kinds):,} pairs, "
                    "of which a chain's status is not known"
                )
            results += accuracy_by_status(data.examples, status, run, results)
    return results


def status_of_chains(
    recipe: Recipe, sources: Sequence[str], names: ColumnNames | None = None
) -> Status | None:
    """Mutation status of each chain of the tables, as far as they tell it; None where they never do."""
    status: dict[str, dict[str, bool]] = {chain: {} for chain in CHAINS}
    for batch in read_sources(list(sources), names_of(recipe, names), "paired"):
        for chain, known in mutation_status(pa.Table.from_batches([batch])).items():
            for residues, mutated in zip(batch[chain].to_pylist(), known, strict=True):
                if mutated is not None:
                    status[chain][residues] = mutated
    return status if all(status.values()) else None


def kind_of(example: Example, status: Status) -> str | None:
    """Kind of the pair by the status of its chains; None where that of one is not known."""
    heavy, light = status["heavy"].get(example.heavy or ""), status["light"].get(example.light or "")
    return None if heavy is None or light is None else KINDS[heavy + light]


def accuracy_by_status(
    examples: Examples, status: Status, run: Path, results: Sequence[Result]
) -> list[Result]:
    """Mean over the folds and standard error for each kind; `results` are those of the same run."""
    kinds = {example.number: kind_of(example, status) for example in examples}
    by_kind: dict[str, list[tuple[float, int]]] = {kind: [] for kind in KINDS.values()}
    for fold in read_run(run).folds:
        right = fold.predictions.argmax(axis=1) == fold.labels
        of_pairs = np.array([kinds[number] for number in fold.numbers])
        for kind, folds in by_kind.items():
            if (here := of_pairs == kind).any():
                folds.append((float(right[here].mean()), int(here.sum())))
    whole = next(row for row in results if row.metric == "accuracy" and "fold" not in row.details)
    rows = []
    for kind, folds in by_kind.items():
        if len(folds) > 1:
            value, error = mean_and_standard_error([accuracy for accuracy, _ in folds])
            rows.append(
                replace(
                    whole,
                    value=value,
                    standard_error=error,
                    num_items=sum(count for _, count in folds),
                    details={**whole.details, "pairs": kind},
                )
            )
    return rows
