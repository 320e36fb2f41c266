"""The cheap ways to score: the one-pass correction on a known answer, group masking on a trained member."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from support.one_pass import Corruption, masked_from_shown
from support.pretrained_model import corpus, train

from curr_ab.inference import saturate


def test_the_answer_of_a_perfect_model():
    """Residues drawn from known probabilities, then corrupted as in training.

    Counts of what was true behind what is shown are what a perfect model says; from them the correction must
    find the known probabilities.
    """
    random = np.random.default_rng(0)
    num_residues, num_draws = 20, 4_000_000
    known = random.dirichlet(np.full(num_residues, 0.5))
    truth = random.choice(num_residues, num_draws, p=known)
    lot = random.random(num_draws)
    kept, replaced = lot < 0.1, (lot >= 0.1) & (lot < 0.2)  # the rest is masked, and shows nothing
    shown = np.where(kept, truth, np.where(replaced, random.integers(0, num_residues, num_draws), -1))
    for observed in np.argsort(known)[[-1, -2, 10]]:
        counts = np.bincount(truth[shown == observed], minlength=num_residues) + 1e-9
        said = torch.tensor(np.log(counts / counts.sum()))[None]
        found = masked_from_shown(said, torch.tensor([observed]), Corruption(0.1, 0.1, num_residues))
        frequent = known > 0.02
        assert found.exp()[0].numpy()[frequent] == pytest.approx(known[frequent], rel=0.12)
        assert float(found.exp().sum()) == pytest.approx(1.0, abs=0.05)
        uncorrected = np.exp(said[0, observed].item())
        assert abs(uncorrected - known[observed]) > 3 * abs(float(found.exp()[0, observed]) - known[observed])


def test_certainty_keeps_its_digits():
    """A residue that is nearly certain: 1 - s would be 0 in single precision."""
    rare = torch.tensor([-30.0, -40.0])
    shown = torch.cat([torch.tensor([0.0]), rare])[None]
    found = masked_from_shown(shown, torch.tensor([0]), Corruption(0.1, 0.1, 20))[0]
    chance = 0.1 / 20
    expected = rare + np.log((0.1 + chance) / chance)  # p_i is 1, p_j is s_j (k + q) / q
    assert torch.allclose(found[1:], expected, atol=1e-5)
    assert float(found[0]) == pytest.approx(0, abs=1e-6)


def test_without_replacement_there_is_nothing_to_correct():
    with pytest.raises(ValueError, match="random"):
        masked_from_shown(torch.zeros(1, 3), torch.tensor([0]), Corruption(0.2, 0.0, 20))


@pytest.mark.slow
def test_group_masking_agrees_with_exact():
    """On a trained member; the figures in docs/inference.md are those of tests/measure_one_pass.py."""
    model, tokenizer, loss = train(90, batch=8, lr=1e-2, pairs=corpus("train", 1_000), num_attention_heads=4)
    assert loss < 2.9
    pairs = corpus("test", 3)
    found = {
        mode: torch.cat([one.log_odds.flatten() for one in saturate(model, tokenizer, pairs, mode=mode)])
        for mode in ("exact", "group")
    }
    assert spearmanr(found["group"], found["exact"]).statistic > 0.9
