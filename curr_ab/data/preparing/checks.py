"""Counts of what a split holds on both sides, from the written Parquet files alone.

Nothing here is shared with the code that makes clusters and splits: it would share its faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from curr_ab.workers import Workers

# Pairs that share one of these belong together.
_UNITS = {"clusters": "cluster", "donors": "donor", "heavy_chains": "heavy"}
_COLUMNS = [*_UNITS.values(), "v_call_heavy", "j_call_heavy", "cdr3_heavy", "region_mask_heavy"]
_ROWS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class CheckTask:
    """Shard of the training set to compare with the held-out ones."""

    shard: Path
    held_out: Mapping[str, pa.Array]  # values of each unit
    test: pa.Table  # clonotype and CDRH3, each once


def _cdr3(batch: pa.RecordBatch) -> pa.Array:
    """CDRH3 of the source where the chain has it, else the residues of the region mask."""
    columns = (batch["heavy"], pc.ascii_upper(batch["cdr3_heavy"]), batch["region_mask_heavy"])
    values = [
        text if text and text in chain else chain[mask.find("6") : mask.rfind("6") + 1] if mask else None
        for chain, text, mask in zip(*(column.to_pylist() for column in columns), strict=True)
        if chain
    ]
    found = pa.nulls(len(batch), pa.string())
    return pc.replace_with_mask(found, batch["heavy"].is_valid(), pa.array(values, pa.string()))


def _clonotypes(batch: pa.RecordBatch) -> pa.Table:
    """V gene, J gene and length as one text, and the CDRH3, of the rows that have a CDRH3."""
    cdr3 = _cdr3(batch)
    genes = [
        pc.fill_null(pc.replace_substring_regex(batch[name], r"^(Homsap )?([^*,; |]*).*$", r"\2"), "")
        for name in ("v_call_heavy", "j_call_heavy")
    ]
    group = pc.binary_join_element_wise(*genes, pc.binary_length(cdr3).cast(pa.string()), " ")
    return pa.table({"group": group, "cdr3": cdr3}).filter(pc.greater(pc.binary_length(cdr3), 0))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=_COLUMNS)


def _half(table: pa.Table, first: bool) -> pa.Array:
    """Group and one half of the CDRH3: two that differ in one residue at most share a half."""
    texts = [
        f"{group} {cdr3[: len(cdr3) // 2] if first else cdr3[len(cdr3) // 2 :]}"
        for group, cdr3 in zip(table["group"].to_pylist(), table["cdr3"].to_pylist(), strict=True)
    ]
    return pa.array(texts, pa.string())


def _differ_by_one(one: str, other: str) -> bool:
    return sum(a != b for a, b in zip(one, other, strict=True)) <= 1


def _mates(train: pa.Table, test: pa.Table) -> set[tuple[str, str]]:
    """Clonotypes of the test set of which the training set has one that differs by a residue at most."""
    found: set[tuple[str, str]] = set()
    train = train.filter(pc.is_in(train["group"], pc.unique(test["group"])))
    for first in (True, False):
        halves = _half(test, first)
        of_half: dict[str, list[str]] = {}
        for half, cdr3 in zip(halves.to_pylist(), test["cdr3"].to_pylist(), strict=True):
            of_half.setdefault(half, []).append(cdr3)
        of_train = _half(train, first)
        near = train.append_column("half", of_train).filter(pc.is_in(of_train, halves))
        for row in near.group_by(near.column_names).aggregate([]).to_pylist():
            others = (cdr3 for cdr3 in of_half[row["half"]] if _differ_by_one(cdr3, row["cdr3"]))
            found.update((row["group"], cdr3) for cdr3 in others)
    return found


def check_shard(task: CheckTask) -> tuple[dict[str, list[Any]], set[tuple[str, str]]]:
    """Held-out values that the shard has too, and clonotypes of the test set with a mate in it."""
    shared: dict[str, set[Any]] = {unit: set() for unit in task.held_out}
    mates: set[tuple[str, str]] = set()
    for batch in _batches(task.shard):
        for unit, values in task.held_out.items():
            column = batch[_UNITS[unit]]
            shared[unit].update(pc.unique(column.filter(pc.is_in(column, values))).to_pylist())
        mates |= _mates(_clonotypes(batch), task.test)
    return {unit: list(values) for unit, values in shared.items()}, mates


def check_splits(folder: Path, shards: Mapping[str, Sequence[str]], workers: Workers) -> dict[str, Any]:
    """Units with pairs in more than one split, and test pairs with a clone-mate in the training set.

    A clone-mate has the same V gene, J gene and length of the CDRH3, and at most one residue of it differs.
    Compared are the test pairs whose CDRH3 the files know, by its column or by the region mask.
    """
    values: dict[str, dict[str, set[Any]]] = {}
    clonotypes = []
    for split in ("validation", "test"):
        values[split] = {unit: set() for unit in _UNITS}
        for shard in shards[split]:
            for batch in _batches(folder / f"{shard}.parquet"):
                for unit, column in _UNITS.items():
                    values[split][unit].update(pc.unique(batch[column].drop_null()).to_pylist())
                if split == "test":
                    clonotypes.append(_clonotypes(batch))
    empty = pa.table({"group": pa.array([], pa.string()), "cdr3": pa.array([], pa.string())})
    test = pa.concat_tables([empty, *clonotypes])
    held_out = {
        unit: pa.array(sorted(values["validation"][unit] | values["test"][unit]), kind)
        for unit, kind in zip(_UNITS, (pa.int64(), pa.string(), pa.string()), strict=True)
    }
    distinct = test.group_by(["group", "cdr3"]).aggregate([])
    tasks = [CheckTask(folder / f"{shard}.parquet", held_out, distinct) for shard in shards["train"]]
    shared = {unit: values["validation"][unit] & values["test"][unit] for unit in _UNITS}
    mates: set[tuple[str, str]] = set()
    for found, of_test in workers.run(check_shard, tasks, "check"):
        for unit, names in found.items():
            shared[unit].update(names)
        mates |= of_test
    pairs = zip(test["group"].to_pylist(), test["cdr3"].to_pylist(), strict=True)
    return {
        **{f"{unit}_in_several_splits": len(names) for unit, names in shared.items()},
        "test_pairs_compared": len(test),
        "test_pairs_with_clone_mates_in_training": sum(pair in mates for pair in pairs),
    }
