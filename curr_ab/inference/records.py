"""Pairs from lists, iterators, tables or files as a stream of records."""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from curr_ab.data.reading.column_names import ColumnNames, RowChains
from curr_ab.domains import Scheme
from curr_ab.inference.numbering import Numbering, number_chain
from curr_ab.options import OptionError
from curr_ab.words import CHAINS

if TYPE_CHECKING:  # they load pyarrow, which lists of pairs do without
    from curr_ab.data.reading.pairs import Aside
    from curr_ab.data.reading.table import Recognised, Table

REGION = re.compile(r"(CDR|FWR)([HL])([1-4])")


class Record(NamedTuple):
    """One pair, or a single chain where the other is None, with what its source says of its regions."""

    id: str
    heavy: str | None
    light: str | None
    region_mask_heavy: str | None = None  # one letter for each residue, 1-7 for FWR1 ... FWR4
    region_mask_light: str | None = None
    number: int = 0  # place in the input, from 1
    kept: tuple[str | None, ...] = ()  # the user's own columns that results are to have
    source: str = ""  # where it was read: the file or object, and the number of its record there
    row: int = 0
    note: str | None = None  # what the reader did to it, such as cutting a domain out
    left_out: str | None = None  # why a record of a cell's chain is none of a pair

    @property
    def name(self) -> str:
        """The record's name in errors: its number in its file, which is named where there are several."""
        file = f" of {self.source}" if self.row and self.row != self.number else ""
        return f"record {self.row or self.number:,}{file} ({self.id!r})"

    @property
    def content(self) -> bytes:
        """What results may depend on, for digests; not its file, which may be moved while a run waits."""
        return repr((*self[:6], self.kept)).encode()

    def chain(self, name: str) -> str | None:
        return self.heavy if name == "heavy" else self.light

    def with_chains(self, chains: Mapping[str, str | None]) -> Record:
        """The record with these chains in the place of its own."""
        return self._replace(heavy=chains.get("heavy", self.heavy), light=chains.get("light", self.light))

    def region_mask(self, chain: str) -> str | None:
        return self.region_mask_heavy if chain == "heavy" else self.region_mask_light


def records_of(pairs: Any, *, names: ColumnNames | None = None, unpaired: bool = False) -> Iterator[Record]:
    """Records of a list, an iterator or a table; `None` stands for a chain that is not there.

    Items are `(heavy, light)` or records, which are taken as they are, or mappings. Mappings and tables
    (pandas, Polars, Arrow, data sets, mappings of columns) are read as files are: by the columns that
    `curr_ab.data` knows or that `names` gives, in upper case and without gaps.
    """
    if isinstance(pairs, str | os.PathLike) or (
        isinstance(pairs, tuple) and not isinstance(pairs, Record) and all(isinstance(c, str) for c in pairs)
    ):
        raise ValueError("give a list of pairs, such as [(heavy, light)]; a file is read by read_pairs(file)")
    number = num_left_out = 0
    for record in _records_of(pairs, names or ColumnNames(), unpaired):
        if record.left_out:
            num_left_out += 1
            continue
        number += 1
        yield record._replace(number=number, id=record.id or str(number))
    if num_left_out:
        text = f"{num_left_out:,} chains are left out: their cells have no other chain, or several of a kind"
        warnings.warn(text, stacklevel=2)


def _records_of(pairs: Any, names: ColumnNames, unpaired: bool) -> Iterator[Record]:
    if isinstance(pairs, Record):
        yield pairs
    elif _is_read(pairs):
        yield from _read_batch(pairs)
    elif not isinstance(pairs, list | tuple | Iterator) and not _is_rows(pairs):
        yield from _read_tables(pairs, names, unpaired)
    else:
        items = iter(pairs)
        for number, item in enumerate(items, start=1):
            if isinstance(item, Record):
                yield item
            elif _is_read(item):
                yield from _read_batch(item)
            elif not hasattr(item, "_asdict") and (isinstance(item, list | tuple) or _is_rows(item)):
                yield _read_item(item, number)
            else:
                yield from _read_tables(itertools.chain([item], items), names, unpaired)


