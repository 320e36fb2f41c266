"""Samples of several files: contigs beside their annotations, and a file for each locus of the same cells."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product, repeat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.cells import HEAVY, LIGHT, locus_of
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.reading.columns import Layout, find_layout
from curr_ab.data.reading.formats import open_table
from curr_ab.data.reading.remote import RemoteFile
from curr_ab.data.reading.sources import MalformedSource, locate
from curr_ab.data.reading.streams import open_stream
from curr_ab.data.reading.table import Table
from curr_ab.options import OptionError
from curr_ab.words import CHAINS

Source = TypeVar("Source", bound=str | Table)
_LOCUS_IN_NAME = re.compile(r"(?<![a-z0-9])(ig[hkl]|heavy|light|kappa|lambda|[hkl]|vh|vl)(?![a-z0-9])")
_HEAVY_WORDS = {"igh", "heavy", "h", "vh"}
_HEAD_BYTES = 1 << 20  # of a file elsewhere
_REQUESTS_AT_ONCE = 16
_CONTIG_WORDS = re.compile(r"annotations?|contigs?|filtered|all|consensus|[._-]")


@dataclass(frozen=True)
class _File:
    """A file that may belong to others: it holds contigs, their annotations, or other chains of cells."""

    path: str
    table: Table  # of a file elsewhere, of its first lines
    layout: Layout | None

    @property
    def folder(self) -> Path:
        return Path(self.path).parent

    @property
    def stem(self) -> str:
        return Path(self.path).name.lower().partition(".")[0]

    @property
    def holds_contigs(self) -> bool:
        return self.table.form == "FASTA" and self.table.names[-1] == "sequence"

    @property
    def holds_annotations(self) -> bool:
        return self.layout is not None and self.layout.kind == "cells" and "contig" in self.layout.columns

    @property
    def chain_in_name(self) -> str | None:
        """The chain that the file's name says, as in `vh_sequences.fasta`."""
        word = _LOCUS_IN_NAME.search(self.stem.replace("_", "-"))
        return None if word is None else "heavy" if word[0] in _HEAVY_WORDS else "light"


def _head(path: str) -> str:
    """The file, or of one elsewhere a copy of its first lines, which tell as much."""
    if not isinstance(path, RemoteFile):
        return path
    copy = path.copied(num_bytes=_HEAD_BYTES)
    file, lines = Path(locate(copy)[0]), b""
    if file.stat().st_size == _HEAD_BYTES:
        with suppress(OSError), open_stream(copy) as stream:
            while block := stream.read(1 << 12):  # more would be lost with the end
                lines += block
        file.write_bytes(lines[: lines.rfind(b"\n") + 1])
    return copy


def _open(path: str, names: ColumnNames) -> _File | None:
    """The file, where it may belong to others; what is wrong with it is said when it is read."""
    try:
        table = open_table(_head(path))
        if table.metadata:
            return None
        file = _File(path, table, find_layout(table.names, ColumnNames() if table.form == "FASTA" else names))
    except (OptionError, OSError):
        return None
    return file if file.holds_contigs or (file.layout is not None and file.layout.kind == "cells") else None


def _only_chain(file: _File) -> str | None:
    """The one kind of chain in the file; None where it has both, or neither is told."""
    if file.layout is None:
        return None
    fields = {name: file.layout.columns[name] for name in ("locus", "v_call") if name in file.layout.columns}
    seen: set[str] = set()
    try:
        for batch in file.table.read(list(dict.fromkeys(fields.values()))):
            columns = {name: batch[column] for name, column in fields.items()}
            locus = locus_of(columns, file.table.metadata)
            for chain, pattern in zip(CHAINS, (HEAVY, LIGHT), strict=True):
                if pc.any(pc.match_substring_regex(locus, pattern)).as_py():
                    seen.add(chain)
            if len(seen) > 1:
                return None
    except MalformedSource:
        return None
    return next(iter(seen), None)


def _with_annotations(files: Sequence[_File]) -> Iterator[tuple[str, ...]]:
    """Contigs with their annotations: of the same name but for the usual words, else the only ones."""
    contigs = [file for file in files if file.holds_contigs]
    annotations = [file for file in files if file.holds_annotations]
    for words in (re.compile(r"_?annotations?"), _CONTIG_WORDS):
        for one, other in product(list(contigs), list(annotations)):
            alike = one.folder == other.folder and words.sub("", one.stem) == words.sub("", other.stem)
            if alike and one in contigs and other in annotations:
                contigs.remove(one)
                annotations.remove(other)
                yield other.path, one.path
    if len(contigs) == len(annotations) == 1:
        yield annotations[0].path, contigs[0].path


def _alike(files: Iterable[_File]) -> list[list[_File]]:
    """Files of one folder and of the same name but for the locus."""
    of_name: dict[tuple[Path, str], list[_File]] = defaultdict(list)
    for file in files:
        of_name[file.folder, _LOCUS_IN_NAME.sub("", file.stem.replace("_", "-"))].append(file)
    return list(of_name.values())


