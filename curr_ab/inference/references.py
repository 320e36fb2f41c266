"""Nearest germline V gene and nearest natural chain of any chains, among references that the user gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curr_ab.data.preparing.genes import v_domains
from curr_ab.data.reading.sources import MalformedSource
from curr_ab.domains import CHAIN_OF, Domain, find_domains, number_of
from curr_ab.inference.records import Record, reader
from curr_ab.inference.settings import ReferenceOptions
from curr_ab.options import OptionError
from curr_ab.words import CHAINS

Array = npt.NDArray[Any]
NUM_POSITIONS = 104  # of IMGT, up to the cysteine before the CDR3: what follows is not the V gene's alone
_LENGTH = 3  # of the words by which chains are compared first
_WORDS = 1024  # that words are hashed to: chains that share a number may have no word in common
_BLOCK = 8192  # natural chains that are compared at once
_FIRST_LOOK = 32  # of the likeliest natural chains, and twice as many each time


class Nearest(NamedTuple):
    """The likest of the references, and the share of residues that are the same."""

    name: str | None
    identity: float | None


_NOTHING = Nearest(None, None)


class Germline:
    """Germline V genes, heavy and light, by IMGT position."""

    def __init__(self, genes: Iterable[tuple[str, str, Domain]]) -> None:
        """`genes` are names, residues and their domains, as `v_domains` reads them."""
        named: dict[tuple[str, bytes], str] = {}
        for name, text, domain in genes:
            key = CHAIN_OF[domain.chain], _by_position(text, domain)[0].tobytes()
            named[key] = min(name, named.get(key, name))
        self._names: dict[str, list[str]] = {chain: [] for chain in CHAINS}
        rows: dict[str, list[Array]] = {chain: [] for chain in CHAINS}
        for (chain, residues), name in sorted(named.items(), key=lambda one: (one[1], one[0])):
            self._names[chain].append(name)
            rows[chain].append(np.frombuffer(residues, np.uint8))
        self._rows = {chain: np.array(rows[chain]).reshape(-1, NUM_POSITIONS) for chain in CHAINS}

    def nearest(self, texts: Sequence[str | None], chain: str) -> list[Nearest]:
        """The gene of which each chain keeps the largest share; the first name where several tie.

        The share is of the positions from the chain's first residue to 104 that it or the gene has.
        """
        return [
            _NOTHING if place < 0 else Nearest(self._names[chain][place], float(identity))
            for place, identity, _ in zip(*self._compare(texts, chain), strict=True)
        ]

    def distances(self, texts: Sequence[str], chain: str, domain: Domain | None = None) -> list[int | None]:
        """The number of these positions at which each chain differs from its nearest gene.

        `domain` is that of all, where they differ by substitutions alone: nothing is aligned then.
        """
        found = self._compare(texts, chain, domain)
        return [None if place < 0 else int(number) for place, _, number in zip(*found, strict=True)]

    def residues(self, text: str, chain: str) -> list[str]:
        """The nearest gene's residue at each place of the chain; empty where it has none."""
        place, domain = int(self._compare([text], chain)[0][0]), domain_of(text, chain)
        out = [""] * len(text)
        if place >= 0 and domain is not None:
            for number, label in enumerate(domain.labels, start=domain.start):
                if label.isdigit() and (position := int(label)) <= NUM_POSITIONS:
                    out[number] = chr(self._rows[chain][place, position - 1]).strip("\0")
        return out

    def _compare(
        self, texts: Sequence[str | None], chain: str, given: Domain | None = None
    ) -> tuple[Array, Array, Array]:
        """Place of the nearest gene (-1 where there is none), identity, number of differences."""
        rows = np.zeros((len(texts), NUM_POSITIONS), np.uint8)
        begins, inserted = np.zeros((2, len(texts)), np.int64)
        known = np.zeros(len(texts), np.bool_)
        for number, text in enumerate(texts):
            if text and (domain := given or domain_of(text, chain)) is not None:
                rows[number], inserted[number] = _by_position(text, domain)
                begins[number], known[number] = number_of(domain.labels[0]) - 1, True
        inside = np.arange(NUM_POSITIONS) >= begins[:, None]
        places, shares, differences = (np.full(len(texts), -1.0) for _ in range(3))
        for place, gene in enumerate(self._rows[chain]):
            counted = inside & ((rows != 0) | (gene != 0))
            total = np.count_nonzero(counted, axis=1) + inserted
            equal = np.count_nonzero(counted & (rows == gene), axis=1)
            share = equal / np.maximum(1, total)
            better = known & (share > shares)
            places[better], shares[better], differences[better] = (
                place,
                share[better],
                (total - equal)[better],
            )
        return places.astype(np.int64), shares, differences