def _is_rows(thing: Any) -> bool:
    """True for what is gone through item by item, rather than read as a table."""
    from curr_ab.data.reading.objects import is_table

    return not isinstance(thing, Mapping) and not is_table(thing)


def _is_read(thing: Any) -> bool:
    """True for a batch of `read_pairs`, which need not be understood once more."""
    if hasattr(thing, "collect_schema"):  # of Polars, where to ask for the schema may take long
        return False
    names = getattr(getattr(thing, "schema", None), "names", None)
    return isinstance(names, list) and {"id", *CHAINS, "record"} <= set(names)


def _read_item(item: Any, number: int) -> Record:
    if not isinstance(item, str | bytes) and hasattr(item, "__getitem__") and len(item) == 2:
        return Record("", item[0], item[1])
    raise ValueError(f"record {number:,}: a pair must be written as (heavy, light); got {item!r}")


def _read_tables(pairs: Any, names: ColumnNames, unpaired: bool) -> Iterator[Record]:
    from curr_ab.data.reading.pairs import read_sources

    for batch in read_sources(pairs, names, "unpaired" if unpaired else "paired"):
        yield from _read_batch(batch)


# Fields of a record, and the columns of the reader's batches that they are from.
_COLUMNS = {name: name for name in Record._fields[:5]} | {"source": "source", "row": "record", "note": "note"}


def _read_batch(batch: Any, kept: Sequence[str] = ()) -> Iterator[Record]:
    """The records of a batch in the pair schema, with the values of the columns `kept`."""
    from curr_ab.data.preparing.clean import reasons_without_pair

    fields = [name for name, column in _COLUMNS.items() if column in batch.schema.names]
    columns = [batch[_COLUMNS[name]].to_pylist() for name in fields]
    own = [batch[name].to_pylist() for name in kept]
    reasons = reasons_without_pair(batch)
    for place, values in enumerate(zip(*columns, strict=True)):
        known = dict(zip(fields, values, strict=True))
        known["id"] = known["id"] or ""
        user = tuple(column[place] for column in own)
        yield Record(**known, kept=user, left_out=reasons[place] if reasons else None)


@dataclass(frozen=True)
class Reader:
    """Records of files or objects, from the start each time it is called, bad ones among them."""

    sources: tuple[str | Table, ...]
    names: ColumnNames = field(default_factory=ColumnNames)
    unpaired: bool = False
    wanted: tuple[str, ...] = CHAINS  # chains that a record must have
    kept: tuple[str, ...] = ()  # columns of the user that records bring with them
    keeps_all: bool = False  # whether those are all that there are, rather than named
    splits_pairs: bool = True  # whether an unpaired row with both chains is two records, rather than a pair

    def __call__(
        self, recognised: list[Recognised] | None = None, aside: Aside | None = None
    ) -> Iterator[Record]:
        """The records; what is recognised of each source is added to `recognised`.

        `aside` takes what became of rows that are no record of their own.
        """
        from curr_ab.data.reading.objects import tables_of, with_copies
        from curr_ab.data.reading.pairs import read_source
        from curr_ab.data.reading.samples import group_sources, open_sample

        others = {name: None for name in CHAINS if self.wanted and name not in self.wanted}
        of_unpaired: RowChains = "unpaired" if self.splits_pairs else "either"
        chains: RowChains = of_unpaired if self.unpaired else "paired"
        number = 0
        for sample in group_sources(tables_of(list(self.sources)), self.names):
            names, copies = self.names, tuple[str, ...]()
            if self.kept:
                copied = [with_copies(table, self.kept) for table in open_sample(sample, names)]
                sample, copies = tuple(table for table, _ in copied), copied[0][1]
                names = replace(names, extra=copies)
            for batch in read_source(sample, names, chains, recognised=recognised, aside=aside):
                for record in _read_batch(batch, copies):
                    number += 1
                    record = record._replace(number=number, id=record.id or str(number))
                    yield record.with_chains(others) if others else record

    def check(self, record: Record) -> None:
        """Refuse a record that lacks a chain."""
        for chain_name in self.wanted:
            if not record.chain(chain_name):
                advice = "; complete it, or read single chains as unpaired"
                raise OptionError(
                    f"{record.name} has no {chain_name} chain{advice if self.wanted == CHAINS else ''}",
                    *(["unpaired"] if self.wanted == CHAINS else []),
                )


