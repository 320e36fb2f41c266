"""Pairs in objects: the same records as from a file, whatever holds them."""

import itertools
import re

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.objects import OBJECTS, ONCE

from curr_ab.data import PreparationPlan, prepare, read_pairs
from curr_ab.data.reading.objects import files_of, tables_of

ROWS = [("7", "EVQLVESGG", "DIQMT"), ("8", "QVQLQ", "EIVLT"), ("9", "EVQLES", "QSALT")]


def read(pairs, **options):
    return pa.Table.from_batches(read_pairs(pairs, **options))


def rows_of(table):
    return list(zip(*(table[name].to_pylist() for name in ("id", "heavy", "light")), strict=True))


@pytest.mark.parametrize("kind", OBJECTS)
def test_every_object(kind):
    table = read(OBJECTS[kind](ROWS), extra_columns=["kd"])
    assert rows_of(table) == ROWS
    assert set(table["source"].to_pylist()) == {"pairs"}
    assert table["record"].to_pylist()[0] == 1
    assert [None if text is None else float(text) for text in table["kd"].to_pylist()] == [4.5, None, 3.0]


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.heavy
def test_an_object_that_is_read_again(kind):
    again = tables_of(OBJECTS[kind](ROWS), again=True)
    assert rows_of(read(again)) == rows_of(read(again)) == ROWS
    once = tables_of(OBJECTS[kind](ROWS))
    assert rows_of(read(once)) == ROWS
    if kind in ONCE:
        with pytest.raises(ValueError, match="can be read once; give a "):
            read(once)
    else:
        assert rows_of(read(once)) == ROWS


def test_pairs_without_names():
    pairs = [(heavy, light) for _, heavy, light in ROWS]
    numbered = [(str(place), *pair) for place, pair in enumerate(pairs, 1)]
    for form in (pairs, iter(pairs), tuple(pairs), np.array(pairs), [list(pair) for pair in pairs]):
        assert rows_of(read(form)) == numbered


def test_names_of_columns_and_ids():
    frame = pd.DataFrame(
        {"first": ["EVQ", "QVQ"], "second": ["DIQ", "EIV"], "key": [12, 7], "more": [[1], {}]}
    )
    table = read(frame, heavy_column="first", light_column="second", id_column="key")
    assert rows_of(table) == [("12", "EVQ", "DIQ"), ("7", "QVQ", "EIV")]
    with pytest.raises(ValueError, match=r"pairs: there is no column 'third'; the columns are first, second"):
        read(frame, heavy_column="third", light_column="second")
    with pytest.raises(ValueError, match="pairs: no sequence column is known among"):
        read(frame[["key", "more"]])


def test_several_objects_and_files(tmp_path):
    (tmp_path / "a.csv").write_text("id,heavy,light\na,EVQ,DIQ\n")
    frames = [pd.DataFrame({"id": [name], "VH": ["EVQ"], "VL": ["DIQ"]}) for name in "bc"]
    table = read([frames[0], str(tmp_path / "a.csv"), pl.DataFrame(frames[1])])
    assert table["id"].to_pylist() == ["b", "a", "c"]
    assert table["source"].to_pylist() == ["pairs 1", str(tmp_path / "a.csv"), "pairs 3"]


def test_splits_of_a_data_set_are_splits():
    assert read(OBJECTS["data set with splits"](ROWS))["split"].to_pylist() == ["train", "test", "test"]


def test_rows_are_drawn_as_they_are_needed():
    drawn = itertools.count()
    endless = ({"vh": "EVQ", "vl": "DIQ", "id": next(drawn)} for _ in itertools.repeat(None))
    batch = next(read_pairs(endless))
    assert batch["heavy"][0].as_py() == "EVQ" and next(drawn) <= 64


