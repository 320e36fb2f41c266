"""Pairs from lists, iterators or tables as a stream of records, checked before they are used."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from curr_ab.domains import Scheme
from curr_ab.inference.numbering import Numbering, number_chain
from curr_ab.options import OptionError
from curr_ab.tokenization import CurrAbTokenizer
from curr_ab.words import CHAINS, REGIONS, STANDARD_RESIDUES

Read = Callable[[], Iterator["Record"]]  # the records from the start, each time it is called
_ORDINARY = re.compile(f"[{STANDARD_RESIDUES}]+")
_NUM_SPECIAL = 4  # tokens of a pair besides its residues
_REGION = re.compile(r"(CDR|FWR)([HL])([1-4])")


class Record(NamedTuple):
    """One pair, or a single chain where the other is None, with what its source says of its regions."""

    id: str
    heavy: str | None
    light: str | None
    region_mask_heavy: str | None = None  # one letter for each residue, 1-7 for FWR1 ... FWR4
    region_mask_light: str | None = None
    number: int = 0  # place in the input, from 1

    @property
    def name(self) -> str:
        """The record's name in errors."""
        return f"record {self.number:,} ({self.id!r})"

    def chain(self, name: str) -> str | None:
        return self.heavy if name == "heavy" else self.light

    def with_chains(self, chains: Mapping[str, str | None]) -> Record:
        """The record with these chains in the place of its own."""
        return self._replace(heavy=chains.get("heavy", self.heavy), light=chains.get("light", self.light))

    def region_mask(self, chain: str) -> str | None:
        return self.region_mask_heavy if chain == "heavy" else self.region_mask_light


def records_of(pairs: Any) -> Iterator[Record]:
    """Records of a list, an iterator or a table; `None` stands for a chain that is not there.

    Items are `(heavy, light)`, mappings with `heavy`, `light` and perhaps `id`, or records. Tables (pandas,
    Arrow, or a stream of Arrow batches such as `read_pairs` gives) have columns under the names that
    `curr_ab.data` knows, and both chains in every row.
    """
    if isinstance(pairs, str | Mapping) or (
        isinstance(pairs, tuple) and not isinstance(pairs, Record) and all(isinstance(c, str) for c in pairs)
    ):
        raise ValueError("give a list of pairs, such as [(heavy, light)]; a file is read by read_pairs(file)")
    number = 0
    for item in [pairs] if _is_table(pairs) or isinstance(pairs, Record) else pairs:
        for record in _read_table(item) if _is_table(item) else [_read_item(item, number + 1)]:
            number += 1
            yield record._replace(number=number, id=record.id or str(number))


def _is_table(item: Any) -> bool:
    return hasattr(item, "columns") and (hasattr(item, "itertuples") or hasattr(item, "schema"))


def _read_item(item: Any, number: int) -> Record:
    if isinstance(item, Record):
        return item
    if isinstance(item, Mapping):
        if unknown := item.keys() - set(Record._fields):
            raise ValueError(
                f"record {number:,}: the fields of a pair are {', '.join(Record._fields)}; got "
                f"{sorted(unknown)[0]!r}"
            )
        chains = item.get("heavy"), item.get("light")
        rest = {key: value for key, value in item.items() if key not in CHAINS}
        return Record(**{"id": "", **rest}, heavy=chains[0], light=chains[1])
    if isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
        return Record("", item[0], item[1])
    raise ValueError(f"record {number:,}: a pair must be written as (heavy, light); got {item!r}")


def _read_table(table: Any) -> Iterator[Record]:
    """The records of a table whose columns have names that `curr_ab.data` knows."""
    from curr_ab.data.reading.column_names import ColumnNames
    from curr_ab.data.reading.columns import find_layout
    from curr_ab.extras import needs_extra

    if hasattr(table, "itertuples"):
        with needs_extra("data"):
            import pyarrow as pa
        table = pa.Table.from_pandas(table, preserve_index=False)
    layout = find_layout(table.schema.names, ColumnNames())
    if layout is None or layout.kind != "wide" or not set(CHAINS) <= layout.columns.keys():
        raise ValueError(
            "a table of pairs must have a column for heavy and one for light chains; got the columns "
            f"{', '.join(table.schema.names)}; rename two of them to heavy and light"
        )
    yield from _read_columns(table, layout.columns)


