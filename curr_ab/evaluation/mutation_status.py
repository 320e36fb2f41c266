"""Accuracy on pairs whose chains are both mutated, both not, or only one: the last shows without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab.data.reading import read_pairs
from curr_ab.data.schema import CHAINS
from curr_ab.evaluation.fold_statistics import mean_and_standard_error
from curr_ab.evaluation.pair_tables import mutation_status
from curr_ab.finetuning.examples import Example, Examples
from curr_ab.finetuning.recipe import Recipe
from curr_ab.results import Result

KINDS = {2: "both mutated", 0: "both unmutated", 1: "only one mutated"}
Status = Mapping[str, Mapping[str, bool]]  # by chain, then by its residues


def status_of_chains(recipe: Recipe, sources: Sequence[str]) -> Status | None:
    """Whether each chain of the tables is mutated, as far as they tell it; None where they never do."""
    found: dict[str, dict[str, bool]] = {chain: {} for chain in CHAINS}
    for batch in read_pairs(
        sources,
        heavy_column=recipe.heavy_column,
        light_column=recipe.light_column,
        id_column=recipe.id_column,
    ):
        for chain, known in mutation_status(pa.Table.from_batches([batch])).items():
            for residues, mutated in zip(batch[chain].to_pylist(), known, strict=True):
                if mutated is not None:
                    found[chain][residues] = mutated
    return found if all(found.values()) else None


def kind_of(example: Example, status: Status) -> str | None:
    """None where a chain's status is not known."""
    heavy, light = status["heavy"].get(example.heavy), status["light"].get(example.light)
    return None if heavy is None or light is None else KINDS[heavy + light]


def accuracy_by_status(
    examples: Examples, status: Status, run: Path, results: Sequence[Result]
) -> list[Result]:
    """Mean over the folds and standard error for each kind; `results` are those of the same run."""
    kinds = {one.number: kind_of(one, status) for one in examples}
    by_kind: dict[str, list[tuple[float, int]]] = {kind: [] for kind in KINDS.values()}
    for path in sorted(run.glob("fold-*/predictions.parquet")):
        table = pq.read_table(path)
        probabilities = [table[f"probability_{name}"].to_numpy() for name in examples.label_names]
        chosen = np.argmax(np.stack(probabilities), axis=0)
        right = np.array(examples.label_names)[chosen] == np.array(table["label"].to_pylist())
        of_rows = np.array([kinds[number] for number in table["number"].to_pylist()])
        for kind, folds in by_kind.items():
            if (here := of_rows == kind).any():
                folds.append((float(right[here].mean()), int(here.sum())))
    whole = next(row for row in results if row.metric == "accuracy" and "fold" not in row.details)
    found = []
    for kind, folds in by_kind.items():
        if len(folds) > 1:
            value, error = mean_and_standard_error([accuracy for accuracy, _ in folds])
            found.append(
                replace(
                    whole,
                    value=value,
                    standard_error=error,
                    num_items=sum(count for _, count in folds),
                    details={**whole.details, "pairs": kind},
                )
            )
    return found
