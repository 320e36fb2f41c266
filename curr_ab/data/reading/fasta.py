"""FASTA as a table: pairs where names or records join two chains, else single sequences under their names."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from curr_ab.data.reading.sources import MalformedSource
from curr_ab.data.reading.streams import open_text
from curr_ab.data.reading.table import Table, text_batches

_HEAVY = r"heavy(?:[_ -]?chain)?|hc|vhh?|igh|h"
_LIGHT = r"(?:light|kappa|lambda)(?:[_ -]?chain)?|lc|v[lk]|vkappa|vlambda|ig[kl]|[lk]"
_CHAIN = rf"(?:(?P<heavy>{_HEAVY})|(?P<light>{_LIGHT}))"
# Where a name says which chain it is; what is left of it is the pair's.
_BEHIND = r"(?:[_ -]?(?:variable|region|domain|seq(?:uence)?|protein|aa|chain))*"
_SUFFIX = re.compile(rf"(?P<id>.*?)[_|:/.\-]{_CHAIN}{_BEHIND}", re.IGNORECASE)
_PREFIX = re.compile(rf"{_CHAIN}[_|:/.\-](?P<id>.+)", re.IGNORECASE)
_ALONE = re.compile(rf"[:|]?{_CHAIN}(?:\s+(?:chain\b)?\W*(?P<id>\S.*))?", re.IGNORECASE)  # the name behind it
_GENE = r"(?:[vdj]\d[\w*/-]*)?"
_FIELD = re.compile(rf"(?:(?P<heavy>(?:{_HEAVY}){_GENE})|(?P<light>(?:{_LIGHT}){_GENE}))", re.IGNORECASE)
_WORD = re.compile(
    rf"\b(?:(?P<heavy>heavy|vhh?|igh{_GENE}|hc|(?<=chain[=:])h)"
    rf"|(?P<light>light|kappa|lambda|v[lk]|ig[kl]{_GENE}|lc|(?<=chain[=:])l))(?![\w*])",
    re.IGNORECASE,
)
_PDB = re.compile(r"(?P<id>\w{4})_\d+\|Chains? (?P<chains>[^|]*)", re.IGNORECASE)
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # as Python reads bytes that are no letters
_JOINT = re.compile(r"(?:\[SEP\]|<\w+>|[/:|])+")


_RECORD_BYTES = 64 << 20


class _Mark(NamedTuple):
    """Reading of a record's header: the pair's name and the chain, where it names one."""

    id: str
    chain: str | None


def _records(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, header and letters of each record."""
    start, size, name, parts = 0, 0, "", list[str]()
    with open_text(source) as stream:
        lines = io.TextIOWrapper(io.BufferedReader(stream), "utf-8", "surrogateescape")
        for line_number, raw in enumerate(iter(lambda: lines.readline(_RECORD_BYTES), ""), start=1):
            size = len(raw) if raw.startswith(">") else size + len(raw)
            if size >= _RECORD_BYTES:
                problem = f"a record must be shorter than {_RECORD_BYTES >> 20} MB; is this FASTA?"
                raise MalformedSource(source, problem, line_number)
            line = raw.strip()
            if _NOT_UTF8.search(line):
                problem = f"the text is not UTF-8 ({raw.encode(errors='surrogateescape')[:60]!r})"
                raise MalformedSource(source, problem, line_number)
            if line.startswith(">"):
                if start:
                    yield start, name, "".join(parts)
                if not line[1:].split():
                    problem = "the record must have a name after '>'"
                    raise MalformedSource(source, problem, line_number)
                start, name, parts = line_number, line[1:].strip(), []
            elif line and not start:
                problem = "the file must begin with a record ('>'); got letters before the first"
                raise MalformedSource(source, problem, line_number)
            else:
                parts.append("".join(line.split()))
    if start:
        yield start, name, "".join(parts)


def fasta_records(path: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and letters of each record."""
    for line, header, letters in _records(path):
        yield line, header.split()[0], letters


def _chain_of(match: re.Match[str]) -> str:
    return "heavy" if match["heavy"] else "light"


def _mark(header: str) -> _Mark:
    name = header.split()[0]
    if pdb := _PDB.match(header):
        chains = {chain.split("[")[0].strip().upper() for chain in pdb["chains"].split(",")}
        if word := _WORD.search(header, pdb.end()):
            return _Mark(pdb["id"], _chain_of(word))
        return _Mark(pdb["id"], "heavy" if chains <= {"H"} else "light" if chains <= {"L"} else None)
    for pattern in (_SUFFIX, _PREFIX):
        if (match := pattern.fullmatch(name)) and match["id"]:
            return _Mark(match["id"], _chain_of(match))
    if match := _ALONE.fullmatch(header):
        return _Mark((match["id"] or "").strip(), _chain_of(match))
    fields = header.split("|")
    for index, field in enumerate(fields):
        if index and (match := _FIELD.fullmatch(field.strip())):
            return _Mark(fields[0].strip(), _chain_of(match))
    if word := _WORD.search(header, len(name)):
        return _Mark(name.rstrip(",;"), _chain_of(word))
    return _Mark(name, None)


def _holds_pairs(source: str) -> bool:
    """Read up to the first pair, or the first record that belongs to none."""
    seen = set[_Mark]()
    for _, header, letters in _records(source):
        mark = _mark(header)
        if len(_JOINT.split(letters)) == 2:
            return True
        if mark.chain is None and not _PDB.match(header):
            return False
        if mark.chain and _Mark(mark.id, "light" if mark.chain == "heavy" else "heavy") in seen:
            return True
        seen.add(mark)
    return False


def _pairs(source: str) -> Iterator[tuple[str | None, str | None, str | None]]:
    """Name, heavy and light chain of each pair; a record waits for its other chain wherever that stands."""
    waiting: dict[str, tuple[int, str, str]] = {}
    for line, header, letters in _records(source):
        mark, joint = _mark(header), _JOINT.split(letters)
        if len(joint) == 2:
            yield header.split()[0], joint[0], joint[1]
            continue
        if mark.chain is None:
            if _PDB.match(header):
                continue  # of an antigen
            advice = "name chains ID_heavy and ID_light, or write both in one record as HEAVY/LIGHT"
            raise MalformedSource(source, f"{mark.id!r} does not say which chain it is; {advice}", line)
        if mark.id not in waiting:
            waiting[mark.id] = line, mark.chain, letters
            continue
        first_line, first_chain, first_letters = waiting.pop(mark.id)
        if first_chain == mark.chain:
            problem = f"{mark.id!r} ({first_chain}) is not followed by its other chain; add it, or rename one"
            raise MalformedSource(source, problem, first_line)
        heavy, light = (first_letters, letters) if mark.chain == "light" else (letters, first_letters)
        yield mark.id or None, heavy, light
    for name, (line, chain, _) in waiting.items():
        other = "light" if chain == "heavy" else "heavy"
        problem = f"{name!r} ({chain}) is not followed by its other chain; add the {other} one, or remove it"
        raise MalformedSource(source, problem, line)


def open_fasta(source: str) -> Table:
    """Open FASTA: pairs from two records or one that joins them, else a sequence in a record."""
    names = ("id", "heavy", "light") if _holds_pairs(source) else ("id", "sequence")

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        singles = ((name, letters) for _, name, letters in fasta_records(source))
        rows = _pairs(source) if len(names) == 3 else singles
        for batch in text_batches(names, rows):
            yield batch.select(wanted)

    return Table(source, "FASTA", names, read)
