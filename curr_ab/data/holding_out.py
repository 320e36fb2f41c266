"""The stages between order and shards, on disk: labels of clusters, then the split of each row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data import clustering, splitting
from curr_ab.data.atomic import replacing
from curr_ab.data.ordering import PartitionTask, read_partition
from curr_ab.data.plan import PreparationPlan


def write_labels(
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


def write_splits(
    plan: PreparationPlan, partitions: list[PartitionTask], order: Path, labels_path: Path
) -> Path:
    """The file of splits, next to the labels, from disk where an earlier run got so far."""
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
