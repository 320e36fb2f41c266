"""From sources to shards: read and clean, order and drop duplicates, cluster, split, write."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from curr_ab.data import clustering, splitting
from curr_ab.data.atomic import replacing, write_json
from curr_ab.data.buckets import BUCKET_BITS
from curr_ab.data.cleaning import REASONS, CleaningLimits
from curr_ab.data.columns import ColumnNames
from curr_ab.data.ordering import (
    PartitionTask,
    gather_keys,
    partition_bits,
    read_partition,
    spread_bucket,
    write_partition,
)
from curr_ab.data.parallel import Workers
from curr_ab.data.parts import PartTask, write_part
from curr_ab.data.reading import Chains
from curr_ab.data.schema import MASK_LETTERS, PAIR_SCHEMA
from curr_ab.data.shards import FORMAT, INDEX_NAME, fingerprint, write_shard
from curr_ab.data.sources import expand_sources
from curr_ab.data.tokens import VOCABULARY

CLUSTERINGS = ("mmseqs", "exact", "source")
WORK_NAME = ".work"


@dataclass(frozen=True)
class PreparationPlan:
    """What decides about the result. Shares are floats and numbers of pairs are integers."""

    names: ColumnNames = field(default_factory=ColumnNames)
    chains: Chains = "paired"
    limits: CleaningLimits = field(default_factory=CleaningLimits)
    cluster: str = "mmseqs"
    identity: float = 0.9
    coverage: float = 0.8
    group_by_donor: bool = False
    validation: float = 0.05
    test: float = 0.05
    subsets: Mapping[str, float] = field(default_factory=lambda: {"F": 1.0, "H": 0.5, "Q": 0.25})
    seed: int = 42
    pairs_per_shard: int = 1 << 17
    masks: bool = True

    def __post_init__(self) -> None:
        if self.cluster not in CLUSTERINGS:
            raise ValueError(f"cluster is {self.cluster!r}; it may be {', '.join(CLUSTERINGS)}")
        if not 0 < self.identity <= 1 or not 0 < self.coverage <= 1:
            raise ValueError("identity and coverage are shares between 0 and 1")
        if self.group_by_donor and self.cluster == "source":
            raise ValueError("a source's own split cannot be grouped by donor as well")
        if self.pairs_per_shard < 1:
            raise ValueError("a shard holds at least one pair")

    def settings(self) -> dict[str, Any]:
        """As JSON holds them."""
        settings: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return settings


def _check_state(out: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The finished index if this very request was finished; refuses a folder with another one."""
    finished = out / INDEX_NAME
    if finished.exists():
        index: dict[str, Any] = json.loads(finished.read_text())
        if index["request"] == request:
            return index
        raise ValueError(f"{out} holds data prepared from other sources or settings; choose another folder")
    started = out / WORK_NAME / "request.json"
    if started.exists() and json.loads(started.read_text()) != request:
        raise ValueError(
            f"{out} holds an unfinished preparation of other sources or settings; delete it first"
        )
    write_json(started, request)
    return None


def _labels(
    plan: PreparationPlan, partitions: list[PartitionTask], keys: Path, folder: Path, processes: int
) -> Path:
    """The file of cluster labels, from disk where an earlier run got so far."""
    path = folder / "labels.npy"
    if path.exists():
        return path
    sequence_keys = np.load(keys, mmap_mode="r")
    with replacing(path) as temporary:
        labels = clustering.create_labels(temporary, len(sequence_keys))
        if plan.cluster == "exact":
            clustering.label_equal(sequence_keys, labels)
        elif plan.cluster == "source":
            clustering.label_column(partitions, "clone", labels)
        else:
            clustering.label_similar(
                partitions,
                labels,
                identity=plan.identity,
                coverage=plan.coverage,
                threads=processes,
                folder=folder,
            )
        if plan.group_by_donor:
            with replacing(folder / "donors.npy") as donors_path:
                donors = clustering.create_labels(donors_path, len(labels))
                clustering.label_column(partitions, "donor", donors)
                splitting.join_groups(labels, donors)
    return path


def _given_splits(partitions: list[PartitionTask], splits: splitting.Splits) -> None:
    row = 0
    for task in partitions:
        column = read_partition(task, ["split"])["split"].combine_chunks()
        if column.null_count:
            raise ValueError("--cluster source needs a split for every record, and some have none")
        codes = pc.index_in(column, pa.array(splitting.SPLITS))
        splits[row : row + len(column)] = codes.to_numpy(zero_copy_only=False)
        row += len(column)


