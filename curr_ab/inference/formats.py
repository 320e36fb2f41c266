"""The output formats: parts are joined into Parquet, CSV, TSV, npy or safetensors, one at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from curr_ab.files import replacing
from curr_ab.inference.tasks import SHAPE


def writer_for(out: Path) -> Callable[[Sequence[Path], Path], None]:
    """The function that joins parts into the format that the file's name asks for."""
    writers = {
        ".parquet": _write_parquet,
        ".csv": _write_csv,
        ".tsv": _write_csv,
        ".npy": _write_npy,
        ".safetensors": _write_safetensors,
    }
    if out.suffix not in writers:
        raise ValueError(
            f"{out}: the name must end in {', '.join(writers)}, or in / for a folder of Parquet parts"
        )
    return writers[out.suffix]


def assemble(parts: Sequence[Path], out: Path) -> None:
    """Write `out` whole or not at all; npy and safetensors have the ids next to them, one in a line."""
    write = writer_for(out)
    if out.suffix in (".npy", ".safetensors"):
        ids = out.with_suffix(".ids.txt")
        with replacing(ids) as temporary, open(temporary, "w", encoding="utf-8") as file:
            for table in _tables(parts):
                file.writelines(f"{one}\n" for one in table["id"].to_pylist())
    with replacing(out) as temporary:
        write(parts, temporary)


def check_format(schema: pa.Schema, out: Path) -> None:
    """Refuse, before hours of work, a format that cannot hold these columns."""
    arrays = _array_shapes(schema)
    ragged = [shape for shape in arrays.values() if -1 in shape]
    if out.suffix in (".npy", ".safetensors") and not arrays:
        raise ValueError(f"{out}: {out.suffix} holds embeddings; write a table as .csv or .parquet")
    if out.suffix == ".npy" and (len(arrays) != 1 or ragged):
        raise ValueError(f"{out}: .npy holds one pooled embedding of each pair; write several as .parquet")
    if out.suffix in (".csv", ".tsv") and ragged:
        raise ValueError(
            f"{out}: residues of each pair do not fit into {out.suffix}; write .safetensors or .parquet"
        )
    if out.suffix == ".parquet" and any(len(shape) > 2 for shape in ragged):
        raise ValueError(f"{out}: attention maps are written as .safetensors")


def _array_shapes(schema: pa.Schema) -> dict[str, list[int]]:
    """The shapes of those columns that are arrays."""
    return {
        field.name: json.loads(field.metadata[SHAPE]) for field in schema if SHAPE in (field.metadata or {})
    }


def _tables(parts: Sequence[Path], columns: list[str] | None = None) -> Iterator[pa.Table]:
    for part in parts:
        yield pq.read_table(part, columns=columns, use_threads=False)


def _write_parquet(parts: Sequence[Path], path: Path) -> None:
    with pq.ParquetWriter(path, pq.read_schema(parts[0]).remove_metadata(), compression="zstd") as writer:
        for table in _tables(parts):
            writer.write_table(table.replace_schema_metadata(None))


def _write_csv(parts: Sequence[Path], path: Path) -> None:
    """Columns of an embedding are numbered from 0."""
    # The temporary name ends in another suffix; its first one is that of the file.
    options = pyarrow.csv.WriteOptions(
        delimiter="\t" if ".tsv" in path.suffixes else ",", quoting_style="needed"
    )
    writer = None
    for table in _tables(parts):
        columns = {}
        for field in table.schema:
            column = table[field.name].combine_chunks()
            if pa.types.is_fixed_size_list(field.type):
                width = field.type.list_size
                for place in range(width):
                    columns[f"{field.name}_{place}"] = pc.list_element(column, place)
            else:
                columns[field.name] = column
        flat = pa.table(columns)
        if writer is None:
            writer = pyarrow.csv.CSVWriter(path, flat.schema, write_options=options)
        writer.write_table(flat)
    if writer is not None:
        writer.close()


def _values(column: Any) -> Any:
    """The numbers of a list column, whatever its nesting, in reading order."""
    column = column.combine_chunks()
    while not pa.types.is_floating(column.type):
        column = column.flatten()
    return column.to_numpy(zero_copy_only=False).astype("<f4", copy=False)


def _write_npy(parts: Sequence[Path], path: Path) -> None:
    [(name, shape)] = _array_shapes(pq.read_schema(parts[0])).items()
    num_rows = sum(pq.read_metadata(part).num_rows for part in parts)
    header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, *shape)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        for table in _tables(parts, [name]):
            file.write(_values(table[name]).tobytes())


def _write_safetensors(parts: Sequence[Path], path: Path) -> None:
    """Pooled embeddings as one matrix for each name; residues and attention as one tensor for each pair."""
    shapes = _array_shapes(pq.read_schema(parts[0]))
    several = sum(-1 in shape for shape in shapes.values()) > 1
    header: dict[str, Any] = {}
    end = 0

    def add(key: str, shape: list[int]) -> None:
        nonlocal end
        start, end = end, end + 4 * math.prod(shape)
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}

    num_rows = sum(pq.read_metadata(part).num_rows for part in parts)
    for name, shape in shapes.items():
        if -1 not in shape:
            add(name, [num_rows, *shape])
            continue
        for table in _tables(parts, ["id", name]):
            lengths = pc.list_value_length(table[name]).to_pylist()
            for one, length in zip(table["id"].to_pylist(), lengths, strict=True):
                # The length counts residues, or the square of their number for each layer and head.
                residues = length if len(shape) == 2 else math.isqrt(length // math.prod(shape[:2]))
                add(f"{one}/{name}" if several else one, [residues if n == -1 else n for n in shape])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in shapes:
            for table in _tables(parts, [name]):
                file.write(_values(table[name]).tobytes())
