"""A published row for this family's predecessor is a mistake of measurement: the mistake, and what it costs.

AbBiBench (commit 67306b3) scores CurrAb and ESM-2 alike: heavy chain, light chain and antigen end to end,
without a separator and without masks, and of each residue the probability that stands one token before it.
"""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from support.tiny_models import PAIRS

from curr_ab.benchmark.peers import find_peer

NUM_VARIANTS = 60
HEAVY, LIGHT = PAIRS[0]
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture(scope="module")
def peer():
    return find_peer("demo", mode="unmasked")


@pytest.fixture(scope="module")
def variants():
    """Pairs whose heavy chain has up to four substitutions."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(NUM_VARIANTS):
        chain = list(HEAVY)
        for place in random.choice(len(chain), random.integers(1, 5), replace=False):
            chain[place] = random.choice([one for one in LETTERS if one != chain[place]])
        found.append(("".join(chain), LIGHT))
    return found


@torch.no_grad()
def published_way(peer, pairs, antigen, shift=1):
    """Mean log-probability as the published script takes it; `shift` 0 is the token's own place."""
    model, tokenizer = peer.model.loaded
    means = []
    for heavy, light in pairs:
        ids = torch.tensor([tokenizer(heavy=heavy + light + antigen)["input_ids"]])
        rows = model(ids).logits[0].log_softmax(-1)
        own = ids[0, 1:-1]
        means.append(float(rows[1 - shift : 1 - shift + len(own)].gather(1, own[:, None]).mean()))
    return np.array(means)


@pytest.mark.heavy
def test_the_published_way_ranks_nothing_and_is_worse_than_a_guess(peer, variants):
    ours = peer.score(variants)
    random = np.random.default_rng(1)
    fitness = ours + 0.3 * ours.std() * random.normal(size=NUM_VARIANTS)  # what the model knows, and noise
    antigen = "".join(random.choice(list(LETTERS), 60))
    theirs = published_way(peer, variants, antigen)
    guess = -math.log(len(LETTERS))
    assert theirs.max() < guess < ours.min()
    right = spearmanr(ours, fitness).statistic
    assert right > 0.9
    assert abs(spearmanr(theirs, fitness).statistic) < right / 2
    # With the one place put right, and nothing else, most of what was lost is back.
    assert spearmanr(published_way(peer, variants, antigen, shift=0), fitness).statistic > 0.8
