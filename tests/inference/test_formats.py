"""Joining parts: number types, row groups, the index, and memory that does not grow with the parts."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from curr_ab.checkpoints import Checkpoint
from curr_ab.inference import BatchEmbedder, EmbeddingPlan, formats, run_bulk
from curr_ab.inference.design_tables import DesignTask
from curr_ab.inference.formats import INDEX, assemble, write_index
from curr_ab.inference.generation_tables import GenerateTask, summary
from curr_ab.inference.number_tables import NumberTask
from curr_ab.inference.records import reader
from curr_ab.inference.settings import DesignPlan, GenerationPlan
from curr_ab.inference.tasks import SHAPE, EmbedTask, MutateTask, PairTask, RestoreTask, ScoreTask
from curr_ab.options import OptionError


@pytest.fixture(scope="module")
def bulk(folder, simulated):
    """A bulk task over the pairs, in parts of 25."""
    checkpoint = Checkpoint(str(folder), device="cpu", dtype="float32")
    pairs = [one._asdict() for one in simulated]

    def run(task, out, **options):
        run_bulk(task, checkpoint, pairs, out, progress=False, **{"records_per_part": 25, **options})
        return out

    return run


def part(path, ids, width=4, seed=0):
    """Pooled embeddings as a part has them."""
    numbers = np.random.default_rng(seed).random(len(ids) * width, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(numbers), width)
    field = pa.field("pair_mean", column.type, metadata={SHAPE: json.dumps([width])})
    pq.write_table(pa.table([pa.array(ids), column], schema=pa.schema([("id", pa.string()), field])), path)
    return path


@pytest.mark.heavy
def test_float16_is_float32_rounded_once(bulk, simulated, tmp_path):
    plan = EmbeddingPlan(poolings=("mean",), parts=("pair", "heavy"))
    half, full = EmbedTask(plan=plan, precision="float16"), EmbedTask(plan=plan)
    name = "heavy_mean_layer-1"
    table = pq.read_table(bulk(full, tmp_path / "full.parquet"))
    expected = np.array(table[name].to_pylist(), np.float32).astype(np.float16)
    found = pq.read_table(bulk(half, tmp_path / "half.parquet"))
    assert found.schema.field(name).type == pa.list_(pa.float16(), 80)
    assert np.array_equal(np.stack(found[name].to_numpy(zero_copy_only=False)), expected)
    tensors = load_file(bulk(half, tmp_path / "half.safetensors"))
    assert tensors[name].dtype == np.float16 and np.array_equal(tensors[name], expected)
    assert tensors["pair_mean_layer-1"].shape == (60, 80)
    alone = EmbedTask(plan=EmbeddingPlan(parts=("heavy",)), precision="float16")
    matrix = np.load(bulk(alone, tmp_path / "half.npy"))
    assert matrix.dtype == np.float16 and np.array_equal(matrix, expected)
    assert (tmp_path / "half.npy").stat().st_size < 60 * 80 * 2 + 200
    with pytest.raises(OptionError, match="no number types; write float16 as") as refused:
        bulk(alone, tmp_path / "half.csv")
    assert refused.value.fields == ("precision",)


@pytest.mark.heavy
def test_float16_of_residues(bulk, simulated, tmp_path):
    plan = EmbeddingPlan(poolings=("none",))
    key = simulated[7].id
    full = load_file(bulk(EmbedTask(plan=plan), tmp_path / "full.safetensors"))[key]
    half = load_file(bulk(EmbedTask(plan=plan, precision="float16"), tmp_path / "half.safetensors"))[key]
    assert half.dtype == np.float16 and np.array_equal(half, full.astype(np.float16))


@pytest.mark.heavy
def test_what_float16_cannot_hold_is_an_error(folder, simulated, monkeypatch):
    compute = formats.np.float32(70_000)
    monkeypatch.setattr(
        "curr_ab.inference.tasks.embed_window",
        lambda encoder, tokenizer, records, *more: [
            {"pair_mean": np.full(4, compute if one.id == "b" else 1.0, np.float32)} for one in records
        ],
    )
    pairs = {
        "id": ["a", "b"],
        "heavy": [one.heavy for one in simulated[:2]],
        "light": [one.light for one in simulated[:2]],
    }
    with pytest.raises(OptionError, match=r"record 2 \('b'\): pair_mean holds 70,000, and float16 ends at"):
        BatchEmbedder(Checkpoint(str(folder), device="cpu"), precision="float16")(pairs)


def test_row_groups_do_not_follow_the_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "ROW_GROUP", 10_000)
    parts = [part(tmp_path / f"{number}.parquet", [f"n{number}"] * 20, seed=number) for number in range(60)]
    parts.append(part(tmp_path / "large.parquet", ["m"] * 2_000))
    assemble(parts, tmp_path / "out.parquet")
    joined = pq.ParquetFile(tmp_path / "out.parquet")
    sizes = [joined.metadata.row_group(number).num_rows for number in range(joined.num_row_groups)]
    assert sizes == [420, 420, 360, 2_000]  # 23 bytes a row
    assert joined.read().equals(pa.concat_tables(map(pq.read_table, parts)))


@pytest.mark.heavy
def test_a_folder_has_an_index(bulk, simulated, tmp_path):
    folder = tmp_path / "scores"
    bulk(ScoreTask(mode="unmasked", per_residue=True), f"{folder}/")
    index = pq.read_table(folder / INDEX)
    assert index["id"].to_pylist() == sorted(one.id for one in simulated)
    whole = pa.concat_tables(map(pq.read_table, sorted(folder.glob("part-*"))))
    for place in index.to_pylist():
        rows = pq.read_table(folder / place["file"]).slice(place["row"], place["rows"])
        assert set(rows["id"].to_pylist()) == {place["id"]}
        one = next(one for one in simulated if one.id == place["id"])
        assert "".join(rows["residue"].to_pylist()) == one.heavy + one.light
    assert pa.compute.sum(index["rows"]).as_py() == len(whole)
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        INDEX,
        *(f"part-{number:06}.parquet" for number in range(3)),
        "plan.json",
    ]


def test_an_index_of_more_ids_than_are_sorted_at_once_is_that_of_all(tmp_path, monkeypatch):
    ids = [f"n{number:05}" for number in np.random.default_rng(0).permutation(4_000)] + ["twice"] * 300
    parts = [part(tmp_path / f"part-{at:06}.parquet", ids[at : at + 100]) for at in range(0, 4_300, 100)]
    write_index(parts, tmp_path)
    whole = pq.read_table(tmp_path / INDEX)
    monkeypatch.setattr(formats, "_SORTED_AT_ONCE", 200)
    monkeypatch.setattr(formats, "_SAMPLED", 20)
    write_index(parts, tmp_path)
    groups = pq.read_metadata(tmp_path / INDEX)
    assert max(groups.row_group(number).num_rows for number in range(groups.num_row_groups)) < 1_000
    found, order = pq.read_table(tmp_path / INDEX), [("id", "ascending"), ("file", "ascending")]
    assert found["id"].equals(whole["id"])
    assert found.sort_by(order).equals(whole.sort_by(order))
    assert not list(tmp_path.glob(".index*"))


def test_an_index_reads_little(tmp_path, monkeypatch):
    """The ids of its row groups do not overlap, whatever the order of the input."""
    monkeypatch.setattr(formats, "_INDEX_ROWS", 2_048)
    ids = [f"n{number:05}" for number in np.random.default_rng(0).permutation(10_000)]
    parts = [part(tmp_path / f"part-{at:06}.parquet", ids[at : at + 500]) for at in range(0, 10_000, 500)]
    write_index(parts, tmp_path)
    metadata = pq.read_metadata(tmp_path / INDEX)
    groups = [metadata.row_group(number).column(0).statistics for number in range(metadata.num_row_groups)]
    assert len(groups) == 5
    assert all(one.max < other.min for one, other in itertools.pairwise(groups))
    place = pq.read_table(tmp_path / INDEX, filters=[("id", "=", "n07777")]).to_pylist()[0]
    assert ids.index("n07777") == int(place["file"][5:11]) + place["row"]


def test_too_many_tensors_for_the_header(tmp_path, monkeypatch):
    """Rather than a file that no reader opens; the parts are still there."""
    monkeypatch.setattr(formats, "_MOST_HEADER", 1_000)
    rows = pa.array([[[1.0, 2.0]]] * 20, pa.large_list(pa.list_(pa.float32(), 2)))
    field = pa.field("residues", rows.type, metadata={SHAPE: "[-1, 2]"})
    ids = pa.array([f"n{number}" for number in range(20)])
    pq.write_table(pa.table([ids, rows], schema=pa.schema([("id", pa.string()), field])), tmp_path / "part")
    with pytest.raises(ValueError, match=r"no more than 1\d of these tensors.* write .parquet, or a folder"):
        assemble([tmp_path / "part"], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    monkeypatch.setattr(formats, "_MOST_HEADER", 100_000)
    assemble([tmp_path / "part"], tmp_path / "out.safetensors")
    assert load_file(tmp_path / "out.safetensors")["n19"].tolist() == [[1.0, 2.0]]


MEASURED = """
import resource, sys
from pathlib import Path
from curr_ab.inference import formats
folder, name, copies = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
parts = sorted(folder.glob("part-*"))
if name == formats.INDEX:  # so that few ids are too many to be sorted at once
    formats._SORTED_AT_ONCE = 40_960
    formats.write_index(parts * copies * 4, folder)
