"""Rows of a published file: columns are checked, chains cut to their variable domains, odd rows said."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curr_ab.benchmark.tasks.task import Pair
from curr_ab.data.preparing.clean import REASONS, drop_reasons
from curr_ab.data.preparing.plan import CleaningLimits
from curr_ab.data.reading.column_names import Chains, ColumnNames
from curr_ab.data.reading.formats import open_table
from curr_ab.data.reading.pairs import read_source
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.domains import CHAIN_OF, find_domains
from curr_ab.words import CHAINS

# A row with one of these is kept and said: models read X, and a part of a domain.
_KEPT = ("truncated_domain", "ambiguous")
_MOST_NAMED = 3  # records in one note
_WITHOUT_VALUE = ("", "nan", "na", "n/a", "none", "null", "nd")


@dataclass(frozen=True)
class Columns:
    """Columns of a published file, each by its names in the versions of the file."""

    file: str  # the file and version that has them, for errors
    heavy: tuple[str, ...] = ()
    light: tuple[str, ...] = ()
    sequence: tuple[str, ...] = ()  # of a file with single chains
    id: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    optional: tuple[str, ...] = ()  # values that some versions have
    needed: tuple[str, ...] = ()  # columns that tell the file, and are not read by their name
    recognised: bool = False  # chains and ids are found as in any table, where none of the names is there


@dataclass(frozen=True)
class Row:
    """One usable record."""

    source: str
    record: int
    id: str
    heavy: str | None
    light: str | None
    values: Mapping[str, str | None]  # by the first name of the column
    start: int | None = None  # where in a single chain its domain begins, from 0, if it was cut
    regions: tuple[str | None, str | None] = (None, None)  # region masks of heavy and light

    @property
    def pair(self) -> Pair:
        return self.heavy, self.light

    def text(self, name: str) -> str | None:
        """The value as text; None for an empty cell, and for words that say that there is none."""
        text = (self.values[name] or "").strip()
        return None if text.casefold() in _WITHOUT_VALUE else text

    def number(self, name: str) -> float | None:
        """The value as a number; None where it has none."""
        text = self.text(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.inf
        if not math.isfinite(value):
            raise self.malformed(f"{name} must be a finite number or empty; got {text!r}")
        return value

    def malformed(self, problem: str) -> MalformedSource:
        """The error of this record."""
        return MalformedSource(
            self.source, f"record {self.record}: {problem}; correct or remove the record", fields=()
        )


def read_rows(
    path: str | Path, columns: Columns, *, single: bool = False, annotate: bool = False
) -> tuple[list[Row], list[str]]:
    """The usable rows of a file, and notes on those that are not, or not as they should be.

    Chains in each other's columns are exchanged; `single` takes rows, and files, with a heavy chain alone.
    """
    table = open_table(str(path))
    found = _find_columns(table.source, table.names, columns, single=single)
    values = {names[0]: found[f"value {names[0]}"] for names in _values(columns, found)}
    names = ColumnNames(
        heavy=found.get("heavy"),
        light=found.get("light"),
        sequence=found.get("sequence"),
        id=found.get("id"),
        extra=tuple(dict.fromkeys(values.values())),
    )
    rows: list[Row] = []
    seen: dict[str, list[int]] = {}
    alone = columns.sequence or (single and "light" not in found)
    chains: Chains = "unpaired" if alone else "paired"
    for batch in read_source(table, names, chains, annotate=annotate):
        reasons = drop_reasons(batch, CleaningLimits(), paired=not (single or columns.sequence))
        for cells, reason in zip(batch.to_pylist(), reasons.to_pylist(), strict=True):
            row = _row(table.source, cells, values)
            if reason == "wrong_chain" and (swapped := _exchanged(row)):
                row, reason = swapped, "exchanged"
            if reason is not None:
                seen.setdefault(reason, []).append(row.record)
            if reason is None or reason == "exchanged" or reason in _KEPT:
                rows.append(row)
    if not rows:
        first = f": {REASONS.get(next(iter(seen)), '')}" if seen else ""
        raise MalformedSource(
            table.source, f"the file must hold antibodies; none of its rows is usable{first}"
        )
    return list(with_own_names(rows)), list(_notes(Path(path).name, seen))


def _values(columns: Columns, found: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for names in (*columns.values, *((name,) for name in columns.optional)):
        if f"value {names[0]}" in found:
            yield names


def _find_columns(source: str, present: Sequence[str], columns: Columns, *, single: bool) -> dict[str, str]:
    """The names that the file has for its columns; the error names what is missing, and the right file."""
    wanted: dict[str, tuple[str, ...]] = {
        name: getattr(columns, name) for name in (*CHAINS, "sequence", "id") if getattr(columns, name)
    }
    wanted |= {f"value {names[0]}": names for names in columns.values}
    wanted |= {f"needed {name}": (name,) for name in columns.needed}
    found = {key: next((name for name in names if name in present), "") for key, names in wanted.items()}
    if columns.recognised:
        found = {key: name for key, name in found.items() if name or " " in key}
    if single:
        found = {key: name for key, name in found.items() if name or key != "light"}
    if missing := [" or ".join(map(repr, wanted[key])) for key, name in found.items() if not name]:
        raise MalformedSource(
            source,
            f"the columns must be those of {columns.file}; there is no {missing[0]} among "
            f"{', '.join(present)}; download that file, or rename the column",
        )
    return found | {f"value {name}": name for name in columns.optional if name in present}


def _row(source: str, values: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    starts = [values[f"domain_start_{chain}"] for chain in CHAINS if values[f"domain_start_{chain}"]]
    return Row(
        source,
        values["record"],
        values["id"] or str(values["record"]),
        values["heavy"],
        values["light"],
        {name: values[column] for name, column in names.items()},
        starts[0] - 1 if starts else None,
        (values["region_mask_heavy"], values["region_mask_light"]),
    )


def _exchanged(row: Row) -> Row | None:
    """The row with its chains in each other's place; None where not both are of the other kind."""
    if row.heavy is None or row.light is None:
        return None
    cut: dict[str, str] = {}
    masks: dict[str, str] = {}
    for other, text in (("light", row.heavy), ("heavy", row.light)):
        domains = find_domains(text)
        if len(domains) != 1 or CHAIN_OF[domains[0].chain] != other:
            return None
        cut[other] = text[domains[0].start : domains[0].end]
        masks[other] = domains[0].region_mask
    return replace(row, heavy=cut["heavy"], light=cut["light"], regions=(masks["heavy"], masks["light"]))


