"""A prepared folder of any number of shards, made in no time: they hold the same pairs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab.data import builtin_path
from curr_ab.data.shards import FORMAT, INDEX_NAME, index_fingerprint, parquet_path, shard_path, write_shard
from curr_ab.files import write_json
from curr_ab.words import VOCABULARY

SPLITS = ("train", "validation", "test")
MASKS = ("region_mask",)


def write_many_shards(folder: Path, num_shards: int, pairs_per_shard: int = 32) -> Path:
    """Training shards in this number, and one of each other split."""
    folder.mkdir(parents=True)
    corpus = pq.read_table(builtin_path())
    pairs = pa.concat_tables([corpus] * -(-pairs_per_shard // len(corpus))).slice(0, pairs_per_shard)
    entry = write_shard(folder, "model", pairs, MASKS)
    shards = {
        split: [entry | {"name": f"{split}-{n:05d}"} for n in range(num_shards if split == "train" else 1)]
        for split in SPLITS
    }
    for name in (one["name"] for entries in shards.values() for one in entries):
        for array in entry["sha256"]:
            shutil.copyfile(shard_path(folder, "model", array), shard_path(folder, name, array))
        shutil.copyfile(parquet_path(folder, "model"), parquet_path(folder, name))
    for path in folder.glob("model.*"):
        path.unlink()
    subsets = {"F": num_shards * pairs_per_shard}
    index = {
        "format": FORMAT,
        "vocabulary": VOCABULARY,
        "masks": MASKS,
        "splits": shards,
        "subsets": subsets,
        "request": {"settings": {}},
    }
    write_json(folder / INDEX_NAME, index | {"fingerprint": index_fingerprint(index)})
    return folder
