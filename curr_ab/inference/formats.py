"""The output formats: parts are joined into Parquet, CSV, TSV, FASTA, npy or safetensors, one at a time."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq

from curr_ab.files import remove_half_written, replacing
from curr_ab.formulas import guard_fields
from curr_ab.inference.tasks import SHAPE
from curr_ab.options import OptionError
from curr_ab.words import CHAINS

ROW_GROUP = 32 << 20  # bytes of a row group in a joined Parquet file, before compression
INDEX = "index.parquet"
_SORTED_AT_ONCE = 1_000_000  # rows of the index; what is more is sorted on disk
_SAMPLED = 4_096  # rows of the index, of which one is looked at to cut it into pieces
_MOST_HEADER = 100_000_000  # bytes of JSON that readers of safetensors accept
_INDEX_ROWS = 65_536  # of a row group of the index: so many are read to find an id
_RANGES = pa.schema([("id", pa.string()), ("file", pa.string()), ("row", pa.int64()), ("rows", pa.int64())])
_SAFETENSORS_TYPES = {"<f4": "F32", "<f2": "F16"}


def writer_for(out: Path) -> Callable[[Sequence[Path], Path], None]:
    """The function that joins parts into the format that the file's name asks for."""
    writers = {
        ".parquet": _write_parquet,
        ".csv": _write_csv,
        ".tsv": _write_csv,
        ".fasta": _write_fasta,
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
    write, ids = writer_for(out), out.with_suffix(".ids.txt")
    for path in (ids, out):  # whose other writers were killed
        remove_half_written(path)
    if out.suffix in (".npy", ".safetensors"):
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
    if out.suffix in (".csv", ".tsv") and any(
        _number_type(schema.field(name).type) == "<f2" for name in arrays
    ):
        problem = f"{out}: {out.suffix} has no number types; write float16 as .parquet, .npy or .safetensors"
        raise OptionError(problem, "precision")
    if out.suffix in (".csv", ".tsv") and ragged:
        raise ValueError(
            f"{out}: residues of each pair do not fit into {out.suffix}; write .safetensors or .parquet"
        )
    if out.suffix == ".fasta" and not ({"id", *CHAINS} <= {*schema.names} and _number_of(schema)):
        problem = f"{out}: .fasta holds the chains that generate, design and restore make"
        raise ValueError(f"{problem}; write this table as .csv or .parquet")
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
    """Row groups of the same size whatever the parts are: a group for each would make a footer of 10 MB."""
    with pq.ParquetWriter(path, pq.read_schema(parts[0]).remove_metadata(), compression="zstd") as writer:
        for group in _grouped(_tables(parts)):
            writer.write_table(group.replace_schema_metadata(None))


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows in as many tables as fit ROW_GROUP bytes each, a table of the input at least."""
    waiting: list[pa.Table] = []
    num_bytes = 0
    for table in tables:
        if waiting and num_bytes + table.nbytes > ROW_GROUP:
            yield pa.concat_tables(waiting)
            waiting, num_bytes = [], 0
        waiting.append(table)
        num_bytes += table.nbytes
    if waiting:
        yield pa.concat_tables(waiting)


def _write_csv(parts: Sequence[Path], path: Path) -> None:
    """Columns of an embedding are numbered from 0; text of users is no formula."""
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
        flat = guard_fields(pa.table(columns))
        if writer is None:
            writer = pyarrow.csv.CSVWriter(path, flat.schema, write_options=options)
        writer.write_table(flat)
    if writer is not None:
        writer.close()


def _number_of(schema: pa.Schema) -> str:
    """The column that numbers the pairs of a record; empty where rows are no such pairs."""
    return next((name for name in ("sample", "design", "variant") if name in schema.names), "")


def _write_fasta(parts: Sequence[Path], path: Path) -> None:
    """Two records for each pair, under names that are read as those of its chains; no spaces are in these."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for table in _tables(parts):
            number = _number_of(table.schema)
            for row in table.select(["id", number, *CHAINS]).to_pylist():
                if row[number] is None:  # a record of which no sample was kept
                    continue
                name = f"{'_'.join(row['id'].split())}-{row[number]}"
                file.writelines(f">{name}_{chain}\n{row[chain]}\n" for chain in CHAINS if row[chain])


def _values(column: Any) -> Any:
    """The numbers of a list column, whatever its nesting, in reading order."""
    column = column.combine_chunks()
    while not pa.types.is_floating(column.type):
        column = column.flatten()
    return column.to_numpy(zero_copy_only=False).astype(_number_type(column.type), copy=False)


def _number_type(kind: pa.DataType) -> str:
    """The type of the numbers in a list column, as NumPy writes it in a file."""
    while pa.types.is_nested(kind):
        kind = kind.value_type
    return "<f2" if pa.types.is_float16(kind) else "<f4"


def _write_npy(parts: Sequence[Path], path: Path) -> None:
    schema = pq.read_schema(parts[0])
    [(name, shape)] = _array_shapes(schema).items()
    num_rows = sum(pq.read_metadata(part).num_rows for part in parts)
    header = {
        "descr": _number_type(schema.field(name).type),
        "fortran_order": False,
        "shape": (num_rows, *shape),
    }
    with open(path, "wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        for table in _tables(parts, [name]):
            file.write(_values(table[name]).tobytes())


def _write_safetensors(parts: Sequence[Path], path: Path) -> None:
    """Pooled embeddings as one matrix for each name; residues and attention as one tensor for each pair."""
    schema = pq.read_schema(parts[0])
    shapes = _array_shapes(schema)
    several = sum(-1 in shape for shape in shapes.values()) > 1
    header: list[str] = []  # as text, which takes a tenth of the memory
    num_chars = end = 0

    def add(key: str, name: str, shape: list[int]) -> None:
        nonlocal num_chars, end
        descr = _number_type(schema.field(name).type)
        start, end = end, end + np.dtype(descr).itemsize * math.prod(shape)
        about = {"dtype": _SAFETENSORS_TYPES[descr], "shape": shape, "data_offsets": [start, end]}
        header.append(f"{json.dumps(key)}:{json.dumps(about, separators=(',', ':'))}")
        num_chars += len(header[-1]) + 1
        if num_chars > _MOST_HEADER - 16:
            raise ValueError(
                f"a .safetensors file holds no more than {len(header) - 1:,} of these tensors, because its "
                "header must not be longer than 100 MB; write .parquet, or a folder of parts"
            )

    num_rows = sum(pq.read_metadata(part).num_rows for part in parts)
    for name, shape in shapes.items():
        if -1 not in shape:
            add(name, name, [num_rows, *shape])
            continue
        for table in _tables(parts, ["id", name]):
            lengths = pc.list_value_length(table[name]).to_pylist()
            for one, length in zip(table["id"].to_pylist(), lengths, strict=True):
                # The length counts residues, or the square of their number for each layer and head.
                residues = length if len(shape) == 2 else math.isqrt(length // math.prod(shape[:2]))
                add(f"{one}/{name}" if several else one, name, [residues if n == -1 else n for n in shape])
    text = f"{{{','.join(header)}}}".encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in shapes:
            for table in _tables(parts, [name]):
                file.write(_values(table[name]).tobytes())


def write_index(parts: Sequence[Path], folder: Path) -> None:
    """Where the rows of each id lie in a folder of parts, sorted by id, so that one is found at once."""
    with TemporaryDirectory(prefix=".index.", suffix=".tmp", dir=folder) as scratch:
        firsts = _write_runs(parts, Path(scratch))
        runs = pyarrow.dataset.dataset(scratch, _RANGES)
        with replacing(folder / INDEX) as temporary, pq.ParquetWriter(temporary, _RANGES) as writer:
            for first, end in itertools.pairwise([*firsts, None]):
                wanted = pc.field("id") >= first
                if end is not None:
                    wanted &= pc.field("id") < end
                # Of each run only the row groups with such ids are read.
                writer.write_table(runs.to_table(filter=wanted, use_threads=False).sort_by("id"), _INDEX_ROWS)


def _write_runs(parts: Iterable[Path], folder: Path) -> list[str]:
    """Write files of sorted ranges; return ids that cut all of them together into pieces of that size."""
    samples: list[str] = []
    # The rows of an id are neighbours, and its part holds all of them.
    for number, batches in enumerate(_gathered(map(_ranges, parts))):
        run = pa.Table.from_batches(batches).sort_by("id")
        pq.write_table(run, folder / f"{number}.parquet", _SAMPLED)
        samples += run["id"].take(pa.array(range(0, len(run), _SAMPLED))).to_pylist()
    step = _SORTED_AT_ONCE // _SAMPLED
    return ["", *dict.fromkeys(sorted(samples)[step::step])]


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches with as many rows together as are sorted at once."""
    gathered: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        gathered.append(batch)
        num_rows += len(batch)
        if num_rows >= _SORTED_AT_ONCE:
            yield gathered
            gathered, num_rows = [], 0
    if gathered:
        yield gathered


def _ranges(part: Path) -> pa.RecordBatch:
    """The id, file, first row and number of rows of each record in a part, by its first column."""
    ids = pq.read_table(part, columns=[pq.read_schema(part).names[0]], use_threads=False)
    runs = pc.run_end_encode(ids.column(0).combine_chunks())
    ends = runs.run_ends.to_numpy()
    starts = np.concatenate([[0], ends[:-1]])
    names = pa.repeat(pa.scalar(part.name), len(ends))
    return pa.record_batch([runs.values, names, pa.array(starts), pa.array(ends - starts)], schema=_RANGES)