def _splits(plan: PreparationPlan, partitions: list[PartitionTask], order: Path, labels_path: Path) -> Path:
    path = labels_path.with_name("splits.npy")
    if path.exists():
        return path
    keys, labels = np.load(order, mmap_mode="r"), np.load(labels_path, mmap_mode="r")
    with replacing(path) as temporary:
        splits = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(labels),))
        if plan.cluster == "source":
            _given_splits(partitions, splits)
        else:
            splitting.assign_splits(labels, keys, splits, validation=plan.validation, test=plan.test)
    return path


@dataclass(frozen=True)
class ShardTask:
    """A stretch of one split, and the partitions in which it lies."""

    name: str
    split: int
    skipped: int  # pairs of the split in these partitions before the stretch
    num_pairs: int
    partitions: tuple[PartitionTask, ...]
    starts: tuple[int, ...]  # first row of each of these partitions, and the end of the last
    labels: Path
    splits: Path
    masks: tuple[str, ...]
    out: Path
    entry_path: Path


def _stretch(task: ShardTask) -> Iterator[pa.Table]:
    """The rows of the stretch with their clusters."""
    splits, labels = np.load(task.splits, mmap_mode="r"), np.load(task.labels, mmap_mode="r")
    first, last, seen = task.skipped, task.skipped + task.num_pairs, 0
    for partition, start, stop in zip(task.partitions, task.starts[:-1], task.starts[1:], strict=True):
        rows = np.flatnonzero(splits[start:stop] == task.split)
        wanted = rows[max(0, first - seen) : max(0, last - seen)]
        seen += len(rows)
        table = read_partition(partition, PAIR_SCHEMA.names).take(pa.array(wanted))
        split = pa.repeat(pa.scalar(splitting.SPLITS[task.split]), len(wanted))
        table = table.set_column(table.schema.get_field_index("split"), "split", split)
        yield table.append_column("cluster", pa.array(labels[start:stop][wanted]))


def write_task_shard(task: ShardTask) -> dict[str, Any]:
    """The shard's index entry, from disk where an earlier run finished it."""
    if task.entry_path.exists():
        done: dict[str, Any] = json.loads(task.entry_path.read_text())
        return done
    entry = write_shard(task.out, task.name, pa.concat_tables(_stretch(task)).combine_chunks(), task.masks)
    write_json(task.entry_path, entry)
    return entry


def _shard_tasks(
    plan: PreparationPlan,
    partitions: Sequence[PartitionTask],
    paths: tuple[Path, Path],
    masks: tuple[str, ...],
    out: Path,
) -> list[ShardTask]:
    labels, splits_path = paths
    sizes = [json.loads(task.summary_path.read_text())["kept"] for task in partitions]
    starts = np.cumsum([0, *sizes])
    splits = np.load(splits_path, mmap_mode="r")
    tasks = []
    for code, split in enumerate(splitting.SPLITS):
        counts = [np.count_nonzero(splits[a:b] == code) for a, b in pairwise(starts.tolist())]
        ends = np.cumsum(counts)
        for number, first in enumerate(range(0, int(ends[-1]), plan.pairs_per_shard)):
            last = min(first + plan.pairs_per_shard, int(ends[-1]))
            begin, end = int(np.searchsorted(ends, first, "right")), int(np.searchsorted(ends, last)) + 1
            name = f"{split}-{number:05d}"
            task = ShardTask(
                name=name,
                split=code,
                skipped=first - int(ends[begin] - counts[begin]),
                num_pairs=last - first,
                partitions=tuple(partitions[begin:end]),
                starts=tuple(starts[begin : end + 1].tolist()),
                labels=labels,
                splits=splits_path,
                masks=masks,
                out=out,
                entry_path=labels.with_name(f"{name}.json"),
            )
            tasks.append(task)
    return tasks


def _repeated_ids(keys: Path, folder: Path) -> int:
    """Records whose id an earlier record has; they are kept and told apart by source and record."""
    with replacing(folder / "id_labels.npy") as path:
        ids = np.load(keys, mmap_mode="r")
        labels = clustering.create_labels(path, len(ids))
        clustering.label_equal(ids, labels)
        return sum(
            int((labels[block] != np.arange(block.start, block.stop)).sum())
            for block in clustering.blocks(len(ids))
        )


def _join_dropped(tasks: Sequence[PartTask | PartitionTask], path: Path) -> None:
    with replacing(path) as temporary:
        existing = [task.dropped_path for task in tasks if task.dropped_path.exists()]
        schema = pa.parquet.read_schema(existing[0])
        with pa.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for one in existing:
                for batch in pa.parquet.ParquetFile(one).iter_batches():
                    writer.write_batch(batch)


