"""The storage behind Xet as the client speaks to it: xorbs of compressed chunks, and shards that say what is made of them.

Formats: https://huggingface.co/docs/xet (xorb, shard, api). Hashes of chunks and files are taken as names.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

import pyarrow

CHUNK_HEADER = 8
ENTRY = 48
BOOKEND = b"\xff" * 32
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30
NONE, LZ4, GROUPED_LZ4 = range(3)


def name_of(raw: bytes) -> str:
    """A hash as it stands in addresses: four little-endian numbers in hexadecimal."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def read_chunks(xorb: bytes) -> list[bytes]:
    """The chunks of a xorb, unpacked; the footer begins where no chunk does."""
    chunks, position = [], 0
    while position + CHUNK_HEADER <= len(xorb) and xorb[position] == 0:
        packed_size = int.from_bytes(xorb[position + 1 : position + 4], "little")
        scheme = xorb[position + 4]
        size = int.from_bytes(xorb[position + 5 : position + 8], "little")
        position += CHUNK_HEADER
        chunks.append(unpack(xorb[position : position + packed_size], scheme, size))
        position += packed_size
    return chunks


def unpack(packed: bytes, scheme: int, size: int) -> bytes:
    if scheme == NONE:
        return packed
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


@dataclass
class Xet:
    """Xorbs by their names, and the files that shards have made of them by SHA-256."""

    xorbs: dict[str, list[bytes]] = field(default_factory=dict)

    def put_xorb(self, name: str, content: bytes) -> bool:
        is_new = name not in self.xorbs
        self.xorbs[name] = read_chunks(content)
        return is_new

    def put_shard(self, shard: bytes) -> dict[str, bytes]:
        """The files that a shard describes, put together."""
        files, position = {}, ENTRY  # after the header
        while shard[position : position + 32] != BOOKEND:
            flags, count = struct.unpack_from("<II", shard, position + 32)
            position += ENTRY
            content = b""
            for _ in range(count):
                name = name_of(shard[position : position + 32])
                size, start, stop = struct.unpack_from("<III", shard, position + 36)
                term = b"".join(self.xorbs[name][start:stop])
                assert len(term) == size
                content += term
                position += ENTRY
            if flags & WITH_VERIFICATION:
                position += ENTRY * count
            digest = hashlib.sha256(content).hexdigest()
            if flags & WITH_METADATA:
                assert digest in (name_of(shard[position : position + 32]), shard[position : position + 32].hex())
                position += ENTRY
            files[digest] = content
        return files