def with_own_names(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows; one with the name of an earlier one has its record in it, and its file where others have the
    same record: predictions are known by names.
    """
    names: set[str] = set()
    for row in rows:
        record = f"{row.id}, record {row.record}"
        for name in (row.id, record, f"{record} of {Path(row.source).name}", f"{record} of {row.source}"):
            if name not in names:
                break
        names.add(name)
        yield replace(row, id=name)


def _notes(name: str, seen: Mapping[str, Sequence[int]]) -> Iterator[str]:
    for reason, records in seen.items():
        listed = ", ".join(map(str, records[:_MOST_NAMED])) + (" …" if len(records) > _MOST_NAMED else "")
        if reason == "exchanged":
            done, why = "kept with their chains exchanged", "each stood in the column of the other"
        else:
            done, why = ("kept" if reason in _KEPT else "left out"), REASONS[reason]
        number = "1 record is" if len(records) == 1 else f"{len(records):,} records are"
        yield f"{name}: {number} {done} ({why}): {listed}"


def short_name(path: Path) -> str:
    """The name of a file in that of a task: its words, without endings."""
    return re.sub(r"\W+", "-", path.name.partition(".")[0]).strip("-").lower()


def measured(rows: Sequence[Row], name: str) -> tuple[list[Row], list[float]]:
    """The rows that have a number in this column, with their numbers."""
    known = [(row, value) for row in rows if (value := row.number(name)) is not None]
    return [row for row, _ in known], [value for _, value in known]


def merge_repeats(rows: Sequence[Row], values: Sequence[float]) -> tuple[list[Row], list[float]]:
    """Each pair once with its mean: repeats are not independent, and would be learned from and predicted."""
    gathered: dict[Pair, list[float]] = {}
    firsts: dict[Pair, Row] = {}
    for row, value in zip(rows, values, strict=True):
        firsts.setdefault(row.pair, row)
        gathered.setdefault(row.pair, []).append(value)
    return list(firsts.values()), [sum(own) / len(own) for own in gathered.values()]
