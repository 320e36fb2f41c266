"""Causal members: pairs light chain first, and masked models that start from causal weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from curr_ab.data.tokens import CLS, EOS
from curr_ab.modeling import CurrAbConfig
from curr_ab.options import OptionError
from curr_ab.pretraining.batches import TrainingData, light_chains_first
from curr_ab.pretraining.loop import pretrain
from curr_ab.pretraining.model import build_model, clm_tokens_before
from curr_ab.training_record import TRAINING, read_training


def chains(data, index):
    """Heavy and light chain of a pair, as tokens."""
    tokens, heavy = data.paired[index], data.paired.heavy_length(index)
    return tokens[1 : 1 + heavy].tolist(), tokens[heavy + 3 : -1].tolist()


def test_a_turned_pair_has_the_light_chain_first_and_a_single_chain_stays():
    pair, single = [CLS, 4, 5, 6, CLS, CLS, 7, 8, EOS], [CLS, 9, 9, EOS]
    tokens = np.array(pair + pair + single, np.uint8)
    turned = light_chains_first(tokens, np.array([9, 18, 22]), np.array([1, 2]))
    assert turned.tolist() == [*pair, CLS, 7, 8, CLS, CLS, 4, 5, 6, EOS, *single]
    assert tokens.tolist() == pair + pair + single  # what was read stays as it was


def test_light_first_turns_its_share_of_the_pairs_and_changes_nothing_else(make_plan):
    plan = make_plan(objective="clm", pairs_per_step=64)
    data = TrainingData(plan)
    known = {}
    for index in range(len(data.paired)):
        heavy, light = chains(data, index)
        known[(CLS, *heavy, CLS, CLS, *light, EOS)] = index, "heavy"
        known[(CLS, *light, CLS, CLS, *heavy, EOS)] = index, "light"

    def shown(share, rank=0, processes=1):
        half = TrainingData(replace(plan, light_first=share))
        found = []
        for step in range(4):
            batches = half.step(step, rank, processes, 1)
            (row,) = batches.micro_batches
            ids = row.model_inputs["input_ids"][0].tolist()
            ends = [at + 1 for at, token in enumerate(ids) if token == EOS]
            found += [known[tuple(ids[a:b])] for a, b in zip([0, *ends], ends, strict=False)]
        return found

    plain, half, all_turned = shown(0.0), shown(0.5), shown(1.0)
    assert {first for _, first in plain} == {"heavy"} and {first for _, first in all_turned} == {"light"}
    assert [index for index, _ in plain] == [index for index, _ in half] == [index for index, _ in all_turned]
    share = np.mean([first == "light" for _, first in half])
    assert share == pytest.approx(0.5, abs=0.1)
    assert sorted(half) == sorted(shown(0.5, 0, 2) + shown(0.5, 1, 2))  # any number of processes


def test_light_first_is_for_causal_models_and_stands_in_their_configuration(make_plan):
    with pytest.raises(
        OptionError, match=r"light_first must be 0 for mlm.*got 0\.5.*choose the objective clm"
    ):
        make_plan(light_first=0.5)
    model = build_model(make_plan(objective="clm", light_first=0.5), "sdpa")
    assert model.config.light_first == 0.5 and model.config.is_decoder


@pytest.fixture(scope="module")
def causal(make_plan, made_once):
    plan = make_plan(objective="clm", light_first=0.25, steps=3, warmup_steps=0)
    run = made_once("causal-run", lambda folder: pretrain(plan, folder))
    return run / "checkpoints" / "step3"


def _reads_ahead(checkpoint):
    from curr_ab.modeling import CurrAbForMaskedLM

    config = CurrAbConfig.from_pretrained(checkpoint)
    model = CurrAbForMaskedLM.from_pretrained(checkpoint, config=config).eval()
    ids = torch.tensor([[0, 4, 5, 6, 7, 8, 2]])
    other = torch.tensor([[0, 4, 5, 6, 7, 9, 2]])
    with torch.no_grad():
        return not torch.allclose(model(ids).logits[0, :5], model(other).logits[0, :5], atol=1e-6)


@pytest.mark.heavy
def test_a_masked_model_takes_causal_weights_and_records_their_tokens(make_plan, causal, tmp_path):
    seen = read_training(causal / TRAINING).seen["residue_tokens"]
    plan = make_plan(init_from=str(causal), steps=2, warmup_steps=1)
    model = build_model(plan, "sdpa")
    assert not model.config.is_decoder and model.config.light_first == 0
    weights = build_model(replace(plan, objective="clm"), "sdpa").state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())

    masked = pretrain(plan, tmp_path / "masked")
    record = read_training(masked / TRAINING)
    assert record.objective == "mlm" and record.seen["clm_tokens"] == seen
    # Its own schedule and tokens, from zero: nothing of the causal run's optimiser or progress.
    assert record.step == 2 and record.seen["residue_tokens"] < seen
    assert record.quantities()["clm_tokens"] == seen
    assert _reads_ahead(masked) and not _reads_ahead(causal)
    # And carried on to what starts from it.
    assert clm_tokens_before(make_plan(init_from=str(masked))) == seen
    assert clm_tokens_before(make_plan()) == 0
    (masked / TRAINING).unlink()
    assert clm_tokens_before(make_plan(init_from=str(masked))) is None


@pytest.mark.heavy
def test_a_causal_model_may_start_from_masked_weights(make_plan, tmp_path):
    masked = pretrain(make_plan(steps=1, warmup_steps=0), tmp_path / "masked")
    causal = pretrain(
        make_plan(steps=1, warmup_steps=0, objective="clm", init_from=str(masked)), tmp_path / "causal"
    )
    assert CurrAbConfig.from_pretrained(causal).is_decoder and not _reads_ahead(causal)
    assert "clm_tokens" not in read_training(causal / TRAINING).seen
