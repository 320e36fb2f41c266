"""Bulk tasks as functions of a batch: the table of the command, whatever holds the rows, in any process."""

import pickle
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.objects import OBJECTS
from support.tiny_models import PAIRS

from curr_ab.checkpoints import Checkpoint
from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.inference import (
    BatchDesigner,
    BatchEmbedder,
    BatchGenerator,
    BatchMutator,
    BatchRestorer,
    BatchScorer,
    DesignPlan,
    EmbeddingPlan,
    GenerationPlan,
    RestorationPlan,
    batch_functions,
    run_bulk,
)
from curr_ab.inference.tasks import EmbedTask

SEVERAL = {"plan": EmbeddingPlan(poolings=("mean", "none"), parts=("pair", "CDRH3"))}
DRAWN = {"plan": RestorationPlan(method="sample", variants=2, seed=1)}
MADE = {"plan": GenerationPlan(any_sequence=True, at_once=40, n=2)}
FEW = {"plan": DesignPlan(search="stochastic", mode="unmasked", mutations="1-2", candidates=4, beam=2, n=2)}
# The settings under which each function is compared with its command.
FUNCTIONS = {
    "embed": (BatchEmbedder, {}),
    "embed several": (BatchEmbedder, SEVERAL),
    "score": (BatchScorer, {"mode": "unmasked", "alone": True, "regions": ("CDRH3",)}),
    "score residues": (BatchScorer, {"mode": "group", "per_residue": True, "number": True}),
    "mutate": (BatchMutator, {"mode": "unmasked", "part": "CDRH3", "number": True}),
    "mutants": (BatchMutator, {"mode": "unmasked", "mutants": ("L:D1E",)}),
    "design": (BatchDesigner, FEW),
    "restore": (BatchRestorer, DRAWN),
    "generate": (BatchGenerator, MADE),
}