else:
    formats.assemble(parts * copies, folder / name)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.parquet", "out.npy", "out.safetensors", "out.csv", INDEX])
def test_memory_does_not_grow_with_the_parts(name, tmp_path):
    for number in range(20):
        ids = [f"pair-{number}-{place}" for place in range(2_048)]
        part(tmp_path / f"part-{number:06}.parquet", ids, width=8 if name == "out.csv" else 128, seed=number)
    peaks = []
    for copies in (5, 20):  # 205,000 and 820,000 rows: 0.1 and 0.4 GB of numbers
        command = [sys.executable, "-c", MEASURED, str(tmp_path), name, str(copies)]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout) / 1024)
    assert peaks[1] - peaks[0] < 60, peaks


@pytest.mark.parametrize("kind", [EmbedTask, ScoreTask, MutateTask, RestoreTask, NumberTask, PairTask])
def test_the_first_column_holds_the_ids(kind, deep, tokenizer, simulated):
    """The index relies on it."""
    task = kind(lights=tuple(simulated[:2]), mode="unmasked") if kind is PairTask else kind()
    assert task.without_rows(deep, tokenizer).column_names[0] == task.key


MAKERS = {
    "generate": GenerateTask(plan=GenerationPlan(any_sequence=True, at_once=60, n=2)),
    "design": DesignTask(plan=DesignPlan(positions=("H:30-31",), mutations="1", candidates=4, n=2)),
    "restore": RestoreTask(),
}


