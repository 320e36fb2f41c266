"""Token shards on disk: arrays that are mapped into memory, and a data set with random access to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.tokens import Tokens, encode_masks, encode_pairs
from curr_ab.files import file_digest, read_object, replacing, write_parquet
from curr_ab.words import VOCABULARY

FORMAT = "curr-ab token shards 1"
INDEX_NAME = "dataset.json"
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
            texts = pc.fill_null(column, "")
            offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1]
            digest.update((offsets - offsets[:1]).tobytes())
            if len(texts):
                digest.update(memoryview(texts.buffers()[2] or b"")[offsets[0] : offsets[-1]])
        else:
            digest.update(pc.fill_null(column, 0).to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()


def parquet_digests(folder: Path, shard: str, pairs: pa.Table) -> dict[str, str]:
    """The digests of the Parquet file and of what it says."""
    path = parquet_path(folder, shard)
    return {PARQUET_DIGEST: file_digest(path), ANNOTATION_DIGEST: annotation_digest(pairs)}


def write_shard(folder: Path, shard: str, pairs: pa.Table, masks: Sequence[str]) -> dict[str, Any]:
    """Write the arrays and the Parquet file of a shard; return its entry in the index."""
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
    write_parquet(parquet_path(folder, shard), pairs)
    sizes = {"num_pairs": len(pairs), "num_tokens": len(tokens)}
    return {"name": shard, **sizes, "sha256": digests, **parquet_digests(folder, shard, pairs)}


def fingerprint(
    settings: dict[str, Any], shards: dict[str, list[dict[str, Any]]], subsets: dict[str, int]
) -> str:
    """Digest of the content and the settings, which later steps compare."""
    content = {
        split: [{key: value for key, value in entry.items() if key != PARQUET_DIGEST} for entry in entries]
        for split, entries in shards.items()
    }
    text = json.dumps([FORMAT, VOCABULARY, settings, content, subsets], sort_keys=True)
    return sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class GatheredPairs:
    """Tokens, lengths and masks of several pairs, end to end in the requested order."""

    tokens: Tokens
    lengths: npt.NDArray[np.int64]
    masks: tuple[Tokens, ...]


@dataclass(frozen=True)
class _Shard:
    tokens: Tokens
    offsets: npt.NDArray[np.int64]
    heavy_lengths: npt.NDArray[np.uint16]
    masks: dict[str, Tokens]


class TokenDataset:
    """A split of a prepared folder, or a nested subset of its training set, read from mapped files."""

    def __init__(self, folder: str | Path, split: str = "train", subset: str | None = None) -> None:
        self.folder = Path(folder)
        path = self.folder / INDEX_NAME
        if not path.exists():
            raise ValueError(
                f"{folder} holds no prepared data ({INDEX_NAME} is missing); run `curr-ab data prepare`"
            )
        self.index = read_object(path)
        if self.index["format"] != FORMAT:
            raise ValueError(
                f"{path} must be in the format {FORMAT!r}; got {self.index['format']!r}; "
                "prepare the data again"
            )
        if split not in self.index["splits"]:
            raise ValueError(f"{folder} has no split {split!r}; it has {', '.join(self.index['splits'])}")
        if subset is not None and split != "train":
            raise ValueError(f"subset {subset!r} is a part of train, not of {split}; leave the subset out")
        if subset is not None and subset not in self.index["subsets"]:
            raise ValueError(
                f"{folder} has the subsets {', '.join(self.index['subsets'])} of train, not {subset!r}"
            )
        self.split = split
        self._entries: list[dict[str, Any]] = self.index["splits"][split]
        self._starts = np.cumsum([0, *(entry["num_pairs"] for entry in self._entries)])
        self._num_pairs = int(self._starts[-1] if subset is None else self.index["subsets"][subset])
        self._open: dict[int, _Shard] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A loader's worker maps the files anew; pickled, the mapped arrays would travel whole.
        return self.__dict__ | {"_open": {}}

    @property
    def fingerprint(self) -> str:
        """Digest of the whole folder, its settings included."""
        return str(self.index["fingerprint"])

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of the masks in these shards."""
        return tuple(self.index["masks"])

    def __len__(self) -> int:
        return self._num_pairs

    def _shard(self, index: int) -> _Shard:
        if index not in self._open:
            entry = self._entries[index]

            def array(name: str) -> Any:
                return np.load(shard_path(self.folder, entry["name"], name), mmap_mode="r")

            masks = {mask: array(mask) for mask in self.mask_names}
            shard = _Shard(array("tokens"), array("offsets"), array("heavy_lengths"), masks)
            expected = (entry["num_tokens"], entry["num_pairs"] + 1)
            if (len(shard.tokens), len(shard.offsets)) != expected:
                raise ValueError(
                    f"shard {entry['name']} of {self.folder} does not match {INDEX_NAME}; "
                    "prepare the data again"
                )
            self._open[index] = shard
        return self._open[index]

    def _locate(self, pair: int) -> tuple[_Shard, int]:
        if not 0 <= pair < self._num_pairs:
            raise IndexError(f"pair must be at least 0 and below {self._num_pairs}; got {pair}")
        index = int(np.searchsorted(self._starts, pair, side="right")) - 1
        return self._shard(index), pair - int(self._starts[index])

    def __getitem__(self, pair: int) -> Tokens:
        """Token ids of one pair, as a view of the file."""
        shard, row = self._locate(pair)
        return shard.tokens[shard.offsets[row] : shard.offsets[row + 1]]

    def heavy_length(self, pair: int) -> int:
        """Number of residues of the heavy chain: its tokens are [1 : 1 + heavy_length]."""
        shard, row = self._locate(pair)
        return int(shard.heavy_lengths[row])

    def mask(self, pair: int, name: str) -> Tokens:
        """Mask of every token: 0 where unknown or not a residue, else 1 + the letter's position."""
        shard, row = self._locate(pair)
        if name not in shard.masks:
            raise ValueError(
                f"mask must be one of {', '.join(self.mask_names) or '(none)'} in {self.folder}; got {name!r}"
            )
        return shard.masks[name][shard.offsets[row] : shard.offsets[row + 1]]

    def gather(
        self, pairs: Sequence[int] | npt.NDArray[np.int64], masks: Sequence[str] = ()
    ) -> GatheredPairs:
        """Copy the tokens and masks of many pairs."""
        chosen = np.asarray(pairs, np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < self._num_pairs:
            raise IndexError(
                f"pairs must be at least 0 and below {self._num_pairs}; got {chosen.min()} to {chosen.max()}"
            )
        shard_of_pair = np.searchsorted(self._starts, chosen, side="right") - 1
        lengths = np.empty(len(chosen), np.int64)
        firsts = np.empty(len(chosen), np.int64)
        for index in np.unique(shard_of_pair):
            inside = shard_of_pair == index
            offsets = self._shard(int(index)).offsets
            rows = chosen[inside] - self._starts[index]
            firsts[inside], lengths[inside] = offsets[rows], offsets[rows + 1] - offsets[rows]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        source, shard_of_token = within + np.repeat(firsts, lengths), np.repeat(shard_of_pair, lengths)
        arrays = [np.empty(len(source), np.uint8) for _ in range(1 + len(masks))]
        for index in np.unique(shard_of_pair):
            inside = shard_of_token == index
            shard = self._shard(int(index))
            for array, values in zip(arrays, (shard.tokens, *(shard.masks[m] for m in masks)), strict=True):
                array[inside] = values[source[inside]]
        return GatheredPairs(arrays[0], lengths, tuple(arrays[1:]))

    def lengths(self) -> npt.NDArray[np.uint16]:
        """Number of tokens of every pair, for packing pairs into batches."""
        lengths = [
            np.diff(self._shard(index).offsets).astype(np.uint16) for index in range(len(self._entries))
        ]
        return np.concatenate([*lengths, np.zeros(0, np.uint16)])[: self._num_pairs]

    def verify(self) -> None:
        """Read every file of this split and compare it with its digest in the index."""
        for entry in self._entries:
            files = {
                shard_path(self.folder, entry["name"], name): sha for name, sha in entry["sha256"].items()
            }
            if PARQUET_DIGEST in entry:
                files[parquet_path(self.folder, entry["name"])] = entry[PARQUET_DIGEST]
            for path, expected in files.items():
                if file_digest(path) != expected:
                    raise ValueError(f"{path} has changed since it was prepared; prepare the data again")
