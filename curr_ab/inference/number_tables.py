"""Numbering as a bulk task: a row for each residue, or for each record with the residues of its regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from curr_ab.inference.numbering import Numbering
from curr_ab.inference.records import Record, number_records
from curr_ab.inference.settings import NumberSettings
from curr_ab.inference.tasks import BulkTask
from curr_ab.words import CHAIN_REGIONS, CHAINS, REGIONS


@dataclass(frozen=True, kw_only=True)
class NumberTask(BulkTask, NumberSettings):
    """`curr-ab number`, which needs no model."""

    records_per_part: int = 1024

    def check(self, tokenizer: Any, record: Record) -> Record:
        if record.heavy is None and record.light is None:
            raise ValueError(f"{record.name} has no chain")
        number_records([record], self.scheme)
        return record

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        numbered = number_records(records, self.scheme)
        if self.per_record:
            types = [f"type_{chain}" for chain in CHAINS]
            schema = pa.schema([(name, pa.string()) for name in ("id", *types, *CHAIN_REGIONS)])
            return pa.Table.from_pylist([_regions(*one) for one in numbered], schema)
        names = ("id", "chain", "type", "position", "residue", self.scheme, "region")
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
