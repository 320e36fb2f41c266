"""Generation as a bulk task: a row for each sample, and what became of the other draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from curr_ab.checkpoints import Checkpoint, model_digest
from curr_ab.inference.generation import (
    INPUT,
    REASONS,
    Generated,
    Samples,
    check_model,
    check_record,
    generate_window,
    loaded,
)
from curr_ab.inference.output import Output
from curr_ab.inference.records import Record
from curr_ab.inference.references import column_types, content_digest, read_references
from curr_ab.inference.settings import GenerateSettings
from curr_ab.inference.tasks import BulkTask
from curr_ab.words import CHAINS

_GENERATED = {
    "id": "string",
    "sample": "int32",
    "heavy": "string",
    "light": "string",
    "log_likelihood": "float64",
    "perplexity": "float64",
    "draws": "int32",
} | dict.fromkeys(REASONS, "int32")


@dataclass(frozen=True, kw_only=True)
class GenerateTask(BulkTask, GenerateSettings):
    """`curr-ab generate`: a row for each sample, and the counts of those that its record left out.

    A record of which no sample is kept has one row, without generated chains.
    """

    stamp: str = ""  # of the files and the head that it names: parts that others made must not be mixed in

    def check_model(self, model: Any) -> None:
        check_model(model, self.plan)

    @property
    def records_per_part(self) -> int:
        return 1_000 if self.plan.common else max(1, 512 // self.plan.n)

    @property
    def window(self) -> int:
        return self.records_per_part if self.plan.common else min(64, self.records_per_part)

    def check(self, tokenizer: Any, record: Record) -> Record:
        if self.plan.given == "nothing":
            return record.with_chains({"heavy": "A"})  # the tokenizer wants a residue
        return check_record(tokenizer, record, self.plan)

    def _samples(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> list[Samples]:
        return generate_window(
            model,
            tokenizer,
            records,
            self.plan,
            tokens_per_batch=self.tokens_per_batch,
            head=self._head(),
            least_pairing=self.least_pairing,
            v_genes=self.references.v_genes,
        )

    def results(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> list[Generated]:
        return [one for samples in self._samples(model, tokenizer, records) for one in samples.kept]

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        references = read_references(self.references)
        rows: list[dict[str, Any]] = []
        for samples in self._samples(model, tokenizer, records):
            counts: dict[str, Any] = {reason: samples.left_out[reason] for reason in REASONS}
            counts |= {"id": samples.record.id, "draws": samples.num_draws}
            compared = references.columns([one.record for one in samples.kept])
            for place, one in enumerate(samples.kept):
                values: dict[str, Any] = {chain: one.record.chain(chain) for chain in CHAINS}
                values |= {"log_likelihood": one.log_likelihood, "perplexity": one.perplexity}
                values |= {name: column[place] for name, column in compared.items()}
                rows.append({**counts, "sample": one.sample, **values})
            if not samples.kept:
                given = (chain for chain in CHAINS if chain not in self.plan.made)
                rows.append(counts | {chain: samples.record.chain(chain) for chain in given})
        return _table(rows, _GENERATED | column_types(references.names()))

    def without_rows(self, model: Any, tokenizer: Any) -> pa.Table:
        return _table([], _GENERATED | column_types(read_references(self.references).names()))

    def stamped(self) -> GenerateTask:
        """The task with its stamp."""
        plan, head = self.plan, self._head()
        names = [*map(str, self.references.v_genes), *self.references.natural, *plan.not_in, plan.length_from]
        sources = [name for name in names if name and name != INPUT]
        models = [model_digest(*loaded(head))] if head else []
        return replace(self, stamp=content_digest(sources, models))

    def _head(self) -> Checkpoint | None:
        """In float32, so that a score does not change with the batch that it is in."""
        if self.pairing_head is None:
            return None
        return Checkpoint(self.pairing_head, head="sequence-classification", dtype="float32")


def _table(rows: list[dict[str, Any]], types: dict[str, str]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema(list(types.items())))


def summary(out: str, wanted: int) -> list[str]:
    """Lines that say what was kept and left out, and of how many records fewer than wanted were kept."""
    if out.endswith(".fasta"):
        return [f"{out} has the samples that were kept; .csv and .parquet say what was left out, too"]
    kept, draws, too_few, records = 0, 0, 0, 0
    left_out: Counter[str] = Counter()
    for rows in _by_record(out):
        samples = sum(row["sample"] is not None for row in rows)
        kept, draws, records = kept + samples, draws + rows[0]["draws"], records + 1
        too_few += samples < wanted
        left_out.update({reason: rows[0][reason] for reason in REASONS})
    why = ", ".join(f"{reason} {left_out[reason]:,}" for reason in REASONS if left_out[reason])
    lines = [f"{kept:,} samples kept of {draws:,} draws" + (f"; left out: {why}" if why else "")]
    if too_few:
        lines.append(f"fewer than {wanted:,} samples were kept for {too_few:,} of {records:,} records")
    return lines


def _by_record(out: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of each record, which are beside each other, with rising numbers of samples."""
    rows: list[dict[str, Any]] = []
    for table in _tables(out):
        for row in table.to_pylist():
            if rows and (row["id"] != rows[-1]["id"] or (row["sample"] or 0) <= (rows[-1]["sample"] or 0)):
                yield rows
                rows = []
            rows.append(row)
    if rows:
        yield rows


def _tables(out: str) -> Iterator[pa.Table]:
    names = ["id", "sample", "draws", *REASONS]
    output = Output.of(out)
    if output.file is None:
        for number in range(output.plan["parts"]):
            yield pq.read_table(output.part(number), columns=names)
    elif output.file.suffix == ".parquet":
        for batch in pq.ParquetFile(output.file).iter_batches(columns=names):
            yield pa.Table.from_batches([batch])
    else:
        delimiter = "\t" if output.file.suffix == ".tsv" else ","
        types = csv.ConvertOptions(
            include_columns=names, column_types={name: _GENERATED[name] for name in names}
        )
        with csv.open_csv(
            output.file, parse_options=csv.ParseOptions(delimiter=delimiter), convert_options=types
        ) as batches:
            for batch in batches:
                yield pa.Table.from_batches([batch])
