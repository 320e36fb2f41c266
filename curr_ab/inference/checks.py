"""The check of all records of an input before any is used: what cannot be used is named, all at once."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from curr_ab.inference.records import Reader, Record, windows
from curr_ab.inference.tokens import are_ordinary, tokenize
from curr_ab.options import OptionError
from curr_ab.tokenization import CurrAbTokenizer

if TYPE_CHECKING:
    from curr_ab.data.reading.table import Recognised

_WINDOW = 1024  # records that are looked at together
_MOST_NAMED = 20  # of bad records, in one error


class Problem(NamedTuple):
    """A record that cannot be used, and why."""

    name: str  # of the record
    message: str
    fields: tuple[str, ...] = ()  # options that might help

    @property
    def reason(self) -> str:
        return self.message.removeprefix(self.name).lstrip(",: ")


@dataclass(frozen=True)
class Checked:
    """Records of an input by number: those that cannot be used, and chains that are none of a pair."""

    total: int
    problems: Mapping[int, Problem]
    left_out: Mapping[int, str]
    digest: str  # of what all records say, wherever they were read
    recognised: Sequence[Recognised] = ()  # of each source

    @property
    def num_used(self) -> int:
        return self.total - len(self.problems) - len(self.left_out)

    def uses(self, record: Record) -> bool:
        return record.number not in self.problems and record.number not in self.left_out

    def require_none(self) -> None:
        """Refuse the input where a record cannot be used; the error names all, or the first twenty."""
        if not self.problems:
            return
        problems = list(self.problems.values())
        named = [one.message for one in problems[:_MOST_NAMED]]
        if more := len(problems) - len(named):
            named.append(f"and {more:,} more")
        them = "them" if len(problems) > 1 else "it"
        count = f"{len(problems):,} of {self.total:,} records cannot be used: " if len(problems) > 1 else ""
        fields = dict.fromkeys(name for one in problems for name in one.fields)
        raise OptionError(f"{count}{'; '.join(named)}; keep_going leaves {them} out", *fields, "keep_going")


def check_records(
    read: Reader,
    tokenizer: CurrAbTokenizer | None,
    check: Callable[[Record], Record] = lambda record: record,
) -> Checked:
    """Every record that cannot be used; `check` gives the record as it will be tokenized, or refuses it.

    The second use of an id is a problem, too.
    """
    hashes = array("q")  # of the ids: eight bytes a record, where a set of texts would take a hundred
    problems: dict[int, Problem] = {}
    left_out: dict[int, str] = {}
    total, digest = 0, hashlib.sha256()
    recognised: list[Recognised] = []
    for window in windows(read(recognised), _WINDOW):
        prepared: list[Record] = []
        for record in window:
            total += 1
            digest.update(record.content)
            if record.left_out:
                left_out[record.number] = record.left_out
                continue
            hashes.append(hash(record.id))
            try:
                read.check(record)
                prepared.append(check(record))
            except ValueError as error:
                fields = error.fields if isinstance(error, OptionError) else ()
                problems[record.number] = Problem(record.name, str(error), fields)
        if tokenizer is not None:
            for record in itertools.compress(prepared, ~are_ordinary(tokenizer, prepared)):
                try:
                    tokenize(tokenizer, [record])
                except ValueError as error:
                    problems[record.number] = Problem(record.name, str(error))
    values, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    if suspects := set(values[counts > 1].tolist()):
        for record, first in _repeated_ids(read, suspects):
            advice = "make ids unique, or leave them out"
            message = f"{record.name} has the id of {first}; {advice}"
            problems.setdefault(record.number, Problem(record.name, message))
    return Checked(total, dict(sorted(problems.items())), left_out, digest.hexdigest(), recognised)


def _repeated_ids(read: Reader, suspects: set[int]) -> Iterator[tuple[Record, str]]:
    """Records with the id of an earlier one, and its name; chance may give other ids the same hash."""
    first: dict[str, Record] = {}
    for record in read():
        if hash(record.id) in suspects and not record.left_out:
            earlier = first.setdefault(record.id, record)
            if earlier.number != record.number:
                yield record, earlier.name.partition(" (")[0]
