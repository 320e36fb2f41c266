"""AntiBERTy: what its weights say of a chain, by a plain loop over transformers' BERT, and as published."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_models import PAIRS

from curr_ab.benchmark.peers import antiberty, find_peer
from curr_ab.options import OptionError

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
GOLDEN = Path(__file__).parents[2] / "golden" / "antiberty.json"


def ids_of(chain):
    """Token ids as AntiBERTy's vocabulary has them: [PAD], [UNK], [CLS], [SEP], [MASK], then the residues."""
    return torch.tensor([[2, *(5 + LETTERS.index(one) if one in LETTERS else 1 for one in chain), 3]])


@torch.no_grad()
def likelihoods_by_loop(bert, chain, mask=True):
    """The log-probability of each residue among the twenty, one copy at a time."""
    found = []
    for place, letter in enumerate(chain, start=1):
        ids = ids_of(chain)
        if mask:
            ids[0, place] = 4
        among = bert(ids).logits[0, place, 5:].log_softmax(-1)
        found.append(float(among[LETTERS.index(letter)]) if letter in LETTERS else np.nan)
    return np.array(found)


def test_the_score_is_that_of_a_plain_loop(bert, antiberty_folder):
    heavy, light = (chain[:40] for chain in PAIRS[0])
    expected = [likelihoods_by_loop(bert, chain).mean() for chain in (heavy, light)]
    peer = find_peer(antiberty_folder)
    found = peer.score([(heavy, light), (heavy, None), (None, light)])
    assert found == pytest.approx([np.mean(expected), *expected], abs=1e-5)
    assert peer.form == "each chain alone"


def test_without_masks_each_residue_is_read_off_one_pass(bert, antiberty_folder):
    chain = PAIRS[0][0]
    expected = likelihoods_by_loop(bert, chain, mask=False)
    model = find_peer(antiberty_folder, mode="unmasked").model
    [found] = model.log_likelihoods([chain])
    assert found == pytest.approx(expected, abs=1e-5)


def test_every_seventh_is_masked_at_once_in_the_mode_group(bert, antiberty_folder):
    chain = PAIRS[0][1][:30]
    [found] = find_peer(antiberty_folder, mode="group").model.log_likelihoods([chain])
    ids = ids_of(chain)
    ids[0, 1 + 2 :: 7] = 4
    ids[0, -1] = 3
    with torch.no_grad():
        among = bert(ids).logits[0, 3, 5:].log_softmax(-1)
    assert found[2] == pytest.approx(float(among[LETTERS.index(chain[2])]), abs=1e-5)


def test_an_unknown_residue_is_seen_and_not_scored(bert, antiberty_folder):
    chain = PAIRS[0][0][:20] + "X" + PAIRS[0][0][21:40]
    expected = likelihoods_by_loop(bert, chain)
    [found] = find_peer(antiberty_folder).model.log_likelihoods([chain])
    assert np.isnan(found[20])
    assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert find_peer(antiberty_folder).score([(chain, None)]) == pytest.approx(
        [np.nanmean(expected)], abs=1e-5
    )


def test_features_are_means_over_residues_of_each_chain(bert, antiberty_folder):
    peer = find_peer(antiberty_folder)
    found = peer.features(PAIRS)
    with torch.no_grad():
        for row, pair in enumerate(PAIRS):
            states = [bert.bert(ids_of(c), output_hidden_states=True).hidden_states for c in pair]
            last, middle = ([one[layer][0, 1:-1].mean(0) for one in states] for layer in (-1, 2))
            assert found["mean-per-chain"][row] == pytest.approx(torch.cat(last).numpy(), abs=1e-5)
            assert found["middle-layer-mean-per-chain"][row] == pytest.approx(
                torch.cat(middle).numpy(), abs=1e-5
            )
            first = torch.cat([one[-1][0, 0] for one in states])
            assert found["cls"][row] == pytest.approx(first.numpy(), abs=1e-5)
    residues = peer.residue_features(PAIRS)
    assert [len(one) for one in residues] == [len(heavy) + len(light) for heavy, light in PAIRS]


def test_a_chain_too_long_for_its_positions_is_refused_by_name(antiberty_folder):
    with pytest.raises(ValueError, match=r"chain 2 \(AAAA.* must have 1 to 510 residues .* got 511; cut its"):
        find_peer(antiberty_folder).score([(PAIRS[0][0], "A" * 511)])


def test_it_reads_single_chains_alone(antiberty_folder):
    with pytest.raises(OptionError, match="form must be chains with AntiBERTy"):
        find_peer(antiberty_folder, form="linker")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_weights_in_a_pickle_are_read_as_tensors(bert, antiberty_folder, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "config.json").write_bytes((antiberty_folder / "config.json").read_bytes())
    torch.save(bert.state_dict(), folder / "pytorch_model.bin")
    same = find_peer(folder).score(PAIRS[:1])
    assert same == pytest.approx(find_peer(antiberty_folder).score(PAIRS[:1]), abs=1e-6)
    torch.save({"bert": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin .*must hold tensors alone"):
        find_peer(folder).score(PAIRS[:1])
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_model_are_refused(antiberty_folder, tmp_path):
    config = json.loads((antiberty_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    (tmp_path / "model.safetensors").write_bytes((antiberty_folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="must be AntiBERTy's, all of them; got none of the right shape"):
        find_peer(tmp_path).score(PAIRS[:1])


def test_by_name_it_is_the_folder_of_the_variable_or_the_repository(antiberty_folder, monkeypatch, tmp_path):
    monkeypatch.delenv(antiberty.FOLDER_VARIABLE, raising=False)
    assert antiberty.find_files("AntiBERTy") == (antiberty.REPOSITORY, antiberty.REVISION)
    monkeypatch.setenv(antiberty.FOLDER_VARIABLE, str(antiberty_folder))
    assert find_peer("antiberty").digest == find_peer(antiberty_folder).digest
    monkeypatch.setenv(antiberty.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match=r"ANTIBERTY_WEIGHTS_DIR must name a folder .*unset it"):
        find_peer("antiberty")


@pytest.mark.slow
@pytest.mark.skipif(
    antiberty.FOLDER_VARIABLE not in os.environ, reason=f"needs {antiberty.FOLDER_VARIABLE}: the real weights"
)
def test_with_the_real_weights_published_values_come_out():
    golden = json.loads(GOLDEN.read_text())
    peer = find_peer("antiberty")
    heavy, light = PAIRS[0]
    found = peer.score([(heavy, None), (None, light)])
    assert found == pytest.approx(golden["trastuzumab"], abs=1e-4)
    variants = golden["abbibench_1mhp"]
    pairs = [(one["heavy"], golden["abbibench_1mhp_light"]) for one in variants]
    assert peer.score(pairs) == pytest.approx([one["antiberty_ab"] for one in variants], abs=1e-4)