@pytest.mark.parametrize("command", MAKERS)
def test_fasta_is_read_as_the_same_pairs(command, folder, simulated, tmp_path):
    """Whatever the ids are: parts of them may look like names of chains."""
    ids = ["7", "x_light", "clone|7", "H", "1ABC_1|Chain", "heavy-1", "igh.k", "two words"]
    checkpoint = Checkpoint(str(folder), device="cpu", dtype="float32")
    pairs = [one._replace(id=id)._asdict() for id, one in zip(ids, simulated, strict=False)]
    for suffix in (".parquet", ".fasta"):
        how = {"records_per_part": 5, "progress": False}
        run_bulk(MAKERS[command], checkpoint, pairs, tmp_path / f"made{suffix}", **how)
    rows = pq.read_table(tmp_path / "made.parquet").to_pylist()
    read = list(reader([str(tmp_path / "made.fasta")])())
    assert [(one.heavy, one.light) for one in read] == [(row["heavy"], row["light"]) for row in rows]
    number = {"generate": "sample", "design": "design", "restore": "variant"}[command]
    names = [f"{row['id'].replace(' ', '_')}-{row[number]}" for row in rows]
    assert [one.id for one in read] == names and len(names) == (16 if command != "restore" else 8)


def test_fasta_leaves_out_records_without_a_sample(tmp_path):
    rows = {"id": ["a", "b"], "sample": [1, None], "heavy": ["EVQ", "QVQ"], "light": ["DIQ", None]}
    pq.write_table(pa.table(rows), tmp_path / "part.parquet")
    assemble([tmp_path / "part.parquet"], tmp_path / "out.fasta")
    assert (tmp_path / "out.fasta").read_text() == ">a-1_heavy\nEVQ\n>a-1_light\nDIQ\n"
    assert ".csv and .parquet say what was left out" in summary(str(tmp_path / "out.fasta"), 1)[0]


@pytest.mark.parametrize("task", [ScoreTask(mode="unmasked"), MutateTask(mode="unmasked"), NumberTask()])
def test_fasta_is_for_chains(task, bulk, folder, simulated, tmp_path):
    with pytest.raises(ValueError, match=r"\.fasta holds the chains that generate, design and restore make"):
        bulk(task, tmp_path / "out.fasta")
    read = reader([{"id": ["a"], "heavy": ["EVQ"], "light": ["DIQ"], "kd": ["1"]}], keep=["kd"])
    with pytest.raises(OptionError, match=r"\.fasta holds chains alone; keep columns in"):
        run_bulk(task, None, read, tmp_path / "out.fasta", progress=False)
