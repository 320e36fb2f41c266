"""Damage to a file, drawn by a generator of random numbers: to its bytes, and to what its format says."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import yaml

# What is put into files: marks of their syntax, and what is too large, too deep or not what it looks like.
PIECES = (
    *(
        b"",
        b"\0",
        b"\xff\xfe",
        b'"',
        b"'",
        b"\n",
        b"\r",
        b",",
        b"\t",
        b";",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"- ",
    ),
    *(b"null", b"true", b"NaN", b"-1", b"1e999", b"9" * 400, b"[" * 2_000, b"../../x", b"/etc/passwd"),
    *(
        b"!!python/object/apply:os.system [ls]",
        b"&a [*a]",
        b"\x1b[31m",
        b"<script>",
        b"=cmd()",
        b"\xe2\x80\xae",
    ),
)
MOST_BYTES = 1_000_000  # of a field that grows
DEEP: list[Any] = []
for _ in range(80):
    DEEP = [DEEP]
# What stands in the place of a value: of another type, too large, long or deep, or outside of the folder.
VALUES = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -1e308, float("nan"), float("inf")),
    *("", "0", "x", "x" * 100_000, "../../x", "/etc/passwd", "C:\\x", "a/b", "\0", "\x1b[31m", "\ud800"),
    *("<script>alert(1)</script>", "{{ 7 * 7 }}", "=cmd()", "__class__", "none", "model.safetensors"),
    *([], {}, [[]], {"": None}, [None] * 50, [0] * 5_000, DEEP),
)


def damaged(content: bytes, name: str, rng: random.Random) -> bytes:
    """The content of a file of this name with some damage, one time in three to its bytes alone."""
    of_format = next((damage for ending, damage in FORMATS.items() if name.endswith(ending)), None)
    if of_format is None and content.lstrip()[:1] in (b"{", b"["):
        of_format = _json
    if of_format is None or rng.random() < 1 / 3:
        return _lines(content, rng) if rng.random() < 0.3 else _bytes(content, rng)
    return of_format(content, rng)


def anything(rng: random.Random) -> bytes:
    """Bytes, letters and pieces that were never a file."""
    parts = [
        rng.choice(
            (
                rng.randbytes(rng.randrange(40)),
                bytes(rng.choices(b"ACDEFGHIKLMNPQRSTVWY,\n>", k=rng.randrange(80))),
                chr(rng.randrange(0xD800)).encode() * rng.randrange(5),
                rng.choice(PIECES),
                rng.choice(
                    (b"PAR1", b"PK\3\4", b"\x1f\x8b\x08", b"ARROW1", b"BZh91AY&SY", b"\xfd7zXZ\0", b">a\n")
                ),
            )
        )
        for _ in range(rng.randrange(8))
    ]
    return b"".join(parts)


def _bytes(content: bytes, rng: random.Random) -> bytes:
    """Pieces put in, mostly in the place of a few bytes."""
    for _ in range(rng.randint(1, 6)):
        start = rng.randint(0, len(content))
        end = start + int(rng.random() ** 4 * (len(content) - start))
        piece = rng.choice(PIECES) if rng.random() < 0.7 else rng.randbytes(rng.randrange(8))
        content = content[:start] + piece + content[end:]
    return content


def _lines(content: bytes, rng: random.Random) -> bytes:
    """Whole lines and fields lost, said twice, exchanged or grown."""
    lines = content.split(b"\n")
    for _ in range(rng.randint(1, 3)):
        mark = rng.choice((b",", b"\t", b" ", b":"))
        place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        fields = lines[place].split(mark)
        field = rng.randrange(len(fields))
        match rng.randrange(5):
            case 0:
                del fields[field]
            case 1:
                fields[field] *= min(rng.choice((2, 1_000)), max(1, MOST_BYTES // max(1, len(fields[field]))))
            case 2:
                fields[field] = rng.choice(PIECES)
            case 3:
                lines[place], lines[other] = lines[other], lines[place]
                continue
            case _:
                fields.insert(field, fields[rng.randrange(len(fields))])
        lines[place] = mark.join(fields)
    return b"\n".join(lines)


def changed(value: Any, rng: random.Random) -> Any:
    """The value with one part of it, at any depth, lost, put in, said twice or of another kind."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        value = value.copy()
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                del value[key]
            case 1 if isinstance(value, dict):
                value[rng.choice(("", "x", "../x", "0", "__class__", f"{key}_"))] = rng.choice(VALUES)
            case 1:
                value.insert(key, rng.choice(VALUES))
            case 2 if isinstance(value, dict):
                value[key] = value[rng.choice(list(value))]
            case 2:
                value *= rng.choice((2, 20))
            case _:
                value[key] = changed(value[key], rng)
        return value
    if isinstance(value, str) and rng.random() < 0.3:
        return value.upper() if rng.random() < 0.2 else value + rng.choice(("0", "/..", "\n", "\u202e"))
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((-value, value + 1, value * 10**9, str(value), [value]))
    return rng.choice(VALUES)


