"""What is masked and how often, and what a causal model is asked."""

import numpy as np
import pyarrow as pa
import pytest
from support.tiny_models import PAIRS

from curr_ab.data import encode_pairs
from curr_ab.data.tokens import CLS, EOS
from curr_ab.pretraining.batches import cdr3_rates
from curr_ab.randomness import random_stream
from curr_ab.training.tasks import (
    FIRST_RESIDUE,
    MASK,
    NUM_REPLACEMENTS,
    is_residue,
    mask_residues,
    predict_next,
)
from curr_ab.words import CDR3_CODE


@pytest.fixture(scope="module")
def flat():
    """Tokens of pairs, and a chain alone, end to end, and where each ends."""
    heavy = [heavy for heavy, _ in PAIRS] + [PAIRS[0][0]]
    light = [light for _, light in PAIRS] + [None]
    tokens, offsets = encode_pairs(pa.array(heavy), pa.array(light))
    return tokens, offsets[1:]


def test_the_published_masking(flat):
    """15 %, of which 80 % <mask>, 10 % a random amino acid, 10 % as it was; each residue on its own."""
    tokens = np.tile(flat[0], 1_000)
    task = mask_residues(tokens, random_stream(0, "test"), 0.15, 0.8, 0.1)
    residues = is_residue(tokens)
    assert task.predicted[residues].mean() == pytest.approx(0.15, abs=0.002)
    seen = task.inputs[task.predicted]
    assert (seen == MASK).mean() == pytest.approx(0.8, abs=0.004)
    replaced = seen[(seen != MASK) & (seen != tokens[task.predicted])]
    # One in 20 replacements is the residue that was there.
    assert len(replaced) / len(seen) == pytest.approx(0.1 * 19 / 20, abs=0.003)
    assert set(replaced) == set(range(FIRST_RESIDUE, FIRST_RESIDUE + NUM_REPLACEMENTS))
    assert np.array_equal(task.targets, tokens)


def test_nothing_but_residues_is_touched(flat):
    tokens, _ = flat
    task = mask_residues(tokens, random_stream(0, "test"), 1.0, 0.8, 0.1)
    assert np.array_equal(task.predicted, ~np.isin(tokens, [CLS, EOS]))
    untouched = ~task.predicted
    assert np.array_equal(task.inputs[untouched], tokens[untouched])


def test_cdr3_is_preferred_and_each_record_keeps_its_mean(flat):
    tokens, ends = flat
    regions = np.zeros(len(tokens), np.uint8)
    starts = np.concatenate([[0], ends[:-1]])
    for start in starts[:-1]:
        regions[start + 90 : start + 110] = CDR3_CODE
    rates = cdr3_rates(tokens, regions, ends, 0.15, 0.25)
    for start, end in zip(starts, ends, strict=True):
        residues = is_residue(tokens[start:end])
        assert rates[start:end][residues].mean() == pytest.approx(0.15, abs=1e-6)
    assert set(rates[regions == CDR3_CODE]) == {np.float32(0.25)}
    assert set(rates[starts[-1] :]) == {np.float32(0.15)}  # where nothing is known, as ever


def test_a_causal_model_is_asked_for_residues_and_ends_of_chains(flat):
    tokens, ends = flat
    task = predict_next(tokens, ends)
    assert task.inputs is tokens
    starts = np.concatenate([[0], ends[:-1]])
    for start, end, (heavy, light) in zip(starts, ends, [*PAIRS, (PAIRS[0][0], "")], strict=True):
        at = np.flatnonzero(task.predicted[start:end]) + start
        answers = task.targets[at]
        assert np.array_equal(answers, tokens[at + 1])
        assert at.max() == end - 2 and answers[-1] == EOS
        # Both chains, the end of each, and not the second half of the separator.
        assert len(answers) == len(heavy) + len(light) + (2 if light else 1)
