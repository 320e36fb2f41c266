"""Design as a bulk task: a row for each mutant, with its scores and the nearest references."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from curr_ab.checkpoints import model_digest
from curr_ab.inference.designs import Designed, objective_of, search
from curr_ab.inference.objectives import TERMS, check_references, find_head
from curr_ab.inference.records import Record
from curr_ab.inference.references import References, column_types, read_references
from curr_ab.inference.settings import DesignSettings
from curr_ab.inference.sites import check_positions, choices_of
from curr_ab.inference.tasks import BulkTask

_TYPES = {
    "id": "string",
    "design": "int32",
    "heavy": "string",
    "light": "string",
    "mutant": "string",
    "mutations": "int32",
    "score": "float64",
}


@dataclass(frozen=True, kw_only=True)
class DesignTask(BulkTask, DesignSettings):
    """`curr-ab design`: the best mutants of each pair."""

    stamp: str = ""  # of heads and files of references: parts that others made must not be mixed in
    records_per_part: int = 8

    def __post_init__(self) -> None:
        check_positions(self.plan)

    def check(self, tokenizer: Any, record: Record) -> Record:
        choices_of(record, self.plan)
        return super().check(tokenizer, record)

    def results(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> Iterator[Designed]:
        references = read_references(self.references)
        objective = objective_of(model, tokenizer, self.plan, references, self.tokens_per_batch)
        for record in records:
            yield from search(
                record, choices_of(record, self.plan), objective, self.plan, references.germline
            )

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        designs = list(self.results(model, tokenizer, records))
        return _table(designs, list(self.plan.weights()), read_references(self.references))

    def without_rows(self, model: Any, tokenizer: Any) -> pa.Table:
        return self.table(model, tokenizer, [])

    def stamped(self, device: str) -> DesignTask:
        """The task with its stamp, or an error where heads or references cannot be had."""
        check_references(self.plan, read_references(self.references))
        heads = [find_head(name, device) for name in self.plan.weights() if name not in TERMS]
        digests = [model_digest(one.model, one.tokenizer) for one in heads]
        names = [*map(str, self.references.v_genes), *self.references.natural]
        files = [path for name in names if (path := Path(name)).is_file()]
        digests += [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        return replace(self, stamp=hashlib.sha256(" ".join(digests).encode()).hexdigest())


def _table(designs: Sequence[Designed], terms: Sequence[str], references: References) -> pa.Table:
    types = _TYPES | {f"{name}{ending}": "float64" for name in terms for ending in ("", "_gain")}
    columns: dict[str, list[Any]] = {
        "id": [one.record.id for one in designs],
        "design": [one.rank for one in designs],
        "heavy": [one.record.heavy for one in designs],
        "light": [one.record.light for one in designs],
        "mutant": [one.mutant for one in designs],
        "mutations": [one.num_mutations for one in designs],
        "score": [one.score for one in designs],
    }
    for name in terms:
        columns[name] = [one.values[name] for one in designs]
        columns[f"{name}_gain"] = [one.gains[name] for one in designs]
    columns |= references.columns([one.record for one in designs])
    return pa.table(columns, schema=pa.schema(list((types | column_types(references.names())).items())))
