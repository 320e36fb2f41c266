"""The storage behind Xet: xorbs of compressed chunks, and shards that say which files are made of them.

Formats: https://huggingface.co/docs/xet (xorb, shard, api). Hashes of chunks and files are taken as names.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any

CHUNK_HEADER = 8
ENTRY = 48
BOOKEND = b"\xff" * 32
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30
NONE, LZ4, GROUPED_LZ4 = range(3)


def name_of(raw: bytes) -> str:
    """A hash as it stands in addresses: four little-endian numbers in hexadecimal."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def read_chunks(xorb: bytes) -> tuple[list[bytes], list[int]]:
    """The chunks of a xorb, unpacked, and where each begins; the footer begins where no chunk does."""
    chunks, bounds = [], [0]
    while bounds[-1] + CHUNK_HEADER <= len(xorb) and xorb[bounds[-1]] == 0:
        start = bounds[-1]
        packed_size = int.from_bytes(xorb[start + 1 : start + 4], "little")
        scheme = xorb[start + 4]
        size = int.from_bytes(xorb[start + 5 : start + 8], "little")
        bounds.append(start + CHUNK_HEADER + packed_size)
        chunks.append(unpack(xorb[start + CHUNK_HEADER : bounds[-1]], scheme, size))
    return chunks, bounds


def unpack(packed: bytes, scheme: int, size: int) -> bytes:
    if scheme == NONE:
        return packed
    import pyarrow  # here, because most tests' Hubs meet no Xet and start sooner without

    plain = pyarrow.Codec("lz4").decompress(packed, decompressed_size=size, asbytes=True)
    if scheme == LZ4:
        return plain
    assert scheme == GROUPED_LZ4
    # The bytes stand grouped by their place in numbers of four bytes.
    numbers, position = bytearray(size), 0
    for place in range(4):
        length = len(range(place, size, 4))
        numbers[place::4] = plain[position : position + length]
        position += length
    return bytes(numbers)


@dataclass(frozen=True)
class Term:
    """A range of the chunks of one xorb, the next stretch of a file."""

    xorb: str
    size: int
    start: int
    stop: int


@dataclass
class Xet:
    """Xorbs by their names, and what files are made of them."""

    xorbs: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, list[Term]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # of files, by SHA-256

    def put_xorb(self, name: str, content: bytes) -> bool:
        is_new = name not in self.xorbs
        self.xorbs[name] = content
        return is_new

    def put_shard(self, shard: bytes) -> dict[str, bytes]:
        """The files that a shard describes, put together, by SHA-256."""
        made, position = {}, ENTRY  # after the header
        while shard[position : position + 32] != BOOKEND:
            name = name_of(shard[position : position + 32])
            flags, count = struct.unpack_from("<II", shard, position + 32)
            terms = []
            for place in range(position + ENTRY, position + ENTRY * (count + 1), ENTRY):
                size, start, stop = struct.unpack_from("<III", shard, place + 36)
                terms.append(Term(name_of(shard[place : place + 32]), size, start, stop))
            position += ENTRY * (1 + count)
            position += ENTRY * count if flags & WITH_VERIFICATION else 0
            content = b"".join(self._unpacked(term) for term in terms)
            digest = hashlib.sha256(content).hexdigest()
            assert flags & WITH_METADATA and digest == name_of(shard[position : position + 32])
            position += ENTRY
            made[digest] = content
            self.files[name], self.names[digest] = terms, name
        return made

    def _unpacked(self, term: Term) -> bytes:
        content = b"".join(read_chunks(self.xorbs[term.xorb])[0][term.start : term.stop])
        assert len(content) == term.size
        return content

    def reconstruction(self, name: str, address: str) -> dict[str, Any]:
        """The parts to fetch, and the way to put them together again."""
        fetch: dict[str, list[dict[str, Any]]] = {}
        terms = []
        for term in self.files[name]:
            bounds = read_chunks(self.xorbs[term.xorb])[1]
            chunks = {"start": term.start, "end": term.stop}
            stretch = {"start": bounds[term.start], "end": bounds[term.stop] - 1}
            terms.append({"hash": term.xorb, "unpacked_length": term.size, "range": chunks})
            entry = {"range": chunks, "url": f"{address}/{term.xorb}", "url_range": stretch}
            fetch.setdefault(term.xorb, []).append(entry)
        return {"offset_into_first_range": 0, "terms": terms, "fetch_info": fetch}