def test_missing_values_of_every_kind():
    frame = pd.DataFrame({"heavy": ["EVQ", None, "QVQ"], "light": ["DIQ", "EIV", np.nan]})
    expected = [("EVQ", "DIQ"), (None, "EIV"), ("QVQ", None)]
    forms = [
        frame,
        frame.astype(object),
        frame.astype("string"),
        frame.to_dict("records"),
        frame.astype("string").astype(object).to_dict("list"),
        [(heavy, light) for heavy, light in expected],
    ]
    for form in forms:
        assert [row[1:] for row in rows_of(read(form))] == expected


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            pa.table({"heavy": [["EVQ"]], "light": ["DIQ"]}),
            "pairs: column 'heavy' must hold sequences as text",
        ),
        (7, "pairs must be a table, a data set or a list of pairs, such as [(heavy, light)]; got a int"),
        ({"heavy": "EVQ", "light": "DIQ"}, "such as [(heavy, light)]; got a dict"),
        ([("EVQ", "DIQ"), ("EVQ",)], "record 2: a pair must be written as (heavy, light); got ('EVQ',)"),
        ({"heavy": ["EVQ"], "light": []}, "columns must be of one length; got heavy 1, light 0"),
        (
            pd.DataFrame([["EVQ", "QVQ", "DIQ"]], columns=["heavy", "heavy", "light"]),
            "the column names must differ; 'heavy' is of columns 1 and 2; rename one",
        ),
    ],
)
def test_what_is_no_table_of_pairs(pairs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read(pairs)


def test_an_empty_object():
    nothing = datasets.IterableDataset.from_generator(lambda: iter([]))
    for form in ([], iter([]), nothing, pd.DataFrame({"heavy": [], "light": []}), {"heavy": [], "light": []}):
        assert list(read_pairs(form)) == []


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_as_files(kind):
    with files_of(OBJECTS[kind](ROWS)) as [name]:
        table = read(name)
        assert rows_of(table) == ROWS
        assert set(table["source"].to_pylist()) == {"pairs"}


@pytest.mark.parametrize("kind", ["pandas", "generator of mappings", "data set"])
@pytest.mark.heavy
def test_prepared_from_an_object(kind, corpus, tmp_path):
    """The same shards as from a file with the same rows."""
    rows = [(row["id"], row["heavy"], row["light"]) for row in corpus[:60]]
    plan = PreparationPlan(cluster="exact")
    index = prepare(OBJECTS[kind](rows), tmp_path / "out", plan)
    assert index["report"]["kept"] == 60
    again = prepare(OBJECTS[kind](rows), tmp_path / "out", plan)
    assert again == index
    with pytest.raises(ValueError, match="prepared from other sources or settings"):
        prepare(OBJECTS[kind](rows[1:]), tmp_path / "out", plan)
    assert not (tmp_path / "out" / ".objects").exists()
    kept = pa.concat_tables([pq.read_table(path) for path in (tmp_path / "out").glob("*-0*.parquet")])
    assert set(kept["source"].to_pylist()) == {"pairs"}
    assert sorted(kept["id"].to_pylist()) == sorted(row[0] for row in rows)


@pytest.mark.heavy
def test_a_report_joins_with_the_rows_of_the_user(corpus, tmp_path):
    frame = pd.DataFrame(corpus[:40])[["id", "heavy", "light"]]
    frame.loc[3, "light"] = None
    frame.loc[7, "heavy"] = frame.loc[6, "heavy"]
    frame.loc[7, "light"] = frame.loc[6, "light"]
    for suffix in (".csv", ".tsv", ".parquet"):
        out, path = tmp_path / f"out{suffix}", tmp_path / f"report{suffix}"
        prepare(frame, out, PreparationPlan(cluster="exact"), report=path)
        separator = "\t" if suffix == ".tsv" else ","
        report = pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path, sep=separator)
        joined = frame.merge(report, on="id", validate="one_to_one")
        assert len(joined) == 40 and joined["record"].tolist() == list(range(1, 41))
        assert joined["outcome"].tolist() == [
            {3: "dropped", 7: "duplicate"}.get(place, "kept") for place in range(40)
        ]
        assert joined["note"][3] == "missing_chain"
    with pytest.raises(ValueError, match=r"report must end in \.csv, \.tsv or \.parquet; got "):
        prepare(frame, tmp_path / "other", report=tmp_path / "report.xlsx")