def _read_columns(table: Any, columns: Mapping[str, str]) -> Iterator[Record]:
    """The records of an Arrow table or batch; `columns` maps fields of a record to columns."""
    fields = [name for name in Record._fields if name in columns]
    values = [table[columns[name]].cast("string").to_pylist() for name in fields]
    for row in zip(*values, strict=True):
        record = dict(zip(fields, row, strict=True))
        yield Record(**{**record, "id": record.get("id") or ""})


def require_pairs(records: Iterable[Record]) -> Iterator[Record]:
    """The same records; one that lacks a chain ends the stream."""
    for record in records:
        for chain in CHAINS:
            if not record.chain(chain):
                raise OptionError(
                    f"{record.name} has no {chain} chain; complete it, or read single chains as unpaired",
                    "unpaired",
                )
        yield record


def windows(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Records in input order, `size` at a time: those that are sorted, batched and computed together."""
    iterator = iter(records)
    while window := list(islice(iterator, size)):
        yield window


class TokenRecord(NamedTuple):
    """A record as tokens, and the positions of its residues among them."""

    record: Record
    input_ids: Tensor  # [S]
    positions: Tensor  # [R] of the residues, heavy chain first
    num_heavy: int  # so many of them are the heavy chain's

    def residues(self, chain: str) -> slice:
        """The range of a chain's residues among all residues."""
        return slice(0, self.num_heavy) if chain == "heavy" else slice(self.num_heavy, len(self.positions))

    def site(self, index: int) -> tuple[str, int]:
        """The chain of a residue, and its position there from 1."""
        heavy = self.num_heavy
        return ("heavy", index + 1) if index < heavy else ("light", index + 1 - heavy)


def tokenize(tokenizer: CurrAbTokenizer, records: Sequence[Record]) -> list[TokenRecord]:
    """Token ids as the model was trained on them; the error names the record."""
    return [tokenize_one(tokenizer, record) for record in records]


def tokenize_one(tokenizer: CurrAbTokenizer, record: Record) -> TokenRecord:
    """The same for one record."""
    for chain in CHAINS:
        text = record.chain(chain)
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{record.name}, {chain} chain: {text!r} is not a sequence")
    try:
        ids = torch.tensor(tokenizer(heavy=record.heavy, light=record.light)["input_ids"])
    except ValueError as error:
        raise ValueError(str(error).replace("record 1", record.name, 1)) from error
    special = (tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    positions = (~torch.isin(ids, torch.tensor(special))).nonzero().flatten()
    light = (record.light or "").replace("<mask>", "X")
    return TokenRecord(record, ids, positions, len(positions) - len(light))


def reader(
    source: str | os.PathLike[str],
    *,
    heavy_column: str | None = None,
    light_column: str | None = None,
    id_column: str | None = None,
    unpaired: bool = False,
) -> Read:
    """The records of a file, in any form that `read_pairs` knows; pairs must be whole unless `unpaired`."""
    from curr_ab.data import read_pairs

    def read() -> Iterator[Record]:
        batches = read_pairs(
            source,
            heavy_column=heavy_column,
            light_column=light_column,
            id_column=id_column,
            chains="unpaired" if unpaired else "paired",
        )
        # Batches come with the names of the schema, which has the position of a record under another name.
        own_names = {name: name for name in Record._fields if name != "number"}
        records = records_of(record for batch in batches for record in _read_columns(batch, own_names))
        return records if unpaired else require_pairs(records)

    return read


def chain_reader(source: str | os.PathLike[str], chain: str) -> Read:
    """One chain of a file's records, whether it holds that chain alone or pairs."""
    from curr_ab.data import MalformedSource

    def read() -> Iterator[Record]:
        other = {name: None for name in CHAINS if name != chain}
        try:
            next(reader(source)(), None)
            unpaired = False
        except MalformedSource:  # it has no column of the other chain
            unpaired = True
        for record in reader(source, unpaired=unpaired)():
            if record.chain(chain) is None:
                raise ValueError(f"{record.name} of {source} has no {chain} chain")
            yield record.with_chains(other)

    return read


def check_records(read: Read, tokenizer: CurrAbTokenizer) -> int:
    """The number of records; the first that cannot be used is an error, and so is an id's second use."""
    hashes = array("q")  # of the ids: eight bytes a record, where a set of texts would take a hundred
    for record in read():
        if not _is_ordinary(record, tokenizer.model_max_length):
            tokenize(tokenizer, [record])
        hashes.append(hash(record.id))
    if not hashes:
        raise ValueError("the input must hold at least one record; got none")
    values, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    if suspects := set(values[counts > 1].tolist()):
        _check_ids(read, suspects)
    return len(hashes)


def _is_ordinary(record: Record, max_tokens: int) -> bool:
    """True where the tokenizer surely takes the record: much faster than to ask the tokenizer."""
    chains = [text for name in CHAINS if (text := record.chain(name)) is not None]
    if not chains or sum(map(len, chains)) + _NUM_SPECIAL > max_tokens:
        return False
    # Nucleotides are letters of residues, too; a sequence with an E, a P or a Q is not one of nucleotides.
    return all(_ORDINARY.fullmatch(text) and not {*"EPQ"}.isdisjoint(text) for text in chains)


def _check_ids(read: Read, suspects: set[int]) -> None:
    """Tell records with the same id from those whose ids have the same hash by chance."""
    first: dict[str, int] = {}
    for record in read():
        if hash(record.id) in suspects and first.setdefault(record.id, record.number) != record.number:
            raise ValueError(
                f"{record.name} has the id of record {first[record.id]:,}; make ids unique, or leave them out"
            )


def _number(record: Record, chain: str, text: str, scheme: Scheme) -> Numbering:
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
        numbering = {chain: _number(record, chain, text, scheme) for chain, text in texts.items()}
        masks = [numbering[chain].region_mask if chain in numbering else None for chain in CHAINS]
        out.append((record._replace(region_mask_heavy=masks[0], region_mask_light=masks[1]), numbering))
    return out


def needs_numbering(parts: Iterable[str], read: Read) -> bool:
    """True where a part is a region of a chain for which the first record has no region mask."""
    letters = {match[2] for part in parts if (match := _REGION.fullmatch(part))}
    first = next(read(), None) if letters else None
    return first is not None and any(
        first.chain(chain) and first.region_mask(chain) is None
        for chain in CHAINS
        if chain[0].upper() in letters
    )


def residues_of(part: str, tokens: TokenRecord) -> Tensor:
    """Indices of the residues that belong to the part; a chain without a region mask is numbered."""
    if part == "pair":
        return torch.arange(len(tokens.positions))
    record = tokens.record
    if part in CHAINS:
        chosen = tokens.residues(part)
        if record.chain(part) is None:
            raise ValueError(f"{record.name} has no {part} chain")
        return torch.arange(chosen.start, chosen.stop)
    match = _REGION.fullmatch(part)
    assert match is not None, part
    chain = "heavy" if match[2] == "H" else "light"
    mask = record.region_mask(chain)
    if mask is None:
        mask = _number(record, chain, record.chain(chain) or "", "imgt").region_mask
    chosen = tokens.residues(chain)
    if len(mask) != chosen.stop - chosen.start:
        raise ValueError(f"{record.name}: the region mask of the {chain} chain is not as long as the chain")
    digit = str(1 + REGIONS.index(match[1] + match[3]))
    indices = [chosen.start + index for index, letter in enumerate(mask) if letter == digit]
    return torch.tensor(indices, dtype=torch.long)