def domain_of(text: str, chain: str) -> Domain | None:
    """The variable domain of a kind in a chain."""
    return next((one for one in find_domains(text) if CHAIN_OF[one.chain] == chain), None)


def _by_position(text: str, domain: Domain) -> tuple[Array, int]:
    """Residues at IMGT's positions 1 to 104, and the number of those that are inserted between them."""
    row, num_inserted = np.zeros(NUM_POSITIONS, np.uint8), 0
    for label, residue in zip(domain.labels, text[domain.start : domain.end].encode(), strict=True):
        if number_of(label) > NUM_POSITIONS:
            break
        if label.isdigit():
            row[int(label) - 1] = residue
        else:
            num_inserted += 1
    return row, num_inserted


class Natural:
    """Natural chains, of which the nearest by edit distance is found exactly.

    Chains that differ by d edits share all but 3 d of their words of three letters. A matrix product counts
    shared words, which says how near each natural chain can be at best; edit distances are computed from the
    likeliest on, until no other can be nearer.
    """

    def __init__(self, chains: Iterable[tuple[str, str, str]]) -> None:
        """`chains` are names, heavy or light, and residues; of equal ones the first is kept."""
        self._names: dict[str, dict[str, str]] = {chain: {} for chain in CHAINS}
        for name, chain, text in chains:
            self._names[chain].setdefault(text, name)
        self._texts = {chain: list(named) for chain, named in self._names.items()}
        self._letters = {chain: _letters(texts) for chain, texts in self._texts.items()}
        self._lengths = {
            chain: np.array([*map(len, texts)], np.int64) for chain, texts in self._texts.items()
        }
        self._present = {chain: _words(texts) > 0 for chain, texts in self._texts.items()}

    def nearest(self, texts: Sequence[str | None], chain: str) -> list[Nearest]:
        """The natural chain of highest identity: 1 - edit distance / length of the longer."""
        return [
            Nearest(None if place is None else self._names[chain][self._texts[chain][place]], identity)
            for place, identity in self._search(texts, chain)
        ]

    def distances(self, texts: Sequence[str], chain: str) -> list[int | None]:
        """The number of edits between each chain and its nearest."""
        return [
            None
            if place is None or identity is None
            else round((1 - identity) * max(len(text), len(self._texts[chain][place])))
            for text, (place, identity) in zip(texts, self._search(texts, chain), strict=True)
        ]

    def residues(self, text: str, chain: str) -> list[str]:
        """The nearest chain's residue at each IMGT position of the chain; empty where it has none."""
        [(place, _)] = self._search([text], chain)
        own, out = domain_of(text, chain), [""] * len(text)
        if place is None or own is None or (other := domain_of(self._texts[chain][place], chain)) is None:
            return out
        nearest = self._texts[chain][place][other.start : other.end]
        by_label = dict(zip(other.labels, nearest, strict=True))
        for number, label in enumerate(own.labels, start=own.start):
            out[number] = by_label.get(label, "")
        return out

    def _search(self, texts: Sequence[str | None], chain: str) -> list[tuple[int | None, float | None]]:
        out: list[tuple[int | None, float | None]] = [(None, None)] * len(texts)
        if not self._texts[chain]:
            return out
        copies = {text: place for place, text in enumerate(self._texts[chain])} if any(texts) else {}
        open_ = [number for number, text in enumerate(texts) if text and text not in copies]
        for number, text in enumerate(texts):
            if text in copies:
                out[number] = copies[text], 1.0
        for start in range(0, len(open_), 256):
            some = open_[start : start + 256]
            queries = [str(texts[number]) for number in some]
            bounds = self._bounds(queries, chain)
            for number, query, bound in zip(some, queries, bounds, strict=True):
                out[number] = self._nearest_one(query, chain, bound)
        return out

    def _bounds(self, queries: Sequence[str], chain: str) -> Array:
        """The least share [queries, natural chains] of residues that must differ."""
        words, present = _words(queries).astype(np.float32), self._present[chain]
        shared = np.concatenate(
            [
                words @ present[start : start + _BLOCK].T.astype(np.float32)
                for start in range(0, len(present), _BLOCK)
            ],
            axis=1,
        )
        lengths = np.array([*map(len, queries)])[:, None]
        longer = np.maximum(lengths, self._lengths[chain])
        edits = np.maximum(np.ceil((longer - _LENGTH + 1 - shared) / _LENGTH), 0)
        return np.asarray(np.maximum(edits, np.abs(lengths - self._lengths[chain])) / longer)

    def _nearest_one(self, query: str, chain: str, bound: Array) -> tuple[int, float]:
        order = np.argsort(bound, kind="stable")
        best, least, start, size = -1, np.inf, 0, _FIRST_LOOK
        while start < len(order) and bound[order[start]] < least:
            some = order[start : start + size]
            some = some[bound[some] < least]
            lengths = self._lengths[chain][some]
            distances = edit_distances(query, self._letters[chain][some], lengths)
            shares = distances / np.maximum(lengths, len(query))
            if shares.min() < least:
                best, least = int(some[shares.argmin()]), float(shares.min())
            start, size = start + size, min(2 * size, 4096)
        return best, 1.0 - least


