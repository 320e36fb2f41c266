"""Paired FASTA as a stream of record batches: two records with one name, or both chains in one record."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pyarrow as pa

from curr_ab.data.reading.sources import MalformedSource, damaged, open_stream

_BATCH = 16_384
_CHAIN_SUFFIX = re.compile(r"^(?P<id>.*?)[_|:/.-](?P<chain>heavy|light|vh|vl|h|l)$", re.IGNORECASE)
_JOINT = re.compile(r"[/:|]")


def fasta_records(path: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and letters of each record."""
    line_number, start, name, parts = 0, 0, "", list[str]()
    with open_stream(path) as stream:
        try:
            for raw in io.BufferedReader(stream):
                line_number += 1
                try:
                    line = raw.decode("utf-8-sig" if line_number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    raise MalformedSource(
                        path, f"the text is not UTF-8 ({raw[:60]!r})", line_number
                    ) from error
                if line.startswith(">"):
                    if start:
                        yield start, name, "".join(parts)
                    words = line[1:].split()
                    if not words:
                        raise MalformedSource(path, "the record must have a name after '>'", line_number)
                    start, name, parts = line_number, words[0], []
                elif line and not start:
                    raise MalformedSource(
                        path,
                        "the file must begin with a record ('>'); got letters before the first",
                        line_number,
                    )
                else:
                    parts.append(line)
        except OSError as error:
            raise damaged(path, error) from error
    if start:
        yield start, name, "".join(parts)


def _pairs(path: str) -> Iterator[tuple[str, str | None, str | None]]:
    """Name, heavy and light chain of each pair."""
    waiting: tuple[int, str, str, str] | None = None
    for line, name, text in fasta_records(path):
        named = _CHAIN_SUFFIX.match(name)
        joint = _JOINT.split(text)
        if named is None and len(joint) == 2 and waiting is None:
            yield name, joint[0], joint[1]
            continue
        if named is None:
            advice = "name chains ID_heavy and ID_light, or write both in one record as HEAVY/LIGHT"
            raise MalformedSource(path, f"{name!r} does not say which chain it is; {advice}", line)
        chain = "heavy" if named["chain"].lower() in ("heavy", "vh", "h") else "light"
        if waiting is None:
            waiting = line, named["id"], chain, text
            continue
        _, first_id, first_chain, first_text = waiting
        if first_id != named["id"] or first_chain == chain:
            break
        heavy, light = (first_text, text) if chain == "light" else (text, first_text)
        yield first_id, heavy, light
        waiting = None
    if waiting is not None:
        line, name, chain, _ = waiting
        raise MalformedSource(path, f"{name!r} ({chain}) is not followed by its other chain", line)


def read_fasta(path: str) -> Iterator[pa.RecordBatch]:
    """Read pairs from adjacent records `ID_heavy` and `ID_light`, or from single records `HEAVY/LIGHT`."""
    rows: list[tuple[str, str | None, str | None]] = []

    def batch() -> pa.RecordBatch:
        ids, heavy, light = zip(*rows, strict=True)
        text = pa.string()
        return pa.record_batch(
            {"id": pa.array(ids, text), "heavy": pa.array(heavy, text), "light": pa.array(light, text)}
        )

    for row in _pairs(path):
        rows.append(row)
        if len(rows) == _BATCH:
            yield batch()
            rows.clear()
    if rows:
        yield batch()
