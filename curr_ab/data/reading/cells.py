"""Tables with one chain in a row: heavy and light told apart, joined into pairs by cell or clone on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.annotate import Columns, truth
from curr_ab.data.reading.columns import REGION_PIECES
from curr_ab.data.reading.cut import chain_kinds
from curr_ab.data.reading.evidence import shown_chain
from curr_ab.data.report import JOINED, outcomes
from curr_ab.data.schema import FIELDS
from curr_ab.words import CHAINS

_PARTITION_BYTES = 64 << 20
_MOST_PARTITIONS = 512  # all of their files are open at once
_EITHER_CHAIN = {"productive", "cdr_mask", "umis", "translated", *REGION_PIECES}
_EITHER_CHAIN |= {field.name.removesuffix("_heavy") for field in FIELDS if field.name.endswith("_heavy")}
_OF_ROW = ("locus", "cell", "sample", "is_cell", "high_confidence", "rev_comp", "contig")  # not of a pair
SEVERAL_CHAINS = "several_chains"
HEAVY = "^(IGH|HEAVY|H$|VH|BCR[ _]?HEAVY)"
LIGHT = "^(IG[KL]|LIGHT|KAPPA|LAMBDA|[KL]$|V[KL]|BCR[ _]?(KAPPA|LAMBDA|LIGHT))"
_TCR = "^(TR[ABDG]|TCR)"
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


def locus_of(columns: Columns, metadata: Mapping[str, Any]) -> pa.Array:
    """Locus of each row in upper case, in words of the source; null where nothing says it."""
    num_rows = len(next(iter(columns.values())))
    known = pa.nulls(num_rows, pa.string())
    texts = [columns[name].cast(pa.string()) for name in ("locus", "v_call") if name in columns]
    if "Chain" in metadata:
        texts.append(pa.repeat(pa.scalar(str(metadata["Chain"])), num_rows))
    for text in texts:
        text = pc.ascii_upper(pc.ascii_trim_whitespace(text))
        says = pc.match_substring_regex(text, f"{HEAVY}|{LIGHT}|{_TCR}")
        known = pc.coalesce(known, pc.if_else(says, text, None))
    return known


def reasons_to_leave_out(columns: Columns, metadata: Mapping[str, Any]) -> dict[str, pa.Array]:
    """Rows that are no antibody chain of a cell, by reason: true where it holds."""
    out = {"T-cell receptors": pc.match_substring_regex(locus_of(columns, metadata), _TCR)}
    for name, reason in (("is_cell", "not a cell"), ("high_confidence", "not of high confidence")):
        if name in columns:
            out[reason] = pc.invert(truth(columns[name]))
    return {reason: pc.fill_null(holds, False) for reason, holds in out.items()}


def is_heavy(columns: Columns, metadata: Mapping[str, Any]) -> pa.Array:
    """True for each row with a heavy chain, false with a light one, null where nothing tells."""
    locus = locus_of(columns, metadata)
    heavy = pc.match_substring_regex(locus, HEAVY)
    named = pc.if_else(pc.or_(heavy, pc.match_substring_regex(locus, LIGHT)), heavy, None)
    if not named.null_count:
        return named
    named = pc.coalesce(named, shown_chain(columns["sequence"]))
    unsure = pc.and_(named.is_null(), columns["sequence"].is_valid())
    if not pc.any(unsure).as_py():
        return named
    kinds = chain_kinds(columns["sequence"].filter(unsure))
    return pc.replace_with_mask(named, unsure, pc.equal(kinds, "heavy"))


def tell_chains_apart(columns: Columns, metadata: Mapping[str, Any]) -> Columns:
    """Put each row's values under the names of its chain; those of the other chain are null."""
    heavy = is_heavy(columns, metadata)
    is_chain = {"heavy": heavy, "light": pc.invert(heavy)}
    out: Columns = {}
    for name, column in columns.items():
        if name == "sequence" or name in _EITHER_CHAIN:
            for chain, rows in is_chain.items():
                target = chain if name == "sequence" else f"{name}_{chain}"
                out[target] = pc.if_else(pc.fill_null(rows, False), column, pa.scalar(None, column.type))
        elif name == "isotype":  # the constant region of a light chain is no isotype of the pair
            out[name] = pc.if_else(pc.fill_null(heavy, True), column, pa.scalar(None, column.type))
        elif name not in _OF_ROW:
            out[name] = column
    return out


def _combinations(codes: Indices, has: Mapping[str, Flags]) -> pa.Table:
    """Rows of the heavy and of the light chain of every combination within a cell."""
    heavy, light = (
        pa.table({"cell": codes[of_chain], chain: np.flatnonzero(of_chain)})
        for chain, of_chain in has.items()
    )
    pairs = heavy.join(light, "cell", join_type="inner", use_threads=False)
    return pairs.sort_by([("cell", "ascending"), *((chain, "ascending") for chain in CHAINS)])


def _with_most_umis(codes: Indices, has: Flags, umis: pa.Array) -> Flags:
    """The chain of each cell with the most UMIs; of two with equally many both, so that it has several."""
    counts = pc.fill_null(umis.cast(pa.float64()), -1.0).to_numpy(zero_copy_only=False)
    most = np.full(len(codes), -1.0)
    np.maximum.at(most, codes[has], counts[has])
    return np.asarray(has & (counts == most[codes]))


