"""Token shards on disk: their arrays, and a data set with random access to the pairs in them."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.tokens import Tokens, encode_masks, encode_pairs, flat_text
from curr_ab.files import file_digest, read_object, replacing, write_parquet
from curr_ab.words import VOCABULARY

FORMAT = "curr-ab token shards 1"
INDEX_NAME = "dataset.json"
_HEADER_BYTES = 128  # of an array of one dimension in NumPy's format
_MAX_MAPS = 1 << 15  # Linux allows a process 65,530, and libraries need some
_FORMATS: dict[str, Literal["q", "H"]] = {"offsets": "q", "heavy_lengths": "H"}  # of those not bytes
_madvise = CDLL(None).madvise if hasattr(mmap, "MADV_RANDOM") else None
_BLOCK = 1 << 20  # pairs whose lengths are in memory at once
# In a shard's entry; the oldest folders have neither. A file names its sources; the fingerprint ignores them.
PARQUET_DIGEST, ANNOTATION_DIGEST = "parquet_sha256", "annotation_sha256"


def shard_path(folder: Path, shard: str, array: str) -> Path:
    """Path of one array of a shard."""
    return folder / f"{shard}.{array}.npy"


def parquet_path(folder: Path, shard: str) -> Path:
    """Path of the pairs of a shard with their annotation."""
    return folder / f"{shard}.parquet"


def save_array(path: Path, values: npt.NDArray[Any]) -> None:
    """The bytes of `np.save`, which of a full disk says neither the path nor that it is full."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
        file.write(values.tobytes())


