"""Counts of what a split holds on both sides, from the written Parquet files alone.

Nothing here is shared with the code that makes clusters and splits: it would share its faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import ne
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
_CLONOTYPE = pa.schema([("group", pa.string()), ("cdr3", pa.string()), ("before", pa.string())])


@dataclass(frozen=True)
class CheckTask:
    """Shard of the training set to compare with the held-out ones."""

    shard: Path
    held_out: Mapping[str, pa.Array]  # values of each unit
    test: pa.Table  # clonotypes, each once


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
    """V gene, J gene and length as one text, and the CDRH3, of the rows that have a CDRH3.

    Where the V gene is not known, the residues before the CDRH3 stand for it.
    """
    cdr3 = _cdr3(batch)
    genes = [
        pc.fill_null(pc.replace_substring_regex(batch[name], r"^(Homsap )?([^*,; |]*).*$", r"\2"), "")
        for name in ("v_call_heavy", "j_call_heavy")
    ]
    group = pc.binary_join_element_wise(*genes, pc.binary_length(cdr3).cast(pa.string()), " ")
    columns = (genes[0].to_pylist(), batch["heavy"].to_pylist(), cdr3.to_pylist())
    before = [
        "" if v or not text else heavy[: heavy.rindex(text)] for v, heavy, text in zip(*columns, strict=True)
    ]
    table = pa.table([group, cdr3, pa.array(before, pa.string())], schema=_CLONOTYPE)
    return table.filter(pc.greater(pc.binary_length(cdr3), 0))


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
    num_different: int = sum(map(ne, one, other))  # of one length
    return num_different <= 1


def _alike(one: str, other: str) -> bool:
    """True where more than 80 % of the residues before the CDRH3s are equal, or both V genes are known."""
    equal = [a == b for a, b in zip(reversed(one[-96:]), reversed(other[-96:]), strict=False)]
    return sum(equal) > 0.8 * len(equal) or not equal


def _mates(train: pa.Table, test: pa.Table) -> set[tuple[str, ...]]:
    """Clonotypes of the test set of which the training set has one that differs by a residue at most."""
    found: set[tuple[str, ...]] = set()
    train = train.filter(pc.is_in(train["group"], pc.unique(test["group"])))
    for first in (True, False):
        halves = _half(test, first)
        of_half: dict[str, list[tuple[str, ...]]] = {}
        for half, one in zip(halves.to_pylist(), test.to_pylist(), strict=True):
            of_half.setdefault(half, []).append(tuple(one.values()))
        of_train = _half(train, first)
        near = train.append_column("half", of_train).filter(pc.is_in(of_train, halves))
        for row in near.group_by(near.column_names).aggregate([]).to_pylist():
            for one in of_half[row["half"]]:
                if _differ_by_one(one[1], row["cdr3"]) and _alike(one[2], row["before"]):
                    found.add(one)
    return found


def check_shard(task: CheckTask) -> tuple[dict[str, list[Any]], set[tuple[str, ...]]]:
    """Held-out values that the shard has too, and clonotypes of the test set with a mate in it."""
    shared: dict[str, set[Any]] = {unit: set() for unit in task.held_out}
    mates: set[tuple[str, ...]] = set()
    for batch in _batches(task.shard):
        for unit, values in task.held_out.items():
            column = batch[_UNITS[unit]]
            shared[unit].update(pc.unique(column.filter(pc.is_in(column, values))).to_pylist())
        mates |= _mates(_clonotypes(batch), task.test)
    return {unit: list(values) for unit, values in shared.items()}, mates


def check_splits(folder: Path, shards: Mapping[str, Sequence[str]], workers: Workers) -> dict[str, Any]:
    """Units with pairs in more than one split, and test pairs with a clone-mate in the training set.

    A clone-mate has the same V gene, J gene and length of the CDRH3, and at most one residue of it differs;
    where both V genes are unknown, more than 80 % of the residues before the CDRH3 are equal. Compared are
    the test pairs whose CDRH3 the files know, by its column or by the region mask.
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
    test = pa.concat_tables([_CLONOTYPE.empty_table(), *clonotypes])
    held_out = {
        unit: pa.array(sorted(values["validation"][unit] | values["test"][unit]), kind)
        for unit, kind in zip(_UNITS, (pa.int64(), pa.string(), pa.string()), strict=True)
    }
    distinct = test.group_by(_CLONOTYPE.names).aggregate([])
    tasks = [CheckTask(folder / f"{shard}.parquet", held_out, distinct) for shard in shards["train"]]
    shared = {unit: values["validation"][unit] & values["test"][unit] for unit in _UNITS}
    mates: set[tuple[str, ...]] = set()
    for found, of_test in workers.run(check_shard, tasks, "check"):
        for unit, names in found.items():
            shared[unit].update(names)
        mates |= of_test
    pairs = zip(*(test[name].to_pylist() for name in _CLONOTYPE.names), strict=True)
    return {
        **{f"{unit}_in_several_splits": len(names) for unit, names in shared.items()},
        "test_pairs_compared": len(test),
        "test_pairs_with_clone_mates_in_training": sum(pair in mates for pair in pairs),
    }


def check_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and counts of what is in more than one split, for people."""
    rows = [("clusters in more than one split", f"{report['clusters_in_several_splits']:,}")]
    if "test_pairs_compared" not in report:  # a folder that was made earlier lacks the other counts
        return rows
    if "donor" in report["annotated_before_duplicates"]:
        without = report.get("pairs_without_donor", 0)
        known = f" ({without:,} pairs have no donor)" if without else ""
        rows.append(("donors in more than one split", f"{report['donors_in_several_splits']:,}{known}"))
    rows.append(
        ("equal heavy chains in more than one split", f"{report['heavy_chains_in_several_splits']:,}")
    )
    mates, compared = report["test_pairs_with_clone_mates_in_training"], report["test_pairs_compared"]
    rows.append(
        ("test pairs with a clone-mate in training", f"{mates:,} of {compared:,} whose CDRH3 is written")
    )
    if counts := report.get("clonotypes"):
        names = {"cdr3": "from the source", "region_mask": "from region masks", "alignment": "by alignment"}
        names |= {
            "without_cdr3": "unknown",
            "v_genes_by_alignment": "with the nearest V gene of the file",
            "without_v_gene": "without V gene, linked by CDRH3 and framework",
            "without_framework": "of these by CDRH3 alone",
            "without_j_gene": "without J gene",
        }
        found = [f"{counts[name]:,} {words}" for name, words in names.items() if counts.get(name)]
        rows.append(("CDRH3s for clonotypes", ", ".join(found) or "none"))
    return rows