def _joined_rows(heavy: pa.Table, light: pa.Table) -> pa.RecordBatch:
    """Outcomes of light chains, whose row in the pairs is that of their heavy chain."""
    same = pc.equal(heavy["source"], light["source"])
    file = pc.if_else(same, "", pc.binary_join_element_wise(" of ", heavy["source"], ""))
    number = heavy["record"].cast(pa.string())
    note = pc.binary_join_element_wise("joined with record ", number, file, "")
    return outcomes(light, JOINED, note)


def _join(
    rows: pa.Table, key: str, several_chains: str, aside: Callable[[pa.RecordBatch], None] | None
) -> Iterator[pa.RecordBatch]:
    """Join cells by the rule for several chains; other rows stay, marked where a cell has several."""
    encoded = pc.dictionary_encode(rows[key]).combine_chunks()
    codes, keyed = encoded.indices.fill_null(0).to_numpy(), rows[key].is_valid().to_numpy()
    productive = truth(pc.coalesce(rows["productive_heavy"], rows["productive_light"]))
    # Where no column says it, a stop or a shift of the frame does; MiXCR writes the latter as _.
    broken = pc.match_substring_regex(pc.coalesce(rows["heavy"], rows["light"]), "[*_].")
    for name in {"cdr3_heavy", "cdr3_light"} & set(rows.column_names):  # of a contig the open part is read
        stopped = pc.match_substring(rows[name], "*")
        broken = pc.if_else(pc.fill_null(stopped, False), True, broken)
    usable = keyed & pc.coalesce(productive, pc.invert(broken), pa.scalar(True)).to_numpy()
    of_chains = {chain: usable & rows[chain].is_valid().to_numpy() for chain in CHAINS}
    has = of_chains
    if several_chains == "most_umis":
        umis = pc.coalesce(rows["umis_heavy"], rows["umis_light"]).combine_chunks()
        has = {chain: _with_most_umis(codes, of_chain, umis) for chain, of_chain in has.items()}
    exceeded = np.logical_or.reduce([of_chains[chain] & ~has[chain] for chain in CHAINS])
    counts = [np.bincount(codes[of_chain], minlength=len(codes)) for of_chain in has.values()]
    several = np.maximum(*counts) > 1
    if several_chains != "all":
        has = {chain: of_chain & ~several[codes] for chain, of_chain in has.items()}
    sides = _combinations(codes, has)
    joined = {
        name: rows[name].take(sides["light" if name == "light" or name.endswith("_light") else "heavy"])
        for name in rows.column_names
    }
    if aside is not None and len(sides):
        named = rows.select(["source", "record", "id"])
        aside(_joined_rows(*(named.take(sides[chain]) for chain in CHAINS)))
    alone = np.setdiff1d(np.arange(len(codes)), np.concatenate([sides[chain] for chain in CHAINS]))
    flags = pa.array(((usable & several[codes]) | exceeded)[alone])
    together = pa.concat_tables(
        [
            pa.table(joined).append_column(SEVERAL_CHAINS, pa.repeat(pa.scalar(False), len(sides))),
            rows.take(pa.array(alone)).append_column(SEVERAL_CHAINS, flags),
        ]
    )
    together = together.sort_by([("source", "ascending"), ("record", "ascending")])
    yield from together.drop_columns([key]).combine_chunks().to_batches(max_chunksize=16_384)


def pair_cells(
    batches: Iterable[tuple[Columns, pa.Array]],
    *,
    size_bytes: int,
    several_chains: str = "drop",
    scratch: Path | None = None,
    aside: Callable[[pa.RecordBatch], None] | None = None,
) -> Iterator[Columns]:
    """Join the pairs among chains that were told apart, each batch with the keys of its cells, in any order.

    The rows are spread over files in `scratch` by their cell, so that memory holds one file at a time.
    `aside` takes the outcomes of light chains that were joined.
    """
    num_partitions = min(1 + 4 * size_bytes // _PARTITION_BYTES, _MOST_PARTITIONS)
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="curr_ab_cells_", dir=scratch) as folder:
        paths = [Path(folder, f"{index}.arrow") for index in range(num_partitions)]
        writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
        for wide, keys in batches:
            for name in ("productive", "umis"):
                for chain in CHAINS:
                    wide.setdefault(f"{name}_{chain}", pa.nulls(len(keys), pa.string()))
            ordered = {name: wide[name] for name in sorted(wide)}  # tables of a sample differ in order
            table = pa.table({**ordered, "cell_key": keys})
            partitions = np.array([crc32((key or "").encode()) % num_partitions for key in keys.to_pylist()])
            for index in np.unique(partitions):
                if index not in writers:
                    writers[int(index)] = pa.ipc.new_file(str(paths[index]), table.schema)
                writers[int(index)].write_table(table.filter(pa.array(partitions == index)))
        for writer in writers.values():
            writer.close()
        for index in sorted(writers):
            with pa.ipc.open_file(str(paths[index])) as reader:
                rows = reader.read_all()
            for batch in _join(rows, "cell_key", several_chains, aside):
                yield dict(zip(batch.schema.names, batch.columns, strict=True))
