"""Tables of numbered chains: a row for each residue, or for each record with the residues of its regions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from curr_ab.files import write_parquet
from curr_ab.inference.formats import assemble, writer_for
from curr_ab.inference.numbering import Numbering
from curr_ab.inference.records import Reader, Record, number_records, windows
from curr_ab.inference.settings import NumberSettings
from curr_ab.words import CHAIN_REGIONS, CHAINS, REGIONS

_WINDOW = 1024


def write_numbers(read: Reader, out: str | os.PathLike[str], settings: NumberSettings) -> None:
    """Write the numbering of every record, in their order, in constant memory."""
    path = Path(out)
    writer_for(path)
    with tempfile.TemporaryDirectory(prefix=path.name, dir=path.parent) as folder:
        parts: list[Path] = []
        for records in windows(read(), _WINDOW):
            parts.append(Path(folder, f"{len(parts)}.parquet"))
            write_parquet(parts[-1], _table(records, settings))
        if not parts:
            raise ValueError("the input must hold at least one record; got none")
        assemble(parts, path)


def _table(records: list[Record], settings: NumberSettings) -> pa.Table:
    numbered = number_records(records, settings.scheme)
    if settings.per_record:
        types = [f"type_{chain}" for chain in CHAINS]
        schema = pa.schema([(name, pa.string()) for name in ("id", *types, *CHAIN_REGIONS)])
        return pa.Table.from_pylist([_regions(*one) for one in numbered], schema)
    names = ("id", "chain", "type", "position", "residue", settings.scheme, "region")
    schema = pa.schema([(name, pa.int32() if name == "position" else pa.string()) for name in names])
    rows = [dict(zip(names, row, strict=True)) for one in numbered for row in _residues(*one)]
    return pa.Table.from_pylist(rows, schema)


def _residues(record: Record, numbering: dict[str, Numbering]) -> Iterator[tuple[Any, ...]]:
    for chain, one in numbering.items():
        residues = zip(record.chain(chain) or "", one.labels, one.region_mask, strict=True)
        for position, (residue, label, code) in enumerate(residues, 1):
            yield record.id, chain, one.chain_type, position, residue, label, REGIONS[int(code) - 1]


def _regions(record: Record, numbering: dict[str, Numbering]) -> dict[str, str]:
    row = {"id": record.id}
    for chain, one in numbering.items():
        row[f"type_{chain}"] = one.chain_type
        coded = zip(one.region_mask, record.chain(chain) or "", strict=True)
        for code, residues in groupby(coded, key=lambda each: each[0]):
            region = REGIONS[int(code) - 1]
            row[f"{region[:3]}{chain[0].upper()}{region[3]}"] = "".join(residue for _, residue in residues)
    return row
