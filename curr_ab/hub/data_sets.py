"""Prepared data as a data-set repository: the files that it takes, and their check against index and card."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from curr_ab.data.preparing.foreign_index import require_columns
from curr_ab.data.preparing.rebuild import PreparedData, RebuildTask, read_prepared, rebuild_shard
from curr_ab.data.shards import INDEX_NAME, PARQUET_DIGEST, parquet_path
from curr_ab.files import file_digest, scratch_folder
from curr_ab.hub.card import stale_parts
from curr_ab.hub.data_card import DATA_SECTIONS, read_card, render_data_card
from curr_ab.hub.manifest import CARD, HUB_FILES

_NAME = re.compile(r"(?:hf://)?datasets/([^/@]+/[^/@]+)")


def data_set_id(name: str) -> str | None:
    """The repository of a data set, which is written `datasets/OWNER/NAME`; None for another name."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None


def data_files(folder: Path) -> list[str]:
    """Names of the files that a repository takes besides its card: the index and the Parquet files."""
    data = read_prepared(str(folder / INDEX_NAME))
    return [INDEX_NAME, *(parquet_path(Path(), entry["name"]).name for entry in data.entries)]


def data_note(folder: Path) -> str:
    """What the data are, in a few words."""
    data = read_prepared(str(folder / INDEX_NAME))
    rows = "pairs" if data.index["request"]["settings"]["chains"] == "paired" else "chains"
    return f"{sum(entry['num_pairs'] for entry in data.entries):,} {rows}"


def data_problems(folder: Path, *, scratch: str | None = None, rebuild: bool = False) -> list[str]:
    """What is wrong with the Parquet files by the index; with `rebuild` also with the arrays they give."""
    try:
        data = read_prepared(str(folder / INDEX_NAME))
    except (OSError, ValueError, KeyError) as error:
        return [f"{INDEX_NAME}: {error}".replace(f"{folder}/", "")]
    columns: list[str] = []
    problems = []
    for split, entries in data.index["splits"].items():
        for entry in entries:
            path = parquet_path(folder, entry["name"])
            if not path.is_file():
                problems.append(f"{path.name} is missing")
            elif (digest := file_digest(path)) != (expected := entry[PARQUET_DIGEST]):
                other = f"SHA-256 {digest[:12]}… instead of {expected[:12]}…"
                problems.append(f"{path.name} is not what was prepared: {other}")
            else:
                found = list(_table_problems(path, data, split, entry["num_pairs"], columns))
                problems += [f"{path.name}{text}" for text in found]
                if rebuild and not found:
                    problems += _array_problems(folder, data, entry["name"], scratch)
    num_train = sum(entry["num_pairs"] for entry in data.index["splits"]["train"])
    problems += [
        f"{INDEX_NAME}: the subset {name} is larger than the training set"
        for name, size in data.index["subsets"].items()
        if size > num_train
    ]
    return problems


def _table_problems(
    path: Path, data: PreparedData, split: str, num_rows: int, columns: list[str]
) -> Iterator[str]:
    """Rows, columns and split of one file; the first one leaves its columns for the others."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            require_columns("it", file.schema_arrow, data.index["masks"])
            columns[:] = columns or file.schema_arrow.names
            if (found := file.metadata.num_rows) != num_rows:
                yield f": it has {found:,} rows instead of {num_rows:,}"
            if file.schema_arrow.names != columns:
                yield ": its columns are not those of the first file"
            for batch in file.iter_batches(columns=["split"]):
                if not pc.all(pc.equal(batch["split"], split)).as_py():
                    yield f": it holds rows of another split than {split}"
                    return
    except (OSError, pa.ArrowException) as error:
        yield f" cannot be read ({error})"
    except ValueError as error:
        yield f": {error}"


def _array_problems(folder: Path, data: PreparedData, shard: str, scratch: str | None) -> list[str]:
    """The arrays of one shard, made by the code that makes them for a user."""
    (entry,) = (one for one in data.entries if one["name"] == shard)
    with scratch_folder("curr-ab-verify-", scratch) as out:
        task = RebuildTask(data.parquet_file(shard), entry, data.index["masks"], out, out / "done.json")
        try:
            rebuild_shard(task)
        except ValueError as error:
            return [str(error).replace(f"{folder}/", "")]
    return []


def other_files(folder: Path) -> list[str]:
    """The files of a downloaded repository that are neither card nor listed in the index."""
    known = {CARD, *HUB_FILES, *data_files(folder)}
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [f"{name} is not in {INDEX_NAME}" for name in names if name not in known]


def data_card_problems(folder: Path, repo_id: str | None) -> list[str]:
    """Parts of the card that the files beside it do not give; without a repository its owner is not asked."""
    if not (folder / CARD).is_file():
        return [f"{CARD} is missing"]
    text = read_card(folder)
    owner, _, name = (repo_id or f"{text.namespace}/{folder.resolve().name}").partition("/")
    try:
        expected = render_data_card(folder, name, replace(text, namespace=owner))
    except (OSError, ValueError, KeyError) as error:
        return [str(error).replace(f"{folder}/", "")]
    stale = stale_parts((folder / CARD).read_text(encoding="utf-8"), expected, DATA_SECTIONS)
    problems = [f"{CARD} is stale: {part} is not what the files beside it give" for part in stale]
    if text.license is None:
        problems.append(f"{CARD} names no license")
    if text.namespace != owner:
        problems.append(f"{CARD} names {text.namespace} as the owner, not {owner}")
    return problems
