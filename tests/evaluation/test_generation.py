"""The suite `generation`: two rows of real pairs in every table, one judge that is not the generator."""

import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.tiny_models import shake, tiny_config

from curr_ab import CurrAbForCausalLM
from curr_ab.data import builtin_path
from curr_ab.evaluation import run_suite, write_tables
from curr_ab.evaluation.suites.generation import HELD_OUT, SHUFFLED

REAL = {HELD_OUT, SHUFFLED}
pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Held-out pairs and training pairs, small."""
    folder = tmp_path_factory.mktemp("pairs")
    pairs = pq.read_table(builtin_path())
    split = pairs["split"]
    for name, count in (("test", 80), ("train", 200)):
        some = pairs.filter(pa.compute.equal(split, name)).slice(0, count)
        pq.write_table(some, folder / f"{name}.parquet")
    return folder


def measures(out):
    [path] = out.glob("generation/*/measures.csv")
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def judge(model, tables, out, **how):
    settings = {"train": str(tables / "train.parquet"), "pairs": 20, "temperatures": (1.0,), "device": "cpu"}
    return run_suite("generation", model, [str(tables / "test.parquet")], out, **{**settings, **how})


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    from support.tiny_models import save_checkpoint

    torch.manual_seed(0)
    model = shake(CurrAbForCausalLM(tiny_config(is_decoder=True, num_attention_heads=4)))
    return save_checkpoint(model, tmp_path_factory.mktemp("causal"))


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_model_is_judged_beside_two_samples_of_real_pairs(kind, causal, shallow_folder, tables, tmp_path):
    model = causal if kind == "causal" else shallow_folder
    quickly = {} if kind == "causal" else {"at_once": 40}
    results = judge(model, tables, tmp_path, **quickly)
    rows = measures(tmp_path)
    samples = {row["sample"] for row in rows}
    assert samples == {"given heavy, temperature 1", "given nothing, temperature 1"} | REAL
    assert {row["group"] for row in rows} >= {"validity", "likeness", "diversity", "novelty", "conditioning"}
    by = {(row["sample"], row["measure"]): row for row in rows}
    assert float(by["given nothing, temperature 1", "heavy: numbered as this chain"]["value"]) < 0.1
    assert float(by[HELD_OUT, "heavy: numbered as this chain"]["value"]) == 1
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in rows)
    assert ("given heavy, temperature 1", "bits over a random partner") in by
    assert {result.task for result in results} == {"generation"}
    text = write_tables(tmp_path, "generation")
    blocks = [block for block in text.split("\n\n") if "|---|" in block]
    assert len(blocks) >= 9 and all(f"| {name} |" in block for block in blocks for name in REAL)
    [figures] = tmp_path.glob("generation/*/figures")
    assert {path.stem for path in figures.glob("*.png")} >= {
        "v_families",
        "cdr3_lengths",
        "diversity_validity",
    }
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("measures.csv")}
    judge(model, tables, tmp_path, **quickly)  # measured already
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("measures.csv")} == before


def test_pairs_of_another_generator_are_judged(tables, tmp_path):
    """Copies of the training pairs: valid, and not new."""
    pairs = pq.read_table(tables / "train.parquet", columns=["id", "heavy", "light"]).slice(0, 30)
    pq.write_table(pairs, tmp_path / "made.parquet")
    judge(tmp_path / "made.parquet", tables, tmp_path / "out")
    by = {(row["sample"], row["measure"]): float(row["value"]) for row in measures(tmp_path / "out")}
    assert by["made.parquet", "heavy: in training"] == 1
    assert by["made.parquet", "light: numbered as this chain"] == 1
    assert by[HELD_OUT, "heavy: in training"] < 0.5


def test_another_model_judges_and_never_the_generator(causal, folder, tables, tmp_path):
    with pytest.raises(ValueError, match="judge must be another model than the generator"):
        judge(causal, tables, tmp_path, judge=str(causal))
    judge(causal, tables, tmp_path, judge=str(folder), given=("nothing",))
    losses = {row["sample"] for row in measures(tmp_path) if row["group"] == "judge"}
    assert losses == {"given nothing, temperature 1"} | REAL


def test_what_is_missing_is_said(causal, tables, tmp_path):
    with pytest.raises(ValueError, match="train must name the training pairs"):
        judge(causal, tables, tmp_path, train=None)
    with pytest.raises(ValueError, match="temperatures must be numbers above 0"):
        judge(causal, tables, tmp_path, temperatures=(0.0,))