@dataclass(frozen=True)
class BlankReader(Reader):
    """So many records of which nothing is given."""

    count: int = 0

    def __call__(
        self, recognised: list[Recognised] | None = None, aside: Aside | None = None
    ) -> Iterator[Record]:
        for number in range(1, self.count + 1):
            yield Record(str(number), None, None, number=number)


def reader(
    pairs: Any, *, names: ColumnNames | None = None, unpaired: bool = False, keep: Sequence[str] = ()
) -> Reader:
    """The records of files or objects, in any form that `read_pairs` knows; pairs unless `unpaired`.

    `keep` are columns that the records bring with them, `all` for all.
    """
    from curr_ab.data import MalformedSource
    from curr_ab.data.reading.formats import open_table
    from curr_ab.data.reading.objects import is_files, names_of_files, tables_of

    sources = tuple(names_of_files(pairs) if is_files(pairs) else tables_of(pairs, again=True))
    columns = tuple(keep)
    if keep:
        # Records of FASTA have no columns.
        sheet = None if names is None else names.sheet
        opened = (open_table(source, sheet) for source in tables_of(list(sources)))  # one copy at a time
        tables = [(table.source, table.names) for table in opened if table.form != "FASTA"]
        if keeps_all := columns == ("all",):
            columns = tuple(dict.fromkeys(name for _, known in tables for name in known))
        for source, known in tables:
            missing = [name for name in columns if name not in known]
            if missing and not keeps_all:
                problem = f"there is no column {missing[0]!r} to keep; the columns are {', '.join(known)}"
                raise MalformedSource(source, problem, fields=("keep_columns",))
    return Reader(
        sources,
        names or ColumnNames(),
        unpaired,
        wanted=() if unpaired else CHAINS,
        kept=columns,
        keeps_all=tuple(keep) == ("all",),
    )


def chain_reader(
    pairs: Any, chain: str, *, names: ColumnNames | None = None, keep: Sequence[str] = ()
) -> Reader:
    """One chain of the records, whether the source holds that chain alone or pairs."""
    from curr_ab.data import MalformedSource

    read = reader(pairs, names=names, keep=keep)
    try:
        next(read(), None)
    except MalformedSource:  # it has no column of the other chain
        read = replace(read, unpaired=True)
    return replace(read, wanted=(chain,))


def windows(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Records in input order, `size` at a time: those that are sorted, batched and computed together."""
    iterator = iter(records)
    while window := list(islice(iterator, size)):
        yield window


def number_one(record: Record, chain: str, text: str, scheme: Scheme) -> Numbering:
    try:
        return number_chain(text.replace("<mask>", "X"), chain, scheme)
    except ValueError as error:
        raise ValueError(f"{record.name}: {error}") from error


def number_records(
    records: Iterable[Record], scheme: Scheme = "imgt"
) -> list[tuple[Record, dict[str, Numbering]]]:
    """Each record with its region masks, and the numbering of its chains."""
    out = []
    for record in records:
        texts = {chain: text for chain in CHAINS if (text := record.chain(chain)) is not None}
        numbering = {chain: number_one(record, chain, text, scheme) for chain, text in texts.items()}
        masks = [numbering[chain].region_mask if chain in numbering else None for chain in CHAINS]
        out.append((record._replace(region_mask_heavy=masks[0], region_mask_light=masks[1]), numbering))
    return out


def needs_numbering(parts: Iterable[str], read: Reader) -> bool:
    """True where a part is a region of a chain for which the first record has no region mask."""
    letters = {match[2] for part in parts if (match := REGION.fullmatch(part))}
    first = next(read(), None) if letters else None
    return first is not None and any(
        first.chain(chain) and first.region_mask(chain) is None
        for chain in CHAINS
        if chain[0].upper() in letters
    )
