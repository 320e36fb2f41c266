"""Objects of other libraries and of Python, with names and columns that are not the schema's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from support.shapes.drawing import Draw, Pair, Record, Shape, shape


def _records(draw: Draw, columns: Sequence[str]) -> tuple[list[Record], list[Pair]]:
    records, pairs = [], []
    for number, (name, heavy, light) in enumerate(draw.named(8)):
        values = (name, heavy.residues, light.residues, number % 2, {"page": number})
        records.append(dict(zip([*columns, "label", "notes"], values, strict=True)))
        pairs.append(Pair(heavy.residues, light.residues, (name,)))
    order = draw.columns(records, columns)
    return [{name: record[name] for name in order} for record in records], pairs


def _object(draw: Draw, columns: Sequence[str], make: Callable[[list[Record]], Any], **options: Any) -> Shape:
    records, pairs = _records(draw, columns)
    return Shape(make(records), pairs, options)


def columns_of(records: list[Record]) -> dict[str, list[Any]]:
    return {name: [record[name] for record in records] for name in records[0]}


@shape
def object_pandas(draw: Draw, folder: Path) -> Shape:
    import pandas

    return _object(draw, ["Antibody", "VH sequence", "VL sequence"], pandas.DataFrame)


@shape
def object_pandas_named_columns(draw: Draw, folder: Path) -> Shape:
    import pandas

    names = {"heavy_column": "first", "light_column": "second", "id_column": "key"}
    return _object(draw, ["key", "first", "second"], pandas.DataFrame, **names)


@shape
def object_polars(draw: Draw, folder: Path) -> Shape:
    import polars

    return _object(draw, ["name", "heavy", "light"], polars.DataFrame)


@shape
def object_polars_lazy(draw: Draw, folder: Path) -> Shape:
    import polars

    return _object(draw, ["name", "vh", "vl"], lambda records: polars.DataFrame(records).lazy())


@shape
def object_arrow(draw: Draw, folder: Path) -> Shape:
    return _object(draw, ["id", "sequence_aa_heavy", "sequence_aa_light"], pa.Table.from_pylist)


@shape
def object_arrow_reader(draw: Draw, folder: Path) -> Shape:
    return _object(draw, ["id", "heavy", "light"], lambda records: pa.Table.from_pylist(records).to_reader(3))


@shape
def object_datasets(draw: Draw, folder: Path) -> Shape:
    from datasets import Dataset

    return _object(draw, ["id", "heavy_chain", "light_chain"], Dataset.from_list)


@shape
def object_datasets_iterable(draw: Draw, folder: Path) -> Shape:
    from datasets import Dataset

    return _object(draw, ["id", "VH", "VL"], lambda records: Dataset.from_list(records).to_iterable_dataset())


@shape
def object_datasets_of_splits(draw: Draw, folder: Path) -> Shape:
    from datasets import Dataset, DatasetDict

    def splits(records: list[Record]) -> DatasetDict:
        return DatasetDict(train=Dataset.from_list(records[:5]), test=Dataset.from_list(records[5:]))

    return _object(draw, ["id", "VH", "VL"], splits)


@shape
def object_tuples(draw: Draw, folder: Path) -> Shape:
    pairs = [(heavy.residues, light.residues) for heavy, light in draw.pairs(6)]
    return Shape(list(pairs), [Pair(*pair) for pair in pairs])


@shape
def object_generator_of_tuples(draw: Draw, folder: Path) -> Shape:
    pairs = [(heavy.residues, light.residues) for heavy, light in draw.pairs(6)]
    return Shape((pair for pair in pairs), [Pair(*pair) for pair in pairs])


@shape
def object_dictionaries(draw: Draw, folder: Path) -> Shape:
    return _object(draw, ["id", "heavy", "light"], list)


@shape
def object_generator_of_dictionaries(draw: Draw, folder: Path) -> Shape:
    return _object(draw, ["name", "VH", "VL"], iter)


@shape
def object_dictionary_of_columns(draw: Draw, folder: Path) -> Shape:
    return _object(draw, ["id", "Heavy Sequence", "Light Sequence"], columns_of)


@shape
def object_numbers_as_ids(draw: Draw, folder: Path) -> Shape:
    import pandas

    records, pairs = _records(draw, ["id", "heavy", "light"])
    for number, record in enumerate(records):
        record["id"] = 100 + number
    numbered = [Pair(pair.heavy, pair.light, (str(100 + number),)) for number, pair in enumerate(pairs)]
    return Shape(pandas.DataFrame(records), numbered)


@shape
def parquet_with_other_names(draw: Draw, folder: Path) -> Shape:
    records, pairs = _records(draw, ["antibody_name", "vh_protein_sequence", "vl_protein_sequence"])
    table = pa.Table.from_pylist(records)
    if draw.variant:
        place = table.schema.get_field_index("vh_protein_sequence")
        table = table.set_column(
            place, "vh_protein_sequence", table["vh_protein_sequence"].dictionary_encode()
        )
    pq.write_table(table, folder / "antibodies.parquet")
    return Shape(folder / "antibodies.parquet", pairs)


@shape
def arrow_file(draw: Draw, folder: Path) -> Shape:
    records, pairs = _records(draw, ["name", "heavy", "light"])
    table = pa.Table.from_pylist(records)
    with (
        pa.OSFile(str(folder / "pairs.feather"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table)
    return Shape(folder / "pairs.feather", pairs)
