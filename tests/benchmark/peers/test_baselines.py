"""Baselines as peers: features without a model, scores of those that say something of a pair."""

import numpy as np
import pytest
from support.tiny_models import PAIRS

from curr_ab.benchmark.peers import find_peer
from curr_ab.probes.residue_windows import residue_windows
from curr_ab.probes.sequence_features import BASELINES, sequence_features

MUTATED = (PAIRS[0][0].replace("TYIHWVRQ", "TYWWWWWQ"), PAIRS[0][1])


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_has_its_features(kind):
    peer = find_peer(f"baseline:{kind}")
    assert peer.name == f"baseline:{kind}"
    assert peer.num_parameters == 0
    assert "without a model" in peer.form
    [(name, found)] = peer.features(PAIRS).items()
    assert name == kind
    assert np.array_equal(found, sequence_features(kind, PAIRS))


@pytest.mark.parametrize("kind", ["positions", "germline-distance"])
def test_a_mutated_chain_is_less_natural(kind):
    usual, mutated = find_peer(f"baseline:{kind}").score([PAIRS[0], MUTATED])
    assert usual > mutated


def test_one_hot_ranks_by_what_the_pairs_have_in_common():
    farther = (MUTATED[0].replace("WWWWWQ", "WWWWWW"), MUTATED[1])
    parent, one, more = find_peer("baseline:one-hot").score([*[PAIRS[0]] * 8, MUTATED, farther])[7:]
    assert parent > one > more


def test_what_a_baseline_does_not_know_is_refused():
    peer = find_peer("baseline:v-gene")
    with pytest.raises(ValueError, match=r"must be one of baseline:positions, .*; got baseline:v-gene"):
        peer.score(PAIRS)
    with pytest.raises(ValueError, match="it has none of residues"):
        peer.residue_features(PAIRS)
    with pytest.raises(ValueError, match="unknown baseline 'v-genes'; did you mean v-gene"):
        find_peer("baseline:v-genes")
    with pytest.raises(ValueError, match=r"baseline:residue-windows must be .*; it has none of pairs"):
        find_peer("baseline:residue-windows").features(PAIRS)
    with pytest.raises(ValueError, match=r"must be one of baseline:positions, .*residue-windows"):
        find_peer("baseline:residue-windows").score(PAIRS)
    assert find_peer("baseline:k-mers").digest != peer.digest


def test_a_residue_has_its_neighbours_whatever_chains_are_there():
    heavy, light = PAIRS[0]
    pairs = [PAIRS[0], (heavy, None), (None, light), PAIRS[1]]
    found = find_peer("baseline:residue-windows").residue_features(pairs)
    assert [len(one) for one in found] == [len("".join(filter(None, pair))) for pair in pairs]
    assert np.array_equal(found[0], np.concatenate([found[1], found[2]]))
    assert np.array_equal(found[3], residue_windows([PAIRS[1]]))