def annotation_digest(pairs: pa.Table) -> str:
    """SHA-256 of all columns but the name of the source, which depends on where the files lie."""
    digest = sha256()
    for name in sorted(set(pairs.column_names) - {"source"}):
        column = pairs[name].combine_chunks()
        digest.update(f"{name} {column.type} {len(column)}".encode())
        digest.update(column.is_valid().to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_string(column.type):
            letters, offsets = flat_text(pc.fill_null(column, ""))
            digest.update(offsets.astype(np.int32).tobytes())
            digest.update(letters.data)
        else:
            digest.update(pc.fill_null(column, 0).to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()


def parquet_digests(folder: Path, shard: str, pairs: pa.Table) -> dict[str, str]:
    """The digests of the Parquet file and of what it says."""
    path = parquet_path(folder, shard)
    return {PARQUET_DIGEST: file_digest(path), ANNOTATION_DIGEST: annotation_digest(pairs)}


def write_arrays(folder: Path, shard: str, pairs: pa.Table, masks: Sequence[str]) -> dict[str, Any]:
    """Write the arrays of a shard; return what its entry in the index says of them."""
    heavy, light = (pairs[chain].combine_chunks() for chain in ("heavy", "light"))
    tokens, offsets = encode_pairs(heavy, light)
    lengths = pc.fill_null(pc.binary_length(heavy), 0).to_numpy(zero_copy_only=False).astype(np.uint16)
    arrays: dict[str, npt.NDArray[Any]] = {"tokens": tokens, "offsets": offsets, "heavy_lengths": lengths}
    arrays |= {mask: encode_masks(pairs, mask) for mask in masks}
    digests = {}
    for name, values in arrays.items():
        path = shard_path(folder, shard, name)
        with replacing(path) as temporary:
            save_array(temporary, values)
            digests[name] = file_digest(temporary)
    return {"num_pairs": len(pairs), "num_tokens": len(tokens), "sha256": digests}


def write_shard(folder: Path, shard: str, pairs: pa.Table, masks: Sequence[str]) -> dict[str, Any]:
    """Write the arrays and the Parquet file of a shard; return its entry in the index."""
    arrays = write_arrays(folder, shard, pairs, masks)
    write_parquet(parquet_path(folder, shard), pairs)
    return {"name": shard, **arrays, **parquet_digests(folder, shard, pairs)}


def index_fingerprint(index: Mapping[str, Any]) -> str:
    """The fingerprint that an index should have: a digest of content and settings, which later steps compare.

    Of data sets of the Hub it covers the commits, too.
    """
    settings = index["request"]["settings"]
    if commits := index.get("commits"):
        settings = settings | {"commits": commits}
    content = {
        split: [{key: value for key, value in entry.items() if key != PARQUET_DIGEST} for entry in entries]
        for split, entries in index["splits"].items()
    }
    text = json.dumps([FORMAT, VOCABULARY, settings, content, index["subsets"]], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def read_index(path: Path) -> dict[str, Any]:
    """The index of a prepared folder."""
    index = read_object(path)
    if index.get("format") != FORMAT:
        raise ValueError(
            f"{path} must be in the format {FORMAT!r}; got {index.get('format')!r}; prepare the data again"
        )
    return index


def _map(path: Path) -> memoryview:
    """The bytes of a file, mapped; Arrow closes the file, where `mmap` keeps it open as long as its map."""
    with pa.memory_map(str(path)) as file:
        # Arrow has the system read ahead what it is asked for: one byte here, which holds the whole map.
        first = file.read_buffer(1)
        buffer = pa.foreign_buffer(first.address, file.size(), base=first)
    if _madvise is not None:
        # Else the system reads 128 kB around each pair that is not in memory yet.
        _madvise(c_void_p(buffer.address), c_size_t(buffer.size), mmap.MADV_RANDOM)
    return memoryview(buffer)


Pairs = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class GatheredPairs:
    """Tokens, lengths and masks of several pairs, end to end in the requested order."""

    tokens: Tokens
    lengths: npt.NDArray[np.int64]
    masks: tuple[Tokens, ...]


class TokenDataset:
    """A split of a prepared folder, or a subset of its training set.

    Subsets are nested: each is the beginning of the training set. A numbered `draw` of a subset, from 1 on,
    is as large, and shares no pair with another numbered draw of any subset.

    The arrays of a shard are mapped when the first of its pairs is read, and no file stays open. So a pair
    costs the same in any number of shards, and only the system holds what was read, while it has the memory.
    """

    def __init__(
        self, folder: str | Path, split: str = "train", subset: str | None = None, draw: int = 0
    ) -> None:
        self.folder = Path(folder)
        path = self.folder / INDEX_NAME
        if not path.exists():
            raise ValueError(
                f"{folder} holds no prepared data ({INDEX_NAME} is missing); run `curr-ab data prepare`"
            )
        self.index = read_index(path)
        if split not in self.index["splits"]:
            raise ValueError(f"{folder} has no split {split!r}; it has {', '.join(self.index['splits'])}")
        if subset is not None and split != "train":
            raise ValueError(f"subset {subset!r} is a part of train, not of {split}; leave the subset out")
        if subset is not None and subset not in self.index["subsets"]:
            raise ValueError(
                f"{folder} has the subsets {', '.join(self.index['subsets'])} of train, not {subset!r}"
            )
        self.split = split
        entries: list[dict[str, Any]] = self.index["splits"][split]
        starts = np.cumsum([0, *(entry["num_pairs"] for entry in entries)])
        self._num_pairs = int(starts[-1] if subset is None else self.index["subsets"][subset])
        first = self._first_of_draw(subset, draw, int(starts[-1]))
        shard = int(np.searchsorted(starts, first, side="right")) - 1
        self._entries = entries[shard:]
        self._starts = starts[shard:] - first  # the first shard may begin before the first pair
        self._maps: dict[tuple[int, str], memoryview] = {}

    def _first_of_draw(self, subset: str | None, draw: int, num_train: int) -> int:
        """The pair of the training set with which the draw begins; draws of all subsets lie end to end."""
        if draw == 0:
            return 0
        if subset is None:
            raise ValueError(
                f"draw {draw} must be of a subset; got none: name a subset, or leave the draw out"
            )
        sizes: dict[str, int] = self.index["subsets"]
        needed = draw * sum(sizes.values())
        if needed > num_train:
            raise ValueError(
                f"{draw} draws of the subsets {', '.join(sizes)} take {needed:,} different pairs, and the "
                f"training set of {self.folder} has {num_train:,}: make fewer draws, or smaller subsets"
            )
        before = list(sizes.values())[: list(sizes).index(subset)]
        return needed - sum(sizes.values()) + sum(before)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    @property
    def fingerprint(self) -> str:
        """Digest of the whole folder, its settings included."""
        return str(self.index["fingerprint"])

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of the masks in these shards."""
        return tuple(self.index["masks"])

    @property
    def shard_bounds(self) -> npt.NDArray[np.int64]:
        """The first pair of each shard, and the number of all pairs."""
        return np.unique(np.clip(self._starts, 0, self._num_pairs))

    def __len__(self) -> int:
        return self._num_pairs

    def _path(self, shard: int, array: str) -> Path:
        """The file of an array, whose size must be that of the index."""
        entry = self._entries[shard]
        sizes = {"offsets": 8 * (entry["num_pairs"] + 1), "heavy_lengths": 2 * entry["num_pairs"]}
        path = shard_path(self.folder, entry["name"], array)
        if not path.exists():
            raise ValueError(
                f"{path} is missing; if this is a published data set, which has no arrays, rebuild them: "
                f"curr-ab data prepare {self.folder} --out FOLDER"
            )
        if path.stat().st_size != _HEADER_BYTES + sizes.get(array, entry["num_tokens"]):
            raise ValueError(
                f"shard {entry['name']} of {self.folder} does not match {INDEX_NAME}; prepare the data again"
            )
        return path

    def _array(self, shard: int, array: str) -> memoryview:
        """The values of an array of a shard."""
        found = self._maps.get((shard, array))
        if found is None:
            if len(self._maps) >= _MAX_MAPS:
                del self._maps[next(iter(self._maps))]
            mapped = _map(self._path(shard, array))[_HEADER_BYTES:]
            found = self._maps[shard, array] = mapped.cast(_FORMATS.get(array, "B"))
        return found

    def _locate(self, pairs: Pairs) -> list[tuple[int, int]]:
        """The shard of each pair, and its row there."""
        chosen = np.asarray(pairs, np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < self._num_pairs:
            raise IndexError(
                f"pairs must be at least 0 and below {self._num_pairs}; got {chosen.min()} to {chosen.max()}"
            )
        shards = np.searchsorted(self._starts, chosen, side="right") - 1
        return list(zip(shards.tolist(), (chosen - self._starts[shards]).tolist(), strict=True))

    def __getitem__(self, pair: int) -> Tokens:
        """Token ids of one pair."""
        return self.gather([pair]).tokens

    def heavy_length(self, pair: int) -> int:
        """Number of residues of the heavy chain: its tokens are [1 : 1 + heavy_length]."""
        return int(self.heavy_lengths([pair])[0])

    def heavy_lengths(self, pairs: Pairs) -> npt.NDArray[np.uint16]:
        """Number of residues of each heavy chain."""
        lengths = [self._array(shard, "heavy_lengths")[row] for shard, row in self._locate(pairs)]
        return np.array(lengths, np.uint16)

    def mask(self, pair: int, name: str) -> Tokens:
        """Mask of every token: 0 where unknown or not a residue, else 1 + the letter's position."""
        return self.gather([pair], [name]).masks[0]

    def gather(self, pairs: Pairs, masks: Sequence[str] = ()) -> GatheredPairs:
        """Read the tokens and masks of many pairs; it costs what these pairs are, however many there are."""
        for name in masks:
            if name not in self.mask_names:
                raise ValueError(
                    f"mask must be one of {', '.join(self.mask_names) or '(none)'} in {self.folder}; "
                    f"got {name!r}"
                )
        slices = []
        for shard, row in self._locate(pairs):
            offsets = self._array(shard, "offsets")
            slices.append((shard, offsets[row], offsets[row + 1]))
        tokens, *of_masks = (
            np.frombuffer(
                bytearray().join([self._array(shard, name)[start:end] for shard, start, end in slices]),
                np.uint8,
            )
            for name in ("tokens", *masks)
        )
        lengths = np.array([end - start for _, start, end in slices], np.int64)
        return GatheredPairs(tokens, lengths, tuple(of_masks))

    def _length_blocks(self) -> Iterator[npt.NDArray[np.int64]]:
        """Lengths of the pairs, in blocks that fit into memory."""
        left = self._num_pairs
        for shard, entry in enumerate(self._entries):
            first = max(0, -int(self._starts[shard]))
            num_rows = min(left, entry["num_pairs"] - first)
            if not num_rows:
                return
            path = self._path(shard, "offsets")
            for row in range(first, first + num_rows, _BLOCK):
                # Read and not mapped, since it is read once and from end to end.
                count, start = min(_BLOCK, first + num_rows - row) + 1, _HEADER_BYTES + 8 * row
                offsets: npt.NDArray[np.int64] = np.fromfile(path, np.int64, count, offset=start)
                yield np.diff(offsets)
            left -= num_rows

    def lengths(self) -> npt.NDArray[np.uint16]:
        """Number of tokens of every pair, for packing pairs into batches: two bytes of memory a pair."""
        lengths = [block.astype(np.uint16) for block in self._length_blocks()]
        return np.concatenate([*lengths, np.zeros(0, np.uint16)])

    @cached_property
    def _length_facts(self) -> tuple[int, int, int]:
        """Sum of the lengths, sum of their squares, and the greatest."""
        total = squares = longest = 0
        for lengths in self._length_blocks():
            total += int(lengths.sum())
            squares += int(np.square(lengths).sum())
            longest = max(longest, int(lengths.max()))
        return total, squares, longest

    @property
    def num_tokens(self) -> int:
        """Number of tokens of all pairs."""
        return self._length_facts[0]

    @property
    def longest(self) -> int:
        """Number of tokens of the longest pair."""
        return self._length_facts[2]

    @property
    def squared_length(self) -> float:
        """Sum of squared lengths over sum of lengths of the pairs: what attention costs by the token."""
        total, squares, _ = self._length_facts
        return squares / total

    def verify(self) -> None:
        """Read every file of this split and compare it with its digest in the index."""
        parquet = {
            parquet_path(self.folder, entry["name"]): entry[PARQUET_DIGEST]
            for entry in self._entries
            if PARQUET_DIGEST in entry
        }
        _compare({**self._array_digests(self._entries), **parquet})

    def verify_arrays(self) -> None:
        """Read the arrays of these pairs and compare them with their digests, some 1.5 GB/s a core."""
        _compare(self._array_digests(self._entries[: len(self.shard_bounds) - 1]))

    def _array_digests(self, entries: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
        return {
            shard_path(self.folder, entry["name"], name): sha
            for entry in entries
            for name, sha in entry["sha256"].items()
        }


def _compare(digests: Mapping[Path, str]) -> None:
    """Refuse a file with another digest; several are read at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for (path, expected), found in zip(digests.items(), pool.map(file_digest, digests), strict=True):
            if found != expected:
                raise ValueError(f"{path} has changed since it was prepared; prepare the data again")
