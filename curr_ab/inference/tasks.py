"""Bulk commands as settings that other processes can take: each makes results of records, and their table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curr_ab.data import builtin_path
from curr_ab.domains import Scheme
from curr_ab.inference.embedding import Array, embed_window, encoder_of
from curr_ab.inference.heat_maps import Saturation, write_heat_maps
from curr_ab.inference.marginals import WINDOW, Marginals, require_masked
from curr_ab.inference.mutation import check_wild_type, parse_mutant, saturate_one, score_mutants_of
from curr_ab.inference.numbering import Numbering
from curr_ab.inference.pairing import RankedLight, rank_window
from curr_ab.inference.records import Record, number_records, records_of
from curr_ab.inference.restoration import Restoration, complete_ends, mask_unknown, restore_window
from curr_ab.inference.scoring import Score, perplexity, score_window
from curr_ab.inference.settings import (
    EmbedSettings,
    MutateSettings,
    PairSettings,
    RestoreSettings,
    ScoreSettings,
)
from curr_ab.inference.token_batches import BatchLayout
from curr_ab.inference.tokens import residues_of, tokenize_one
from curr_ab.options import OptionError
from curr_ab.pictures import require_matplotlib
from curr_ab.words import CHAINS, Mode

SHAPE = b"shape"  # of the values in a list, in the metadata of its column; -1 where records differ
# Types are given by hand: a part in which no record has a light chain must not change a column's type.
_RESIDUES = {
    "id": "string",
    "chain": "string",
    "position": "int32",
    "residue": "string",
    "log_probability": "float32",
}
_MUTATIONS = {
    "id": "string",
    "chain": "string",
    "position": "int32",
    "wild_type": "string",
    "mutant": "string",
    "log_odds": "float32",
}
_MUTANTS = {"id": "string", "mutant": "string", "score": "float64"}
_RESTORED = {
    "id": "string",
    "variant": "int32",
    "heavy": "string",
    "light": "string",
    "filled": "string",
}
_RANKED = {
    "heavy": "string",
    "light": "string",
    "rank": "int32",
    "score": "float64",
    "log_likelihood": "float64",
    "gain": "float64",
}


@dataclass(frozen=True, kw_only=True)
class BulkTask:
    """A command with its settings."""

    tokens_per_batch: int | None = None
    layout: BatchLayout | None = field(default=None, repr=False)  # of speed alone, so in no plan of parts

    @property
    def records_per_part(self) -> int:
        """The number of records that are computed and written together; results do not depend on it."""
        raise NotImplementedError

    @property
    def window(self) -> int:
        """The number of records that are taken together where results are handed out one by one."""
        return self.records_per_part

    @property
    def key(self) -> str:
        """The column of the results that holds the ids of records."""
        return "id"

    @property
    def parts_of_pairs(self) -> tuple[str, ...]:
        """Parts of a pair that results are of, such as CDRH3."""
        return ()

    def prepare(self, record: Record) -> Record:
        """The record as the tokenizer takes it."""
        return record

    def check_model(self, model: Any) -> None:
        """Refuse a model that the task cannot use, before the input is read."""

    def check(self, tokenizer: Any, record: Record) -> Record:
        """The prepared record, or an error where the task cannot compute it."""
        return _with_parts(tokenizer, self.prepare(record), self.parts_of_pairs)

    def results(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> Iterable[Any]:
        """The results of these records one by one, in their order."""
        raise NotImplementedError

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        """The results of these records as the rows that are written, in their order."""
        raise NotImplementedError

    def without_rows(self, model: Any, tokenizer: Any) -> pa.Table:
        """The columns of the results: of an example, because their number and types hang on the model."""
        [example] = records_of(next(pq.ParquetFile(builtin_path()).iter_batches(1)))
        return self.table(model, tokenizer, [example]).slice(0, 0)

    def marginals(self, model: Any, tokenizer: Any, mode: Mode) -> Marginals:
        options: dict[str, Any] = {"tokens_per_batch": self.tokens_per_batch, "layout": self.layout}
        return Marginals(model, tokenizer, mode, **options)


def _table(rows: list[dict[str, Any]], types: dict[str, str]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema(list(types.items())))


def _numbered(
    records: Sequence[Record], wanted: bool, scheme: Scheme
) -> tuple[list[Record], list[dict[str, Numbering]]]:
    """The records and the numbering of each, empty unless wanted."""
    if not wanted:
        return list(records), [{} for _ in records]
    numbered = number_records(records, scheme)
    return [record for record, _ in numbered], [numbering for _, numbering in numbered]


@dataclass(frozen=True, kw_only=True)
class EmbedTask(BulkTask, EmbedSettings):
    """`curr-ab embed`."""

    @property
    def records_per_part(self) -> int:
        if self.plan.attention:  # 140 MB a pair with 650M
            return 4
        return 128 if "none" in self.plan.poolings else 1024

    @property
    def parts_of_pairs(self) -> tuple[str, ...]:
        return self.plan.parts

    def check_model(self, model: Any) -> None:
        self.plan.resolve(encoder_of(model).config.num_hidden_layers)

    def results(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> list[dict[str, Array]]:
        encoder = encoder_of(model)
        return embed_window(encoder, tokenizer, records, self.plan, self.tokens_per_batch, self.layout)

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        records, _ = _numbered(records, self.number or self.scheme != "imgt", self.scheme)
        embeddings = self.results(model, tokenizer, records)
        columns, fields = [pa.array([record.id for record in records])], [pa.field("id", pa.string())]
        for name in embeddings[0]:
            arrays = [features[name] for features in embeddings]
            if self.precision == "float16":
                arrays = [_in_float16(array, one, name) for array, one in zip(arrays, records, strict=True)]
            column, shape = _array_column(arrays)
            columns.append(column)
            fields.append(pa.field(name, column.type, metadata={SHAPE: json.dumps(shape)}))
        return pa.table(columns, schema=pa.schema(fields))


def _with_parts(tokenizer: Any, record: Record, parts: Sequence[str]) -> Record:
    """The record, if it has residues in each of the parts."""
    if wanted := [part for part in parts if part != "pair"]:
        tokens = tokenize_one(tokenizer, record)
        for part in wanted:
            if not len(residues_of(part, tokens)):
                raise ValueError(f"{record.name} has no residue in {part}")
    return record


def _in_float16(array: Array, record: Record, name: str) -> Any:
    """The values rounded to float16; larger ones would be infinite."""
    if (largest := np.abs(array).max()) > np.finfo(np.float16).max:
        problem = f"{record.name}: {name} holds {largest:,.0f}, and float16 ends at 65,504; write float32"
        raise OptionError(problem, "precision")
    return array.astype(np.float16)


def _array_column(arrays: list[Any]) -> tuple[pa.Array, list[int]]:
    flat = pa.array(np.concatenate([array.ravel() for array in arrays]))
    if arrays[0].ndim == 1:  # pooled
        return pa.FixedSizeListArray.from_arrays(flat, len(arrays[0])), [len(arrays[0])]
    if arrays[0].ndim == 2:  # residues
        width = arrays[0].shape[1]
        rows = pa.FixedSizeListArray.from_arrays(flat, width)
        offsets = np.cumsum([0, *(len(array) for array in arrays)])
        return pa.LargeListArray.from_arrays(pa.array(offsets), rows), [-1, width]
    offsets = np.cumsum([0, *(array.size for array in arrays)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), flat), [*arrays[0].shape[:2], -1, -1]


@dataclass(frozen=True, kw_only=True)
class ScoreTask(BulkTask, ScoreSettings):
    """`curr-ab score`: a row for each pair, or for each residue."""

    @property
    def records_per_part(self) -> int:
        return WINDOW[self.mode]

    @property
    def parts_of_pairs(self) -> tuple[str, ...]:
        return self.regions

    def results(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> list[Score]:
        return score_window(self.marginals(model, tokenizer, self.mode), records, alone=self.alone)

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        records, numbers = _numbered(records, self.number or self.scheme != "imgt", self.scheme)
        scores = self.results(model, tokenizer, records)
        if self.per_residue:
            rows = [
                row
                for score, numbering in zip(scores, numbers, strict=True)
                for row in _residue_rows(score, numbering, self.scheme)
            ]
            return _table(rows, _RESIDUES | ({self.scheme: "string"} if numbers[0] else {}))
        rows = [self._row(score) for score in scores]
        types = {name: "int32" if name.startswith("residues") else "float64" for name in rows[0]}
        return _table(rows, types | {"id": "string"})

    def without_rows(self, model: Any, tokenizer: Any) -> pa.Table:
        return BulkTask.without_rows(replace(self, mode="unmasked"), model, tokenizer)

    def _row(self, score: Score) -> dict[str, Any]:
        record = score.tokens.record
        row: dict[str, Any] = {"id": score.id}
        for part in ("pair", *CHAINS, *self.regions):
            present = part not in CHAINS or record.chain(part) is not None
            row[f"pll_{part}"] = score.pll(part) if present else None
            row[f"perplexity_{part}"] = score.perplexity(part) if present else None
            row[f"residues_{part}"] = int((~score.residues(part).isnan()).sum()) if present else 0
        if self.alone:
            for chain in CHAINS:
                values = score.alone.get(chain)
                row[f"pll_{chain}_alone"] = None if values is None else float(values.double().nansum())
                row[f"perplexity_{chain}_alone"] = None if values is None else perplexity(values)
        return row


def _residue_rows(score: Score, numbers: dict[str, Numbering], scheme: Scheme) -> list[dict[str, Any]]:
    record, rows = score.tokens.record, []
    for chain in CHAINS:
        text = (record.chain(chain) or "").replace("<mask>", "X")
        values = score.log_probabilities[score.tokens.residues(chain)].tolist()
        for place, (residue, value) in enumerate(zip(text, values, strict=True)):
            known = value == value  # NaN where the letter stands for no one residue
            row = {"id": record.id, "chain": chain, "position": place + 1, "residue": residue}
            row["log_probability"] = value if known else None
            if numbers:
                row[scheme] = numbers[chain].labels[place]
            rows.append(row)
    return rows


@dataclass(frozen=True, kw_only=True)
class MutateTask(BulkTask, MutateSettings):
    """`curr-ab mutate`: all single mutants of each pair, or the given mutants."""

    def check_model(self, model: Any) -> None:
        require_masked(model, "mutate")
        if self.heat_maps:
            require_matplotlib()

    @property
    def records_per_part(self) -> int:
        return WINDOW[self.mode]

    @property
    def parts_of_pairs(self) -> tuple[str, ...]:
        return (self.part,)

    def check(self, tokenizer: Any, record: Record) -> Record:
        for mutant in self.mutants:
            check_wild_type(record, parse_mutant(mutant))
        return record if self.mutants else super().check(tokenizer, record)

    def results(
        self, model: Any, tokenizer: Any, records: Sequence[Record]
    ) -> Iterator[Saturation | list[float]]:
        marginals = self.marginals(model, tokenizer, self.mode)
        for record in records:  # each by itself: a map of one takes long enough
            if self.mutants:
                yield score_mutants_of(marginals, record, self.mutants, self.by)
            else:
                yield saturate_one(marginals, record, self.part)

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        if self.mutants:
            scores: Any = self.results(model, tokenizer, records)
            return mutants_table(zip(records, scores, strict=True), self.mutants)
        records, numbers = _numbered(records, self.number or self.scheme != "imgt", self.scheme)
        rows = []
        for saturation, numbering in zip(self.results(model, tokenizer, records), numbers, strict=True):
            assert isinstance(saturation, Saturation)
            if self.heat_maps:
                write_heat_maps(saturation, Path(self.heat_maps), numbering, self.scheme)
            for site, mutant, value in saturation.rows() if self.top is None else saturation.best(self.top):
                row = {"id": saturation.id, **site._asdict(), "mutant": mutant, "log_odds": value}
                if numbering:
                    row[self.scheme] = numbering[site.chain].labels[site.position - 1]
                rows.append(row)
        return _table(rows, _MUTATIONS | ({self.scheme: "string"} if numbers[0] else {}))

    def without_rows(self, model: Any, tokenizer: Any) -> pa.Table:
        if self.mutants:
            return self.table(model, tokenizer, [])
        return BulkTask.without_rows(replace(self, mode="unmasked", heat_maps=None), model, tokenizer)


def mutants_table(scores: Iterable[tuple[Record, Sequence[float]]], mutants: Sequence[str]) -> pa.Table:
    """The scores of the mutants of each record."""
    columns: dict[str, list[Any]] = {"id": [], "mutant": [], "score": []}
    for record, own in scores:
        columns["id"] += [record.id] * len(mutants)
        columns["mutant"] += mutants
        columns["score"] += own
    return pa.table(columns, schema=pa.schema(list(_MUTANTS.items())))


@dataclass(frozen=True, kw_only=True)
class RestoreTask(BulkTask, RestoreSettings):
    """`curr-ab restore`: the completed pairs, and what was filled in with which probability."""

    records_per_part: int = 256

    def check_model(self, model: Any) -> None:
        require_masked(model, "restore")

    def prepare(self, record: Record) -> Record:
        return mask_unknown(record)

    def results(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> list[Restoration]:
        if self.ends:
            shown = [
                record.with_chains(
                    {chain: text.replace("<mask>", "X") for chain in CHAINS if (text := record.chain(chain))}
                )
                for record in records
            ]
            missing = [
                {chain: numbering.missing_ends() for chain, numbering in numberings.items()}
                for _, numberings in number_records(shown)
            ]
            records = [complete_ends(*pair) for pair in zip(records, missing, strict=True)]
        return restore_window(self.marginals(model, tokenizer, "unmasked"), records, self.plan)

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        rows = [
            {**one.record._asdict(), "variant": one.variant, "filled": _describe(one.filled)}
            for one in self.results(model, tokenizer, records)
        ]
        return _table(rows, _RESTORED)

    def without_rows(self, model: Any, tokenizer: Any) -> pa.Table:
        return self.table(model, tokenizer, [])


def _describe(filled: Sequence[Any]) -> str:
    """`H:32=Y (Y 0.91, F 0.05); ...`."""
    return "; ".join(
        f"{one.chain[0].upper()}:{one.position}={one.residue} "
        f"({', '.join(f'{letter} {value:.3g}' for letter, value in one.top)})"
        for one in filled
    )


@dataclass(frozen=True, kw_only=True)
class PairTask(BulkTask, PairSettings):
    """`curr-ab pair`: the light chains for each record's heavy chain, best first."""

    records_per_part: int = 8

    @property
    def window(self) -> int:
        return 1024  # the light chains are scored by themselves once in each

    @property
    def key(self) -> str:
        return "heavy"

    def results(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> Iterator[list[RankedLight]]:
        marginals = self.marginals(model, tokenizer, self.mode)
        return rank_window(marginals, records, self.lights, by=self.by)

    def table(self, model: Any, tokenizer: Any, records: Sequence[Record]) -> pa.Table:
        ranked = self.results(model, tokenizer, records)
        rows = [one._asdict() for lights in ranked for one in lights[: self.top]]
        return _table(rows, _RANKED)
