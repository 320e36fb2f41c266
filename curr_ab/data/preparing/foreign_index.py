"""Check of an index and of Parquet files that somebody else may have written: names in them become paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from curr_ab.data.preparing.checks import check_rows
from curr_ab.data.preparing.clean import REASONS
from curr_ab.data.preparing.splits import SPLITS
from curr_ab.data.schema import MASK_LETTERS
from curr_ab.data.shards import ANNOTATION_DIGEST, PARQUET_DIGEST
from curr_ab.words import CHAINS

_KINDS: dict[str, type] = {"splits": dict, "subsets": dict, "masks": list, "request": dict, "report": dict}
_KINDS |= {"fingerprint": str}
_ARRAYS = {"tokens", "offsets", "heavy_lengths"}  # and one for each mask
_SHA256 = re.compile(r"[0-9a-f]{64}")


def require_index(file: str, index: Mapping[str, Any]) -> None:
    """Refuse an index with other keys, types or names than `prepare` writes; `file` is its name."""
    problem = next(_problems(index), None)
    if problem is not None:
        raise ValueError(
            f"{file} must be as `curr-ab data prepare` writes it; got {problem[:200]}; fetch or prepare the "
            "data again"
        )


def require_columns(file: str, schema: pa.Schema, masks: Sequence[str]) -> None:
    """Refuse pairs without the columns that arrays and digests are made from."""
    texts = {"split", *CHAINS, *(f"{mask}_{chain}" for mask in masks for chain in CHAINS)}
    types = {field.name: field.type for field in schema}
    bad = sorted(name for name in texts if types.get(name) != pa.string())
    bad += [name for name, type in types.items() if not _is_plain(type)]
    if bad or len(types) != len(schema):
        wrong = f"{bad[0]} of type {types.get(bad[0], 'none')}" if bad else "two of one name"
        raise ValueError(
            f"{file} must have the columns of prepared pairs; got {wrong}; fetch or prepare the data again"
        )


def _is_plain(type: pa.DataType) -> bool:
    return bool(pa.types.is_string(type) or pa.types.is_integer(type) or pa.types.is_floating(type))


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _are_counts(values: Any) -> bool:
    return isinstance(values, dict) and all(map(_is_count, values.values()))


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _problems(index: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong; each check relies on those before it, so only the first is asked for."""
    for key, kind in _KINDS.items():
        if not isinstance(index.get(key), kind):
            yield f"no {key}"
    masks = index["masks"]
    if any(mask not in list(MASK_LETTERS) for mask in masks) or len(set(masks)) != len(masks):
        yield f"the masks {', '.join(map(str, masks))}"
    if set(index["splits"]) != set(SPLITS):
        yield f"the splits {', '.join(index['splits']) or 'none'}"
    for split, entries in index["splits"].items():
        yield from _shard_problems(split, entries, _ARRAYS | set(masks))
    if not _are_counts(index["subsets"]):
        yield "subsets without their numbers of pairs"
    settings = index["request"].get("settings")
    if not isinstance(settings, dict) or not isinstance(settings.get("names"), dict):
        yield "no settings"
    if settings.get("chains") not in ("paired", "unpaired"):
        yield "no settings of the chains"
    if not _has_counts(index["report"]):
        yield "a report without its counts"
    sources = index.get("sources", [])  # the oldest have none
    if not isinstance(sources, list) or not all(map(_is_source, sources)):
        yield "sources without their sizes"
    if not isinstance(index.get("commits", []), list):
        yield "commits that are no list"


def _shard_problems(split: str, entries: Any, arrays: set[str]) -> Iterator[str]:
    """Entries of one split, whose names and arrays are parts of paths."""
    if not isinstance(entries, list):
        yield f"no list of the shards of {split}"
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield f"{entry} as a shard of {split}"
        if entry.get("name") != (name := f"{split}-{number:05d}"):
            yield f"the shards {entry.get('name')} in {split}, where {name} stands"
        if not _is_count(entry.get("num_pairs")) or not _is_count(entry.get("num_tokens")):
            yield f"in {name} other counts than of pairs and tokens"
        digests = entry.get("sha256")
        if not isinstance(digests, dict) or set(digests) != arrays:
            yield f"in {name} other digests than of its arrays"
        of_parquet = [entry.get(key) for key in (PARQUET_DIGEST, ANNOTATION_DIGEST)]
        if not all(map(_is_sha256, [*digests.values(), *of_parquet])):
            yield f"in {name} other digests than of its arrays"


def _is_source(source: Any) -> bool:
    """True for name, size, version and digest, of which only files here have the last."""
    return (
        isinstance(source, list)
        and len(source) == 4
        and isinstance(source[0], str)
        and _is_count(source[1])
        and (source[3] is None or _is_sha256(source[3]))
    )


def _has_counts(report: Mapping[str, Any]) -> bool:
    """True for a report with the numbers that a card shows."""
    try:
        check_rows(report)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    clusters: Any = report.get("clusters")
    dropped: Any = report.get("dropped")
    return (
        _are_counts({name: report.get(name) for name in ("read", "kept")})
        and _are_counts(clusters)
        and set(clusters) == set(SPLITS)
        and _are_counts(dropped)
        and set(dropped) <= set(REASONS)
    )
