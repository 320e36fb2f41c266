"""Files that cannot be read, and what the error must name."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

from support.shapes.drawing import Draw

Damage = Callable[[Draw], tuple[bytes, str]]
DAMAGED: dict[str, Damage] = {}


def damage(maker: Damage) -> Damage:
    DAMAGED[maker.__name__] = maker
    return maker


def lines_of(draw: Draw, number: int = 30) -> list[str]:
    """A plain table with a note in its last column."""
    lines = ["id,heavy,light,note"]
    return lines + [
        f"m{n},{h.residues},{light.residues},x{n}" for n, (h, light) in enumerate(draw.pairs(number), 2)
    ]


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


@damage
def truncated_gzip(draw: Draw) -> tuple[bytes, str]:
    whole = gzip.compress(_text(lines_of(draw)))
    return whole[: len(whole) // 2], r"line \d+.*(damaged|cut off)"


@damage
def gzip_with_garbage_behind(draw: Draw) -> tuple[bytes, str]:
    return gzip.compress(_text(lines_of(draw))) + b"garbage" * 9, r"damaged|cut off|garbage"


@damage
def open_quote_in_the_last_column(draw: Draw) -> tuple[bytes, str]:
    lines = lines_of(draw)
    lines[11] = lines[11].replace(",x", ',"x')
    return _text(lines), r"line 12\b.*quot"


@damage
def open_quote_in_another_column(draw: Draw) -> tuple[bytes, str]:
    lines = lines_of(draw)
    lines[7] = '"' + lines[7]
    return _text(lines), r"line 8\b"


@damage
def text_behind_a_closing_quote(draw: Draw) -> tuple[bytes, str]:
    lines = lines_of(draw)
    lines[4] = lines[4].replace(",x", ',"x"y')
    return _text(lines), r"line 5\b.*quot"


@damage
def two_stray_quotes(draw: Draw) -> tuple[bytes, str]:
    lines = lines_of(draw)
    lines[4] = lines[4].replace(",x", ',"x')
    lines[14] = lines[14].replace(",x", ',x"')
    return _text(lines), r"line (5|15)\b"


@damage
def repeated_column(draw: Draw) -> tuple[bytes, str]:
    lines = lines_of(draw)
    lines[0] = "id,heavy,light,heavy"
    return _text(lines), r"line 1\b.*heavy"


@damage
def ragged_row(draw: Draw) -> tuple[bytes, str]:
    lines = lines_of(draw)
    lines[20] = lines[20].rpartition(",")[0]
    return _text(lines), r"line 21\b.*(columns|fields)"


@damage
def latin_1(draw: Draw) -> tuple[bytes, str]:
    lines = lines_of(draw)
    lines[9] = lines[9].replace("m", "Jos\u00e9", 1)
    return "\n".join(lines).encode("latin-1"), r"line 10\b.*UTF-8"


@damage
def zeros(draw: Draw) -> tuple[bytes, str]:
    return bytes(100_000), r"line 1: .*no text"


@damage
def html_page(draw: Draw) -> tuple[bytes, str]:
    return (
        b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head></html>\n",
        r"a web page; download the file itself",
    )


@damage
def parquet_cut_off(draw: Draw) -> tuple[bytes, str]:
    return b"PAR1" + _text(lines_of(draw)), r"Parquet"


def make_damaged(name: str, variant: int, folder: Path) -> tuple[Path, str]:
    content, place = DAMAGED[name](Draw(name, variant))
    path = folder / f"{name}.csv"
    path.write_bytes(content)
    return path, place
