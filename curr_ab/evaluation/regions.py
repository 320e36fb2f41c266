"""The suite `regions`: the loss of every residue masked alone, by region, segment and mutation status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.atomic import write_parquet
from curr_ab.data.schema import CHAINS, MASK_LETTERS, REGIONS
from curr_ab.evaluation.pair_tables import PairTable, mutation_status, read_pair_table
from curr_ab.evaluation.plan import RegionsPlan
from curr_ab.evaluation.region_estimates import RegionEstimate, estimate_regions, write_summary
from curr_ab.evaluation.subject import Subject
from curr_ab.inference.records import records_of
from curr_ab.inference.scoring import score
from curr_ab.results import Result

POSITIONS = "positions.parquet"
_SCHEMA = pa.schema(
    [
        ("pair", pa.int32()),
        ("id", pa.string()),
        ("chain", pa.string()),
        ("position", pa.int32()),
        ("residue", pa.string()),
        ("region", pa.string()),
        ("segment", pa.string()),
        ("chain_mutated", pa.bool_()),
        ("residue_mutated", pa.bool_()),
        ("loss", pa.float32()),
    ]
)


def open_data(plan: RegionsPlan, sources: list[str]) -> PairTable:
    """The pairs whose regions are known; without any there is nothing to tell."""
    found = read_pair_table(sources, plan.split)
    known = [found.pairs[name] for chain in CHAINS for name in (chain, f"region_mask_{chain}")]
    complete = pc.and_(pc.and_(*map(pc.is_valid, known[:2])), pc.and_(*map(pc.is_valid, known[2:])))
    pairs = found.pairs.filter(complete)
    if len(pairs) < 2:
        raise ValueError(
            f"{', '.join(sources)} ({found.split}): {len(pairs)} of {len(found.pairs)} pairs say where their "
            "regions are, and at least 2 are needed; bring columns region_mask_heavy and region_mask_light "
            "(docs/data.md)"
        )
    return PairTable(found.name, found.split, found.fingerprint, pairs)


def measure(
    subject: Subject, plan: RegionsPlan, data: PairTable, folder: Path, say: Callable[[str], None]
) -> list[Result]:
    """Mean and median by place and group; every residue's loss stays in `positions.parquet`."""
    model, tokenizer = subject.load()
    if model.config.is_decoder:
        raise ValueError(
            f"{subject.name} is a causal model: a residue cannot be masked; use the suite `loss`"
        )
    positions = position_losses(model, tokenizer, data.drawn(plan.pairs, plan.seed))
    write_parquet(folder / POSITIONS, positions)
    estimates = estimate_regions(positions, plan.seed)
    write_summary(folder / "summary.csv", estimates)
    about = subject.result_fields(plan.command("regions"))
    about |= {"task": "regions", "dataset": data.name, "split": data.split}
    return [result for estimate in estimates for result in _results(estimate, about)]


def position_losses(model: Any, tokenizer: Any, pairs: pa.Table) -> pa.Table:
    """The loss of each known residue of each pair, with all that is known of the residue."""
    from tqdm import tqdm

    status = mutation_status(pairs)
    batches = []  # columns a chain at a time: Python's own numbers of 10,000 pairs would fill the memory
    rows = zip(pairs.to_pylist(), score(model, tokenizer, records_of(pairs)), strict=True)
    for number, (row, found) in enumerate(tqdm(rows, total=len(pairs), unit="pair", disable=None)):
        losses = (-found.log_probabilities).numpy()
        for chain in CHAINS:
            own, length = losses[found.tokens.residues(chain)], len(row[chain])
            region, segment, mutated = _of_residues(row, chain)
            columns = (
                *([number] * length, [found.id] * length, [chain] * length),
                *(range(1, length + 1), list(row[chain]), region, segment),
                *([status[chain][number]] * length, mutated, own),
            )
            arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
            whole = pa.record_batch(arrays, schema=_SCHEMA)
            batches.append(whole.filter(pa.array(~np.isnan(own))))  # what is unknown has no loss
    return pa.Table.from_batches(batches, _SCHEMA)


def _of_residues(row: Mapping[str, Any], chain: str) -> tuple[list[Any], list[Any], list[Any]]:
    """Region, segment and whether it is mutated, for each residue; None where unknown."""
    length, found = len(row[chain]), []
    meanings: dict[str, Mapping[str, Any]] = {
        "region_mask": dict(zip(MASK_LETTERS["region_mask"], REGIONS, strict=True)),
        "segment_mask": {letter: letter for letter in MASK_LETTERS["segment_mask"]},
        "mutation_mask": {"0": False, "1": True},
    }
    for mask, meaning in meanings.items():
        text = row[f"{mask}_{chain}"]
        if text is not None and len(text) != length:
            raise ValueError(f"pair {row['id']!r}: {mask}_{chain} is not as long as the {chain} chain")
        found.append([None] * length if text is None else [meaning.get(letter) for letter in text])
    return found[0], found[1], found[2]


def _results(estimate: RegionEstimate, about: Mapping[str, Any]) -> list[Result]:
    details = {"place": estimate.place, "group": estimate.group}
    numbers = {
        "loss": (estimate.mean, estimate.mean_error),
        "median-loss": (estimate.median, estimate.median_error),
    }
    return [
        Result(
            metric=metric,
            value=value,
            standard_error=error,
            num_items=estimate.num_residues,
            details=details,
            **about,
        )
        for metric, (value, error) in numbers.items()
    ]


def draw(folder: Path, record: Mapping[str, Any]) -> None:
    """Pictures of all models that were measured like this one, side by side."""
    from curr_ab.evaluation.region_figures import draw_regions

    draw_regions(folder, record)
