"""The suite `loss`: known answers, the numbers of pretraining, and what the scaling fit reads."""

import json
import math

import numpy as np
import pytest
import torch
from support.tiny_models import TINY
from torch.nn import functional as F

from curr_ab.data import TokenDataset
from curr_ab.evaluation import run_suite
from curr_ab.measures.held_out import HeldOut
from curr_ab.pretraining import pretrain, resolve_plan
from curr_ab.results import checkpoint_digest, read_results


def by_place(results):
    return {row.details["place"]: row for row in results}


@pytest.mark.heavy
def test_a_uniform_model_loses_the_logarithm_of_the_vocabulary(uniform_folder, corpus, tmp_path):
    for place, row in by_place(run_suite("loss", uniform_folder, corpus, tmp_path)).items():
        assert row.value == pytest.approx(math.log(33), abs=1e-5), place
        assert row.standard_error == pytest.approx(0, abs=1e-6)


@pytest.mark.heavy
def test_the_loss_is_that_of_stock_esm_on_the_masked_pairs(stock_folder, corpus, tmp_path):
    """One pair after the other through stock transformers, under the masks of the seed."""
    from transformers import EsmForMaskedLM

    stock = EsmForMaskedLM.from_pretrained(stock_folder).eval()
    dataset = TokenDataset(corpus, "test")
    held_out = HeldOut(dataset, num_pairs=40, draws=1, seed=3)
    found = {"all": [], "heavy CDR3": []}
    block = held_out.block(0, 0)
    starts = [0, *block.ends[:-1]]
    for pair, (start, end) in enumerate(zip(starts, block.ends, strict=True)):
        inputs = torch.from_numpy(block.task.inputs[start:end].astype(np.int64))[None]
        with torch.no_grad():
            logits = stock(input_ids=inputs).logits[0]
        truth = torch.from_numpy(dataset[pair].astype(np.int64))
        each = F.cross_entropy(logits, truth, reduction="none").numpy()
        predicted = block.task.predicted[start:end]
        heavy = np.arange(len(truth)) < 1 + dataset.heavy_length(pair)
        found["all"] += each[predicted].tolist()
        found["heavy CDR3"] += each[predicted & heavy & (dataset.mask(pair, "region_mask") == 6)].tolist()
    rows = by_place(run_suite("loss", stock_folder, corpus, tmp_path, pairs=40, draws=1, seed=3))
    for place, values in found.items():
        assert rows[place].value == pytest.approx(np.mean(values), abs=1e-5)
        assert rows[place].num_items == len(values)
    assert rows["all"].task == "test-loss"
    assert rows["all"].checkpoint == checkpoint_digest(stock_folder)
    assert rows["all"].source == "curr-ab evaluate loss --pairs 40 --draws 1 --seed 3"


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A run of a few steps with its logged losses."""
    out = tmp_path_factory.mktemp("runs") / "8M-Q"
    values = {"data": str(corpus), "subset": "F", "config": TINY, "steps": 3, "warmup_steps": 1}
    values |= {"pairs_per_step": 8, "pairs_per_micro_batch": 4, "precision": "fp32", "evaluation_pairs": 20}
    pretrain(resolve_plan(values), out)
    return out


def test_the_loss_is_what_pretraining_logged_under_the_same_masks(run, corpus, tmp_path):
    logged = by_place(read_results(run / "results.json"))
    found = by_place(
        run_suite("loss", run / "checkpoints" / "step3", corpus, tmp_path, split="validation", pairs=20)
    )
    assert logged.keys() == found.keys()
    for place, row in logged.items():
        assert found[place].value == pytest.approx(row.value, abs=1e-6)
        assert found[place].standard_error == pytest.approx(row.standard_error, abs=1e-6)
        for field in ("model", "task", "dataset", "checkpoint", "num_items", "step"):
            assert getattr(found[place], field) == getattr(row, field), field
    assert found["all"].model == "8M-Q"


def test_the_overall_row_tells_the_scaling_fit_what_was_trained(run, corpus, tmp_path):
    rows = by_place(run_suite("loss", run / "checkpoints" / "step3", corpus, tmp_path))
    record = json.loads((run / "checkpoints" / "step3" / "training.json").read_text())
    details = rows["all"].details
    assert details["sequences"] == record["data"]["num_pairs"] == len(TokenDataset(corpus, "train", "F"))
    assert details["seen_tokens"] == record["seen"]["residue_tokens"]
    assert details["parameters"] > 100_000
    assert "parameters" not in rows["heavy CDR3"].details


@pytest.mark.heavy
def test_bfloat16_is_close(folder, corpus, tmp_path):
    exact, rough = (
        by_place(run_suite("loss", folder, corpus, tmp_path, pairs=10, dtype=dtype))["all"].value
        for dtype in ("float32", "bfloat16")
    )
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.02)


def test_data_that_is_no_prepared_folder(folder, tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("heavy,light\nEVQL,DIQM\n")
    with pytest.raises(ValueError, match=r"is a file; .* `curr-ab data prepare .*pairs.csv"):
        run_suite("loss", folder, table, tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        run_suite("loss", folder, tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match="holds no prepared data"):
        run_suite("loss", folder, tmp_path, tmp_path)


def test_a_checkpoint_with_another_separator_is_refused(folder, corpus, tmp_path):
    with pytest.raises(ValueError, match="separator <cls>, but prepared tokens have <cls><cls>"):
        run_suite("loss", folder, corpus, tmp_path, separator="<cls>")
