"""Rebuild of a data set that was prepared before: its arrays, made again from its Parquet files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from operator import call
from pathlib import Path
from typing import Any

import pyarrow.parquet

from curr_ab.data.preparing.folder import WORK_NAME, remove_others, working
from curr_ab.data.preparing.foreign_index import require_columns, require_index
from curr_ab.data.preparing.plan import PreparationPlan
from curr_ab.data.reading.objects import is_files, names_of_files
from curr_ab.data.reading.remote import RemoteFile, file_of_data_set, here
from curr_ab.data.reading.sources import locate
from curr_ab.data.shards import (
    ANNOTATION_DIGEST,
    FORMAT,
    INDEX_NAME,
    PARQUET_DIGEST,
    annotation_digest,
    index_fingerprint,
    parquet_path,
    read_index,
    shard_path,
    write_arrays,
)
from curr_ab.files import file_digest, read_object, replacing, write_json
from curr_ab.options import OptionError
from curr_ab.share import Share
from curr_ab.workers import Workers


@dataclass(frozen=True)
class PreparedData:
    """Data that `prepare` left, in a folder or on the Hub: the index, its bytes, and the name of its file."""

    index_file: str  # on the Hub with its commit
    content: bytes
    index: dict[str, Any]

    @property
    def place(self) -> str:
        """The folder, or the address of the data set."""
        return self.index_file.removesuffix(INDEX_NAME).rstrip("/")

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What the index says of each shard."""
        return [entry for entries in self.index["splits"].values() for entry in entries]

    def parquet_file(self, shard: str) -> str:
        """The file with the pairs of a shard."""
        name = self.index_file.removesuffix(INDEX_NAME) + f"{shard}.parquet"
        return RemoteFile(name) if isinstance(self.index_file, RemoteFile) else name


def find_prepared(sources: Any) -> PreparedData | None:
    """The prepared folder, or data set on the Hub, that is the only source; None for sources of pairs."""
    names = names_of_files(sources) if is_files(sources) else []
    if len(names) != 1:
        return None
    folder = Path(names[0])
    index = str(folder / INDEX_NAME) if folder.is_dir() else file_of_data_set(names[0], INDEX_NAME)
    if index is None:
        return None
    copy = here(index)
    path = Path(locate(copy)[0])
    if not path.is_file() or read_object(path).get("format") != FORMAT:
        return None
    return read_prepared(index, path)


def read_prepared(index_file: str, path: Path | None = None) -> PreparedData:
    """Read an index, of which `path` is a copy on this machine; a damaged or forged one is refused."""
    path = path or Path(index_file)
    index = read_index(path)
    require_index(index_file, index)
    data = PreparedData(index_file, path.read_bytes(), index)
    if index_fingerprint(index) != index["fingerprint"]:
        raise ValueError(
            f"{index_file} must have the fingerprint of what it lists; it was changed or damaged: fetch it "
            "again"
        )
    return data


def refuse_settings(plan: PreparationPlan | None, **flags: Any) -> None:
    """Refuse what would change the result: rebuilt data are as they were prepared."""
    plan, usual = plan or PreparationPlan(), PreparationPlan()
    given = [name for name, value in flags.items() if value]
    given += [one.name for one in fields(plan) if getattr(plan, one.name) != getattr(usual, one.name)]
    if given:
        raise OptionError(
            f"{given[0]} must be left out for data that are prepared already and are rebuilt as they are; to "
            "prepare their pairs anew, name the Parquet files",
            *given,
        )


@dataclass(frozen=True)
class RebuildTask:
    """Shard to rebuild into `out`; `done` is written when it is."""

    source: str
    entry: Mapping[str, Any]
    masks: Sequence[str]
    out: Path
    done: Path


def rebuild_shard(task: RebuildTask) -> None:
    """Write the arrays and a copy of the Parquet file, which must give what the index says of them."""
    if task.done.exists():
        return
    name, copy = task.entry["name"], here(task.source, task.out / WORK_NAME / "scratch")
    path = Path(locate(copy)[0])
    if not path.exists():
        raise ValueError(f"{task.source} is missing; fetch the data set again")
    if (digest := file_digest(path)) != task.entry[PARQUET_DIGEST]:
        raise ValueError(
            f"{task.source} must have the SHA-256 {task.entry[PARQUET_DIGEST][:12]}… that {INDEX_NAME} "
            f"lists; got {digest[:12]}…; fetch the data set again"
        )
    with pyarrow.parquet.ParquetFile(path) as file:
        require_columns(task.source, file.schema_arrow, task.masks)
        pairs = file.read()
    # What the arrays do not hold, such as donors, is proved by the digest of the annotation alone.
    found = {**write_arrays(task.out, name, pairs, task.masks), ANNOTATION_DIGEST: annotation_digest(pairs)}
    other = [key for key, value in found.items() if value != task.entry[key]]
    if other:
        raise ValueError(
            f"{task.source} must give what {INDEX_NAME} lists; {', '.join(other)} differ: prepare its pairs "
            "anew"
        )
    with replacing(parquet_path(task.out, name)) as temporary:
        shutil.copyfile(path, temporary)
    write_json(task.done, {"name": name})


def rebuild(data: PreparedData, out: Path, workers: Workers, share: Share | None = None) -> dict[str, Any]:
    """Write the prepared folder that the data set was published from; return its index.

    Shards are compared with the index one by one. What an earlier run finished is not done again.
    """
    if out.resolve() == Path(data.place).resolve():
        raise OptionError(f"out must be another folder than {data.place}, which is rebuilt", "out")
    # Any commit of the same content will do, but one run takes all files from one.
    request = {"fingerprint": data.index["fingerprint"], "sources": [data.place]}
    with working(out, request, workers, share) as run:
        if run is None:
            _require_arrays(out, data)
        else:
            done = out / WORK_NAME / "rebuilt"
            tasks = [
                RebuildTask(
                    source=data.parquet_file(entry["name"]),
                    entry=entry,
                    masks=data.index["masks"],
                    out=out,
                    done=done / f"{entry['name']}.json",
                )
                for entry in data.entries
            ]
            run(rebuild_shard, tasks, "rebuild shards")
            run(call, [partial(_write_index, out, data)], "index")
    return read_object(out / INDEX_NAME)


def _write_index(out: Path, data: PreparedData) -> None:
    """The index last of all, byte by byte as it was published."""
    remove_others(out, data.index["splits"], {})
    with replacing(out / INDEX_NAME) as temporary:
        temporary.write_bytes(data.content)


def _require_arrays(out: Path, data: PreparedData) -> None:
    """Refuse a copy of the published data set: it looks finished, but holds no arrays."""
    for entry in data.entries:
        for array in entry["sha256"]:
            if not shard_path(out, entry["name"], array).exists():
                raise OptionError(
                    f"{out} holds the data set as it is published, without {entry['name']}.{array}; name "
                    "another folder",
                    "out",
                )