@pytest.fixture(scope="module")
def checkpoint(folder):
    return Checkpoint(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def rows():
    """Pairs of many lengths, with gaps to restore and a column of the user's own."""
    chains = [(heavy[: len(heavy) - number % 5], light) for number, (heavy, light) in enumerate(PAIRS * 3)]
    chains = [
        (heavy[:40] + "X" + heavy[41:], "DIQ" + light[3:]) for heavy, light in chains if light[0] == "D"
    ]
    heavy, light = map(list, zip(*chains, strict=True))
    ids = [f"n{number}" for number in range(len(heavy))]
    return pa.table({"id": ids, "heavy": heavy, "light": light, "kd": [0.5 * len(h) for h in heavy]})


def cut(table, size):
    return table.to_batches(size)


def batched(function, table, size):
    return pa.concat_tables([function(batch) for batch in cut(table, size)])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.heavy
def test_equal_batches_give_the_commands_table(name, checkpoint, rows, tmp_path):
    """To the bit for batches that are cut as parts are; else to 1e-5, as for any other cut."""
    kind, settings = FUNCTIONS[name]
    function = kind(checkpoint, **settings, keep_columns=["kd"])
    run_bulk(
        function.task,
        checkpoint,
        rows,
        f"{tmp_path}/parts/",
        records_per_part=8,
        progress=False,
    )
    expected = pa.concat_tables(map(pq.read_table, sorted((tmp_path / "parts").glob("part-*"))))
    travelled = pickle.loads(pickle.dumps(function))
    found = batched(travelled, rows, 8)
    kept = found["kd"].to_pylist()
    found = found.drop(["kd"])
    assert found.cast(expected.schema).equals(expected)
    of_id = dict(zip(rows["id"].to_pylist(), rows["kd"].to_pylist(), strict=True))
    assert [float(one) for one in kept] == [of_id[one] for one in found["id"].to_pylist()]
    other = batched(function, rows, 5).drop(["kd"])
    assert other.schema == found.schema and len(other) == len(found)
    for column in found.column_names:
        ours, theirs = other[column].combine_chunks(), found[column].combine_chunks()
        while pa.types.is_nested(ours.type):
            ours, theirs = ours.flatten(), theirs.flatten()
        if pa.types.is_floating(ours.type):
            np.testing.assert_allclose(ours.to_numpy(False), theirs.to_numpy(False), rtol=1e-5, atol=1e-4)
        elif column != "filled":
            assert ours.equals(theirs)


@pytest.mark.parametrize("name", sorted(OBJECTS))
@pytest.mark.heavy
def test_every_kind_of_table(name, checkpoint):
    given = [(f"p{number}", *pair) for number, pair in enumerate(PAIRS[:5])]
    function = BatchEmbedder(checkpoint)
    expected = function(pa.table(dict(zip(("id", "heavy", "light"), zip(*given, strict=True), strict=True))))
    assert function(OBJECTS[name](given)).equals(expected)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.heavy
def test_no_rows_have_the_columns_of_all(name, checkpoint, rows):
    """Engines have empty partitions, and ask for the columns before there are rows."""
    kind, settings = FUNCTIONS[name]
    function = kind(checkpoint, **settings, keep_columns=["kd"])
    whole = function(rows.slice(0, 3))
    for empty in (rows.slice(0, 0), rows.slice(0, 0).to_pandas()):
        found = function(empty)
        assert len(found) == 0 and found.schema.equals(whole.schema)


def test_the_model_does_not_travel(checkpoint, monkeypatch):
    monkeypatch.setattr(Checkpoint, "load", lambda *args: pytest.fail("loaded"))
    assert len(pickle.dumps(BatchEmbedder(checkpoint))) < 1000


@pytest.mark.heavy
def test_a_process_loads_the_model_once(checkpoint, rows, monkeypatch):
    """Engines make the function anew for each task; threads wait for the one that loads and computes."""
    batch_functions._load.cache_clear()
    load, loaded = Checkpoint.load, []
    monkeypatch.setattr(Checkpoint, "load", lambda self, rank: loaded.append(rank) or load(self, rank))
    text, few, found = pickle.dumps(BatchEmbedder(checkpoint)), rows.slice(0, 4), []
    threads = [threading.Thread(target=lambda: found.append(pickle.loads(text)(few))) for _ in range(4)]
    num_threads = torch.get_num_threads()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert loaded == [0] and len(found) == 4 and all(one.equals(found[0]) for one in found)
    assert torch.get_num_threads() == num_threads
    BatchScorer(checkpoint, mode="unmasked")(few, 1)  # another rank may have another GPU
    assert loaded == [0, 1]
    batch_functions._load.cache_clear()


@pytest.mark.heavy
def test_another_process(checkpoint, rows, tmp_path):
    """Without anything that this process has imported."""
    (tmp_path / "function.pickle").write_bytes(pickle.dumps(BatchEmbedder(checkpoint)))
    pq.write_table(rows, tmp_path / "rows.parquet")
    program = (
        "import pickle, pyarrow.parquet as pq\n"
        "function = pickle.load(open('function.pickle', 'rb'))\n"
        "pq.write_table(function(pq.read_table('rows.parquet')), 'found.parquet')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert pq.read_table(tmp_path / "found.parquet").equals(BatchEmbedder(checkpoint)(rows))


def _without(rows, *names):
    return rows.drop(list(names))


def _cells(rows):
    ids = [f"c{number // 2}" for number in range(4)]
    heavy, light = PAIRS[0]
    return pd.DataFrame(
        {
            "sequence_id": list("abcd"),
            "cell_id": ids,
            "locus": ["IGH", "IGK"] * 2,
            "sequence_aa": [heavy, light] * 2,
        }
    )


BAD = {
    "no ids": (lambda rows: _without(rows, "id"), "must have ids"),
    "no light": (lambda rows: _without(rows, "light"), "no column is known as the light chain"),
    "chain missing": (
        lambda rows: pa.table({"id": ["a", "b"], "heavy": [PAIRS[0][0], None], "light": [PAIRS[0][1]] * 2}),
        r"record 2 \('b'\) has no heavy chain",
    ),
    "residue": (
        lambda rows: pa.table({"id": ["a"], "heavy": ["EVQL1"], "light": ["DIQMT"]}),
        r"record 1 \('a'\), heavy chain, position 5",
    ),
    "twice": (
        lambda rows: pa.concat_tables([rows.slice(0, 2), rows.slice(0, 1)]),
        r"record 3 \('n0'\) has the id of record 1",
    ),
    "cells": (_cells, "must hold both chains"),
    "kept": (lambda rows: _without(rows, "kd"), "no column 'kd' to keep"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.heavy
def test_rows_that_cannot_be_used(name, checkpoint, rows):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        BatchEmbedder(checkpoint, keep_columns=["kd"] if name == "kept" else [])(make(rows))


@pytest.mark.heavy
def test_keep_going_leaves_bad_rows_out(checkpoint, rows):
    bad = rows.slice(0, 3).set_column(1, "heavy", [[PAIRS[0][0], "EVQL1", PAIRS[1][0]]])
    function = BatchEmbedder(checkpoint, keep_going=True)
    with pytest.warns(UserWarning, match=r"1 rows are left out: record 2 \('n1'\), heavy chain"):
        found = function(bad)
    assert found["id"].to_pylist() == ["n0", "n2"]
    with pytest.warns(UserWarning, match="1 rows are left out"):
        none = function(bad.slice(1, 1))
    assert len(none) == 0 and none.schema == found.schema


@pytest.mark.heavy
def test_columns_and_single_chains(checkpoint, rows):
    renamed = rows.rename_columns(["name", "A", "B", "kd"])
    names = ColumnNames(id="name", heavy="A", light="B")
    assert BatchEmbedder(checkpoint, names=names)(renamed).equals(BatchEmbedder(checkpoint)(rows))
    single = BatchEmbedder(checkpoint, unpaired=True)(rows.select(["id", "heavy"]))
    assert single["id"].to_pylist() == rows["id"].to_pylist()


def test_a_wrong_setting_is_refused_where_it_is_made(checkpoint):
    with pytest.raises(TypeError, match="modes"):
        BatchScorer(checkpoint, modes="unmasked")
    with pytest.raises(ValueError, match="mode must be one of"):
        BatchScorer(checkpoint, mode="fast")


def test_a_name_is_enough(folder):
    function = BatchEmbedder(folder)
    assert function.checkpoint == Checkpoint(str(folder)) and function.task == EmbedTask()