def _counts(parts: Sequence[dict[str, Any]], partitions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    drops: Counter[str] = Counter()
    annotated: Counter[str] = Counter()
    for part in parts:
        drops.update(part["drops"])
        annotated.update(part["annotated"])
    drops["duplicate"] = sum(partition["duplicates"] for partition in partitions)
    kept = sum(partition["kept"] for partition in partitions)
    return {
        "read": kept + sum(drops.values()),
        "kept": kept,
        "dropped": {reason: drops[reason] for reason in REASONS if drops[reason]},
        "annotated_before_duplicates": {name: count for name, count in sorted(annotated.items()) if count},
        "set_aside": [part["set_aside"] for part in parts if part["set_aside"]],
    }


def prepare(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    plan: PreparationPlan | None = None,
    *,
    processes: int = 1,
    keep_going: bool = False,
    keep_dropped: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Token shards in `out`; the content of `dataset.json` is returned.

    A killed run is taken up where it ended. The result does not depend on `processes`.
    """
    plan, folder = plan or PreparationPlan(), Path(out)
    files = expand_sources(sources)
    if plan.cluster == "mmseqs":
        clustering.require_mmseqs()  # now, not after hours of reading
    flags = {"keep_going": keep_going, "keep_dropped": keep_dropped}
    request = {"sources": files, "settings": plan.settings(), **flags}
    if (finished := _check_state(folder, request)) is not None:
        return finished

    with Workers(processes, progress=progress) as workers:
        index = _run(files, folder, plan, workers, processes, keep_going, keep_dropped)
    index["request"] = request
    write_json(folder / INDEX_NAME, index)
    shutil.rmtree(folder / WORK_NAME)
    for leftover in folder.glob(".*.tmp"):  # of killed runs
        leftover.unlink(missing_ok=True)
    finished_index: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text())
    return finished_index


def _run(
    files: Sequence[str],
    folder: Path,
    plan: PreparationPlan,
    workers: Workers,
    processes: int,
    keep_going: bool,
    keep_dropped: bool,
) -> dict[str, Any]:
    """Every stage in turn; each takes from disk what an earlier run finished."""
    work = folder / WORK_NAME
    part_tasks = [
        PartTask(
            number,
            file,
            plan.names,
            plan.chains,
            plan.limits,
            plan.seed,
            work / "parts",
            keep_going,
            keep_dropped,
        )
        for number, file in enumerate(files)
    ]
    parts = workers.run(write_part, part_tasks, "read and clean")
    num_rows = sum(part["kept"] for part in parts)
    if num_rows == 0:
        counts = _counts(parts, [])
        reasons = (
            ", ".join(f"{reason} {count:,}" for reason, count in counts["dropped"].items())
            or "there are none"
        )
        aside = f"; set aside: {'; '.join(counts['set_aside'])}" if counts["set_aside"] else ""
        raise ValueError(f"no usable record in {len(files)} source(s) ({reasons}){aside}")

    # Named after the parts: a source that changed since an earlier run leads to a folder of its own.
    identities = json.dumps([part["identity"] for part in parts])
    stage = work / sha256(identities.encode()).hexdigest()[:16]
    bits = partition_bits(num_rows)
    partitions = [
        PartitionTask(number, bits, work / "parts", len(files), stage / "ordered", keep_dropped)
        for number in range(1 << bits)
    ]
    if bits > BUCKET_BITS:
        workers.run(spread_bucket, partitions[:: 1 << (bits - BUCKET_BITS)], "spread")
    ordered = workers.run(write_partition, partitions, "order")
    counts = _counts(parts, ordered)
    keys = gather_keys(partitions, stage)
    labels = _labels(plan, partitions, keys["sequence_key"], stage, processes)
    splits = _splits(plan, partitions, keys["order"], labels)
    report = splitting.split_report(np.load(labels, mmap_mode="r"), np.load(splits, mmap_mode="r"))
    report["repeated_ids"] = _repeated_ids(keys["id_key"], stage)
    subsets = splitting.subset_sizes(plan.subsets, report["pairs"]["train"])

    present = counts["annotated_before_duplicates"]
    masks = tuple(
        m for m in MASK_LETTERS if plan.masks and any(f"{m}_{c}" in present for c in ("heavy", "light"))
    )
    shard_tasks = _shard_tasks(plan, partitions, (labels, splits), masks, folder)
    entries = workers.run(write_task_shard, shard_tasks, "write shards")
    if keep_dropped:
        _join_dropped([*part_tasks, *partitions], folder / "dropped.parquet")
    shards: dict[str, list[dict[str, Any]]] = {split: [] for split in splitting.SPLITS}
    for entry in entries:
        shards[entry["name"].partition("-")[0]].append(entry)
    return {
        "format": FORMAT,
        "fingerprint": fingerprint(plan.settings(), shards, subsets),
        "vocabulary": VOCABULARY,
        "masks": masks,
        "splits": shards,
        "subsets": subsets,
        "report": {**counts, **report},
    }
