"""Tables with one chain in a row: heavy and light by locus, joined into pairs by cell or clone on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.reading.annotate import Columns, truth
from curr_ab.data.reading.columns import REGION_PIECES
from curr_ab.data.schema import FIELDS
from curr_ab.words import CHAINS

_PARTITION_BYTES = 64 << 20
_EITHER_CHAIN = {"productive", "cdr_mask", *REGION_PIECES}
_EITHER_CHAIN |= {field.name.removesuffix("_heavy") for field in FIELDS if field.name.endswith("_heavy")}
SEVERAL_CHAINS = "several_chains"


def _is_heavy(columns: Columns, metadata: Mapping[str, Any]) -> pa.Array:
    """True for each row with a heavy chain, false with a light one, null where nothing says which."""
    num_rows = len(columns["sequence"])
    locus = pa.nulls(num_rows, pa.string())
    for name in ("locus", "v_call"):
        if name in columns:
            locus = pc.coalesce(locus, columns[name].cast(pa.string()))
    if "Chain" in metadata:
        locus = pc.coalesce(locus, pa.repeat(pa.scalar(str(metadata["Chain"])), num_rows))
    locus = pc.ascii_upper(pc.ascii_trim_whitespace(locus))
    heavy = pc.match_substring_regex(locus, "^(IGH|HEAVY|H$|VH)")
    light = pc.match_substring_regex(locus, "^(IG[KL]|LIGHT|KAPPA|LAMBDA|[KL]$|V[KL])")
    return pc.if_else(pc.or_(heavy, light), heavy, pa.scalar(None, pa.bool_()))


def tell_chains_apart(columns: Columns, metadata: Mapping[str, Any]) -> Columns:
    """Put each row's values under the names of its chain; those of the other chain are null."""
    heavy = _is_heavy(columns, metadata)
    is_chain = {"heavy": heavy, "light": pc.invert(heavy)}
    out: Columns = {}
    for name, column in columns.items():
        if name == "sequence" or name in _EITHER_CHAIN:
            for chain, rows in is_chain.items():
                target = chain if name == "sequence" else f"{name}_{chain}"
                out[target] = pc.if_else(pc.fill_null(rows, False), column, pa.scalar(None, column.type))
        elif name not in ("locus", "cell"):
            out[name] = column
    return out


def _join(rows: pa.Table, key: str) -> Iterator[pa.RecordBatch]:
    """Join cells with one chain of each kind; other rows stay, marked where a cell has several of a kind."""
    codes = pc.dictionary_encode(rows[key]).combine_chunks().indices.to_numpy(zero_copy_only=False)
    keyed = rows[key].is_valid().to_numpy()
    codes = np.where(keyed, np.nan_to_num(codes, nan=0), 0).astype(np.int64)
    productive = truth(pc.coalesce(rows["productive_heavy"], rows["productive_light"]))
    usable = keyed & pc.fill_null(productive, True).to_numpy()
    has = {chain: usable & rows[chain].is_valid().to_numpy() for chain in CHAINS}
    size = int(codes.max(initial=0)) + 1
    counts = {chain: np.bincount(codes[has[chain]], minlength=size) for chain in CHAINS}
    one_each = (counts["heavy"] == 1) & (counts["light"] == 1)
    several = (counts["heavy"] > 1) | (counts["light"] > 1)
    paired = {chain: np.flatnonzero(has[chain] & one_each[codes]) for chain in CHAINS}
    paired["light"] = paired["light"][np.argsort(codes[paired["light"]], kind="stable")]
    order = np.argsort(codes[paired["heavy"]], kind="stable")
    paired["heavy"] = paired["heavy"][order]
    joined = {
        name: rows[name].take(
            pa.array(paired["light" if name == "light" or name.endswith("_light") else "heavy"])
        )
        for name in rows.column_names
    }
    alone = np.setdiff1d(np.arange(len(codes)), np.concatenate(list(paired.values())))
    rest = rows.take(pa.array(alone))
    flags = pa.array((usable & several[codes])[alone])
    together = pa.concat_tables(
        [
            pa.table(joined).append_column(SEVERAL_CHAINS, pa.repeat(pa.scalar(False), len(order))),
            rest.append_column(SEVERAL_CHAINS, flags),
        ]
    )
    together = together.sort_by("record").drop_columns([key]).combine_chunks()
    yield from together.to_batches(max_chunksize=16_384)


def pair_cells(
    batches: Iterator[Columns], metadata: Mapping[str, Any], size_bytes: int, scratch: Path | None = None
) -> Iterator[Columns]:
    """Join the pairs of a table with one chain in a row, whatever the order of its rows.

    The rows are spread over files by their cell, so that memory holds one file at a time.
    """
    num_partitions = 1 + 4 * size_bytes // _PARTITION_BYTES
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="curr_ab_cells_", dir=scratch) as folder:
        paths = [Path(folder, f"{index}.arrow") for index in range(num_partitions)]
        writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
        first_record = 1
        for columns in batches:
            keys = columns["cell" if "cell" in columns else "clone"].cast(pa.string())
            wide = tell_chains_apart(columns, metadata)
            for chain in CHAINS:
                wide.setdefault(f"productive_{chain}", pa.nulls(len(keys), pa.string()))
            wide["record"] = pa.array(range(first_record, first_record + len(keys)), pa.int64())
            first_record += len(keys)
            table = pa.table({**wide, "cell_key": keys})
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
            for batch in _join(rows, "cell_key"):
                yield dict(zip(batch.schema.names, batch.columns, strict=True))