def _changes(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = changed(value, rng)
    return value


def _json(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(_changes(json.loads(content), rng)).encode()


def _json_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    lines[place] = _json(lines[place], rng)
    return b"\n".join(lines)


def _yaml(content: bytes, rng: random.Random) -> bytes:
    text = yaml.safe_dump(_changes(yaml.safe_load(content), rng), allow_unicode=True)
    return text.encode(errors="surrogatepass")


def _numbers_of_headers(content: bytes, rng: random.Random, start: int, end: int) -> bytes:
    """Bytes and whole numbers between two places changed, of which lengths and types are made."""
    changes = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(start, max(start + 1, min(end, len(content))))
        size = rng.choice((1, 1, 4, 8))
        number = rng.choice((0, 1, 127, 128, 255, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1))
        changes[place : place + size] = (number % 256**size).to_bytes(size, "little")
    return bytes(changes)


def _safetensors(content: bytes, rng: random.Random) -> bytes:
    """The JSON of the header changed, or its length."""
    size = int.from_bytes(content[:8], "little")
    if rng.random() < 0.25:
        return rng.choice((0, 1, size - 1, size + 1, 2**40, 2**64 - 1)).to_bytes(8, "little") + content[8:]
    header = json.loads(content[8 : 8 + size])
    about = header.get("__metadata__", {}).get("probe")
    if about and rng.random() < 0.5:
        header["__metadata__"]["probe"] = _json(about.encode(), rng).decode()
    else:
        header = _changes(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def _parquet(content: bytes, rng: random.Random) -> bytes:
    """The footer, with schema and places of all columns, or the head of a page."""
    size = int.from_bytes(content[-8:-4], "little")
    footer = len(content) - 8 - size
    if rng.random() < 0.3:
        return _numbers_of_headers(content, rng, 4, footer)
    return _numbers_of_headers(content, rng, max(0, footer), len(content))


def _array(content: bytes, rng: random.Random) -> bytes:
    """The header of an array of NumPy, or of an Arrow file."""
    return _numbers_of_headers(content, rng, 0, 128)


def _arrow(content: bytes, rng: random.Random) -> bytes:
    start = rng.choice((0, max(0, len(content) - 600)))
    return _numbers_of_headers(content, rng, start, start + 600)


def _zip(content: bytes, rng: random.Random) -> bytes:
    """A member of the archive damaged or under another name, and packed as it was."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        names = old.namelist()
        chosen = rng.choice(names)
        for name in names:
            data = old.read(name)
            if name == chosen:
                match rng.randrange(8):
                    case 0:
                        continue
                    case 1:
                        name = rng.choice(("../../x", "/etc/passwd", "x" * 60_000, "", "a\0b", "\u202e"))
                    case 2:
                        data = data * 20
                    case 3 | 4:
                        data = _lines(data, rng)
                    case _:
                        data = _bytes(data, rng)
            new.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()


def _gzip(content: bytes, rng: random.Random) -> bytes:
    """What is packed is damaged, and packed again; or a million times one letter."""
    if rng.random() < 0.02:
        return gzip.compress(b"A" * 10**6, mtime=0)
    return gzip.compress(_bytes(gzip.decompress(content), rng), mtime=0)


FORMATS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".yaml": _yaml,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".npy": _array,
    ".feather": _arrow,
    ".xlsx": _zip,
    ".zip": _zip,
    ".gz": _gzip,
}
