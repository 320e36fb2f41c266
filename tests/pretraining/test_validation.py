"""Held-out losses: fixed masks, the right place for every residue, honest errors, and the baselines."""

import numpy as np
import pytest
import torch
from support.tiny_models import shake, tiny_config
from torch.nn import functional as F

from curr_ab import CurrAbForMaskedLM
from curr_ab.data import TokenDataset
from curr_ab.measures.held_out import HeldOut, baseline_losses, evaluate
from curr_ab.training.tasks import FIRST_RESIDUE, LAST_RESIDUE, is_residue
from curr_ab.words import VOCABULARY


@pytest.fixture(scope="module")
def held_out(corpus):
    return HeldOut(TokenDataset(corpus, "train"), num_pairs=70, draws=2, seed=0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return shake(CurrAbForMaskedLM(tiny_config())).train()


def losses(model, held_out, pairs_per_batch=8, **options):
    return evaluate(model, held_out, device=torch.device("cpu"), pairs_per_batch=pairs_per_batch, **options)


@pytest.mark.heavy
def test_losses_do_not_depend_on_batches(model, held_out):
    wide, narrow = losses(model, held_out, 32), losses(model, held_out, 3)
    assert wide.keys() == narrow.keys()
    for name in wide:
        assert wide[name].loss == pytest.approx(narrow[name].loss, abs=2e-5)
        assert wide[name].num_targets == narrow[name].num_targets
    assert model.training  # as it was


@pytest.mark.heavy
def test_losses_are_those_of_a_plain_loop_over_pairs(model, held_out):
    model.eval()
    found = {"all": [], "heavy CDR3": [], "light FWR2": [], "CDRH3 D": []}
    per_pair = np.zeros((70, 2))
    for draw, first in held_out.block_numbers:
        block = held_out.block(draw, first)
        starts = [0, *block.ends[:-1]]
        for offset, (start, end) in enumerate(zip(starts, block.ends, strict=True)):
            pair = first + offset
            inputs = torch.from_numpy(block.task.inputs[start:end].astype(np.int64))[None]
            tokens = held_out.dataset[pair]
            with torch.no_grad():
                logits = model(input_ids=inputs).logits[0]
            each = F.cross_entropy(
                logits, torch.from_numpy(tokens.astype(np.int64)), reduction="none"
            ).numpy()
            predicted = block.task.predicted[start:end]
            region, segment = (held_out.dataset.mask(pair, f"{n}_mask") for n in ("region", "segment"))
            heavy = np.arange(len(tokens)) < 1 + held_out.dataset.heavy_length(pair)
            found["all"] += each[predicted].tolist()
            found["heavy CDR3"] += each[predicted & heavy & (region == 6)].tolist()
            found["light FWR2"] += each[predicted & ~heavy & (region == 3)].tolist()
            found["CDRH3 D"] += each[predicted & heavy & (region == 6) & (segment == 2)].tolist()
            per_pair[pair] += each[predicted].sum(), predicted.sum()
    estimates = losses(model, held_out)
    for name, values in found.items():
        assert estimates[name].loss == pytest.approx(np.mean(values), abs=1e-5)
        assert estimates[name].num_targets == len(values)
    # The error of a ratio of sums, by leaving out one pair at a time.
    sums, counts = per_pair.T
    leave_one_out = (sums.sum() - sums) / (counts.sum() - counts)
    jackknife = np.sqrt(69 / 70 * ((leave_one_out - leave_one_out.mean()) ** 2).sum())
    assert estimates["all"].standard_error == pytest.approx(jackknife, rel=0.02)
    assert estimates["all"].num_pairs == 70


def test_masks_are_fixed_by_the_seed_and_differ_between_draws(held_out, corpus):
    again = HeldOut(TokenDataset(corpus, "train"), num_pairs=70, draws=2, seed=0)
    other = HeldOut(TokenDataset(corpus, "train"), num_pairs=70, draws=2, seed=1)
    inputs = held_out.block(0, 0).task.inputs
    assert np.array_equal(inputs, again.block(0, 0).task.inputs)
    assert not np.array_equal(inputs, other.block(0, 0).task.inputs)
    assert not np.array_equal(inputs, held_out.block(1, 0).task.inputs)


@pytest.mark.heavy
def test_processes_share_the_work(model, held_out):
    """What two processes find adds up to what one finds, also when the rows do not divide."""
    parts = []

    def keep(tensor):
        parts.append(tensor.clone())
        return tensor

    for rank in range(2):
        losses(model, held_out, 30, rank=rank, num_processes=2, total=keep)
    assert len(held_out.rows(30)) % 2 == 0 and len(held_out.rows(64)) % 2 == 0
    merged = losses(model, held_out, 30, total=lambda tensor: parts[0] + parts[1])
    assert merged == losses(model, held_out, 30)


def test_baselines_are_the_frequencies_of_residues(corpus):
    training = TokenDataset(corpus, "train")
    held_out = HeldOut(training, num_pairs=64, draws=1, seed=0)
    found = baseline_losses(training, held_out)
    counts = np.zeros(len(VOCABULARY))
    counts[FIRST_RESIDUE : LAST_RESIDUE + 1] = 1
    for pair in range(len(training)):
        np.add.at(counts, training[pair][is_residue(training[pair])], 1)
    block = held_out.block(0, 0)
    targets = block.task.targets[block.task.predicted]
    assert is_residue(targets).all()
    assert found["unigram"] == pytest.approx(-np.log((counts / counts.sum())[targets]).mean(), abs=1e-9)
    assert found["position-wise"] < found["unigram"] - 0.5  # antibodies are alike, place by place


def test_too_few_pairs_to_evaluate(corpus):
    with pytest.raises(ValueError, match="at least 2 held-out pairs must be measured; got 1 "):
        HeldOut(TokenDataset(corpus, "train"), num_pairs=1, draws=1, seed=0)