def edit_distances(query: str, letters: Array, lengths: Array) -> Array:
    """Levenshtein's distance from one text to each row of letters, of which `lengths` are text."""
    width = int(lengths.max(initial=0))
    columns = np.arange(width + 1, dtype=np.int16)
    row = np.repeat(columns[None], len(letters), axis=0)
    for number, letter in enumerate(query.encode(), start=1):
        replaced = row[:, :-1] + (letters[:, :width] != letter)
        row = row + np.int16(1)  # a letter of the query is left out
        np.minimum(row[:, 1:], replaced, out=row[:, 1:])
        row[:, 0] = number
        # Letters that are added cost one each: the least of all columns to the left, and the way from there.
        row = np.minimum.accumulate(row - columns, axis=1) + columns
    return row[np.arange(len(letters)), lengths].astype(np.int64)


def _letters(texts: Sequence[str]) -> Array:
    """The texts as rows of letters, 0 behind their ends."""
    width = max(map(len, texts), default=0)
    joined = "".join(text.ljust(width, "\0") for text in texts).encode("ascii", "replace")
    return np.frombuffer(joined, np.uint8).reshape(len(texts), width)


def _words(texts: Sequence[str]) -> Array:
    """Number of times [texts, _WORDS] that each has a word."""
    counts = np.zeros((len(texts), _WORDS), np.uint8)
    for start in range(0, len(texts), _BLOCK):
        letters = _letters(texts[start : start + _BLOCK]).astype(np.int64)
        if letters.shape[1] < _LENGTH:
            continue
        first, second, third = letters[:, :-2], letters[:, 1:-1], letters[:, 2:]
        hashed = (first * 961 + second * 31 + third) * 40503 % 65521 % _WORDS
        rows, places = np.nonzero(third)
        np.add.at(counts, (rows + start, hashed[rows, places]), 1)
    return counts


class References:
    """Germline genes, natural chains, or both; columns are those of what is there."""

    def __init__(self, germline: Germline | None = None, natural: Natural | None = None) -> None:
        self.germline, self.natural = germline, natural

    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        stems = ("v_gene", "germline_identity") * bool(self.germline)
        stems += ("nearest", "nearest_identity") * bool(self.natural)
        return tuple(f"{stem}_{chain}" for chain in CHAINS for stem in stems)

    def columns(self, records: Sequence[Record]) -> dict[str, list[Any]]:
        """A value for each record in each column; None where it lacks the chain, or the chain a reference."""
        columns: dict[str, list[Any]] = {}
        for chain in CHAINS:
            texts = [record.chain(chain) for record in records]
            if self.germline:
                genes = self.germline.nearest(texts, chain)
                columns[f"v_gene_{chain}"] = [one.name for one in genes]
                columns[f"germline_identity_{chain}"] = [one.identity for one in genes]
            if self.natural:
                chains = self.natural.nearest(texts, chain)
                columns[f"nearest_{chain}"] = [one.name for one in chains]
                columns[f"nearest_identity_{chain}"] = [one.identity for one in chains]
        return columns


def column_types(names: Sequence[str]) -> dict[str, str]:
    """The types of reference columns, as tasks write them."""
    return {name: "float64" if "identity" in name else "string" for name in names}


def read_references(options: ReferenceOptions | References) -> References:
    """The references of the options, read once in a process; those that are read already, as they are."""
    if isinstance(options, References):
        return options
    return _read(options.v_genes, options.natural)


@cache
def _read(v_genes: tuple[Path, ...], natural: tuple[str, ...]) -> References:
    germline = chains = None
    if v_genes:
        found = [gene for path in v_genes for gene in v_domains(path)]
        if not found:
            raise OptionError(
                "v_genes must be FASTA files of germline V genes, as residues or nucleotides; "
                f"{', '.join(map(str, v_genes))} has none that can be recognised",
                "v_genes",
            )
        germline = Germline(found)
    if natural:
        try:
            chains = Natural(
                (record.id, chain, text)
                for record in reader(list(natural), unpaired=True)()
                for chain in CHAINS
                if (text := record.chain(chain))
            )
        except (OSError, MalformedSource) as error:
            raise OptionError(
                f"natural must be files of chains that can be read; {error}", "natural"
            ) from error
    return References(germline, chains)
