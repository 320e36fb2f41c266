"""All records of an input looked at before the first is computed: an error after hours helps nobody."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Iterator

import numpy as np

from curr_ab.inference.records import CHAINS, STANDARD_RESIDUES, Record, records_of, require_pairs, tokenize
from curr_ab.tokenization import CurrAbTokenizer

Read = Callable[[], Iterator[Record]]  # the records from the start, each time it is called
_ORDINARY = re.compile(f"[{STANDARD_RESIDUES}]+")
_NUM_SPECIAL = 4


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
        records = records_of(batches)
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
    """How many records there are; the first that cannot be used is an error, and so is an id's second use."""
    hashes = array("q")  # of the ids: eight bytes a record, where a set of texts would take a hundred
    for record in read():
        if not _is_ordinary(record, tokenizer.model_max_length):
            tokenize(tokenizer, [record])
        hashes.append(hash(record.id))
    if not hashes:
        raise ValueError("the input holds no record")
    values, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    if suspects := set(values[counts > 1].tolist()):
        _check_ids(read, suspects)
    return len(hashes)


def _is_ordinary(record: Record, max_tokens: int) -> bool:
    """Whether the tokenizer surely takes it, said much faster than by the tokenizer."""
    chains = [text for name in CHAINS if (text := record.chain(name)) is not None]
    if not chains or sum(map(len, chains)) + _NUM_SPECIAL > max_tokens:
        return False
    # Nucleotides are letters of residues too; what has an E, a P or a Q is no nucleotide sequence.
    return all(_ORDINARY.fullmatch(text) and not {*"EPQ"}.isdisjoint(text) for text in chains)


def _check_ids(read: Read, suspects: set[int]) -> None:
    """Tell records with the same id from those whose ids have the same hash by chance."""
    first: dict[str, int] = {}
    for record in read():
        if hash(record.id) in suspects and first.setdefault(record.id, record.number) != record.number:
            raise ValueError(
                f"{record.name} has the id of record {first[record.id]:,}; make ids unique, or leave them out"
            )