def _by_locus(files: Sequence[_File]) -> Iterator[tuple[str, ...]]:
    """Files with chains of one kind: of the same name but for the locus, else all others of a folder."""
    kinds = {file.path: chain for file in files if (chain := _only_chain(file)) is not None}
    left: dict[Path, list[str]] = defaultdict(list)
    for alike in _alike(file for file in files if file.path in kinds):
        paths = [file.path for file in alike]
        if {kinds[path] for path in paths} == set(CHAINS):
            yield tuple(paths)
        else:
            left[alike[0].folder] += paths
    for paths in left.values():
        chains = [kinds[path] for path in paths]
        # With two files of heavy chains nothing says which light chains belong to which.
        if chains.count("heavy") == 1 and "light" in chains:
            yield tuple(paths)


def _chains_apart(files: Sequence[_File]) -> Iterator[tuple[str, ...]]:
    """FASTA files of heavy and of light chains, of the same name but for the chain, the heavy one first."""
    for alike in _alike(file for file in files if file.holds_contigs and file.chain_in_name):
        ordered = sorted(alike, key=lambda file: file.chain_in_name or "")
        if [file.chain_in_name for file in ordered].count("heavy") == 1 and len(ordered) > 1:
            yield tuple(file.path for file in ordered)


def group_sources(sources: Sequence[Source], names: ColumnNames) -> list[tuple[Source, ...]]:
    """The sources as samples, each of one file or of several that belong together, in the order given."""
    if len(sources) < 2:
        return [(source,) for source in sources]
    remote = [source for source in sources if isinstance(source, RemoteFile)]
    paths = [source for source in sources if isinstance(source, str) and Path(source).is_file()]
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        opened = [*map(_open, paths, repeat(names)), *pool.map(_open, remote, repeat(names))]
    files = [file for file in opened if file is not None]
    groups = list(_with_annotations(files)) if any(file.holds_contigs for file in files) else []
    taken = {path for group in groups for path in group}
    groups += _chains_apart([file for file in files if file.path not in taken])
    groups += _by_locus([file for file in files if file.path not in taken and not file.holds_contigs])
    of: dict[Any, tuple[Any, ...]] = {path: group for group in groups for path in group}
    ordered = dict.fromkeys(of.get(source, (source,)) for source in sources)
    return list(ordered)


def _all_rows(tables: Sequence[Table]) -> dict[str, pa.Array]:
    """Names and letters of all records of FASTA files."""
    schema = pa.schema([(name, pa.string()) for name in tables[0].names])
    rows = pa.Table.from_batches((batch for table in tables for batch in table.read(table.names)), schema)
    return {name: rows[name].combine_chunks() for name in schema.names}


def _join_contigs(table: Table, layout: Layout, contigs: Table) -> Table:
    """The annotations with a further column, the sequence of their contig."""
    added = next(name for name in ("sequence", "contig", "sequence_input") if name not in table.names)
    key = layout.columns["contig"]
    known = cache(partial(_all_rows, [contigs]))

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        own = [name for name in names if name != added]
        for batch in table.read(list(dict.fromkeys([*own, key]))):
            places = pc.index_in(batch[key].cast(pa.string()), value_set=known()["id"])
            yield batch.append_column(added, known()["sequence"].take(places)).select(list(names))

    return replace(table, names=(*table.names, added), read=read)


def _join_chains(heavy: Table, lights: Sequence[Table]) -> Table:
    """Heavy and light chains of FASTA files, paired by name; light ones without a partner are last."""
    known = cache(partial(_all_rows, lights))

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        ids, sequences = known()["id"], known()["sequence"]
        alone = np.ones(len(ids), np.bool_)
        for batch in heavy.read(heavy.names):
            places = pc.index_in(batch["id"], value_set=ids)
            alone[pc.drop_null(places).to_numpy()] = False
            columns = {"id": batch["id"], "heavy": batch["sequence"], "light": sequences.take(places)}
            yield pa.record_batch({name: columns[name] for name in names})
        rest = {"id": ids.filter(pa.array(alone)), "light": sequences.filter(pa.array(alone))}
        rest["heavy"] = pa.nulls(len(rest["id"]), pa.string())
        if len(rest["id"]):
            yield pa.record_batch({name: rest[name] for name in names})

    return replace(heavy, names=("id", *CHAINS), read=read)


def open_sample(files: Sequence[str | Table], names: ColumnNames) -> list[Table]:
    """Tables of the files of a sample; contigs become a column of their annotations."""
    tables = [open_table(file, names.sheet) for file in files]
    if len(tables) > 1 and all(table.form == "FASTA" and table.names[-1] == "sequence" for table in tables):
        return [_join_chains(tables[0], tables[1:])]
    if len(tables) == 2 and tables[1].form == "FASTA":
        layout = find_layout(tables[0].names, names)
        if layout is not None and "contig" in layout.columns:
            return [_join_contigs(tables[0], layout, tables[1])]
    return tables


def samples_agree(tables: Sequence[Table], layouts: Sequence[Layout]) -> bool:
    """True where tables of one sample share its name: in some data each locus has a name of its own."""
    seen: list[set[tuple[str | None, ...]]] = []
    for table, layout in zip(tables, layouts, strict=True):
        if not layout.samples:
            return False
        own: set[tuple[str | None, ...]] = set()
        for batch in table.read(layout.samples):
            distinct = pa.Table.from_batches([batch]).group_by(list(layout.samples))
            own |= {tuple(row.values()) for row in distinct.aggregate([]).to_pylist()}
        seen.append(own)
    return any(seen[0] & other for other in seen[1:])
