"""It learns: a seeded run repeats its golden losses, and models beat what residue frequencies can do."""

import json
from pathlib import Path

import pytest
from golden.training import LOSSES, seeded_losses
from support.training_processes import finish, start, train

from curr_ab.data import PreparationPlan, prepare
from curr_ab.pretraining.plan import resolve_plan
from curr_ab.training.state import read_log

TINY = Path(__file__).parents[2] / "train_scripts" / "plans" / "tiny.yaml"


def test_a_seeded_run_repeats_its_golden_losses(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    found, golden = seeded_losses(tmp_path), json.loads(LOSSES.read_text())
    # Other machines sum in another order; a wrong mask or rate shows at once.
    assert found["losses"] == pytest.approx(golden["losses"], abs=2e-3)
    assert found["held_out"] == pytest.approx(golden["held_out"], abs=2e-3)
    assert found["baselines"] == pytest.approx(golden["baselines"], abs=1e-4)


def learnt(changes, folder):
    """Held-out losses by step, and the baselines, of the tiny plan on the built-in corpus."""
    prepare("builtin", folder / "corpus", PreparationPlan(cluster="source"))
    plan = resolve_plan({"data": str(folder / "corpus"), **changes}, [TINY])
    assert finish(start(train, plan.to_dict(), folder / "run")) == [0]
    log = read_log(folder / "run")
    return {e["step"]: e["held_out_loss"] for e in log if "held_out_loss" in e}, log[0]["baselines"]


def test_the_tiny_plan_soon_knows_more_than_residue_frequencies(tmp_path):
    losses, baselines = learnt({"steps": 120}, tmp_path)
    assert losses[120] < baselines["unigram"] - 0.15


@pytest.mark.slow
def test_the_tiny_plan_knows_more_than_the_frequencies_at_every_position(tmp_path):
    losses, baselines = learnt({}, tmp_path)
    assert losses[800] < baselines["position-wise"] - 0.3 < baselines["unigram"] - 1
    assert losses[800] < losses[400] < losses[200]


@pytest.mark.slow
def test_a_causal_model_learns_too(tmp_path):
    losses, baselines = learnt({"objective": "clm", "steps": 300}, tmp_path)
    assert losses[300] < baselines["unigram"] - 0.5
