"""Forms of a pair: each chain alone, joined by a linker, or as the family joins it."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.tiny_models import PAIRS, save_checkpoint, shake, stock_twin, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.benchmark.peers import find_peer
from curr_ab.inference import embed, score
from curr_ab.options import OptionError

HEAVY, LIGHT = PAIRS[0][0][:40], PAIRS[0][1][:30]  # of different lengths
SHORT = (HEAVY, LIGHT)
LINKER = "G" * 25


@pytest.fixture(scope="module")
def stock(esm2):
    return stock_twin(esm2).eval()


def ids_of(tokenizer, text):
    return torch.tensor([tokenizer(heavy=text)["input_ids"]])


@torch.no_grad()
def likelihoods(stock, tokenizer, text):
    """Stock ESM's log-probability of each residue of one sequence, one masked copy at a time."""
    found = []
    for place in range(1, len(text) + 1):
        ids = ids_of(tokenizer, text)
        own = int(ids[0, place])
        ids[0, place] = tokenizer.mask_token_id
        found.append(float(stock(ids).logits[0, place].log_softmax(-1)[own]))
    return np.array(found)


@torch.no_grad()
def states(stock, tokenizer, text, layer=-1):
    """Stock ESM's states of all tokens of one sequence."""
    out = stock.esm(ids_of(tokenizer, text), output_hidden_states=True)
    return (out.last_hidden_state if layer == -1 else out.hidden_states[layer])[0].numpy()


def test_stock_esm2_reads_each_chain_alone(stock, tokenizer, esm2_folder):
    peer = find_peer(esm2_folder)
    assert peer.form == "each chain alone"
    means = [likelihoods(stock, tokenizer, chain).mean() for chain in SHORT]
    assert peer.score([SHORT]) == pytest.approx([np.mean(means)], abs=1e-5)
    # It has never seen the other chain.
    assert peer.score([(HEAVY, None), (None, LIGHT)]) == pytest.approx(means, abs=1e-5)
    [found] = peer.residue_features([SHORT])
    expected = [states(stock, tokenizer, chain)[1:-1] for chain in SHORT]
    assert found == pytest.approx(np.concatenate(expected), abs=1e-5)


def test_features_of_chains_stand_side_by_side(stock, tokenizer, esm2_folder):
    found = find_peer(esm2_folder).features([PAIRS[0], (PAIRS[0][0], None)])
    heavy, light = (states(stock, tokenizer, chain)[1:-1] for chain in PAIRS[0])
    width = heavy.shape[1]
    both = np.concatenate([heavy.mean(0), light.mean(0)])
    assert found["mean-per-chain"][0] == pytest.approx(both, abs=1e-5)
    assert found["mean-per-chain"][1, :width] == pytest.approx(heavy.mean(0), abs=1e-5)
    assert not found["mean-per-chain"][1, width:].any()
    assert found["mean"][0] == pytest.approx(np.concatenate([heavy, light]).mean(0), abs=1e-5)
    middle = states(stock, tokenizer, PAIRS[0][0], layer=1)[1:-1].mean(0)
    assert found["middle-layer-mean-per-chain"][0, :width] == pytest.approx(middle, abs=1e-5)
    # Trastuzumab's CDRs by IMGT: GFNIKDTY, IYPTNGYT, SRWGGDGFYAMDY; QDVNTA, SAS, QQHYTTPPT.
    cdrs = ["GFNIKDTY", "IYPTNGYT", "SRWGGDGFYAMDY"]
    begins = [PAIRS[0][0].index(one) for one in cdrs]
    places = [begin + at for begin, one in zip(begins, cdrs, strict=True) for at in range(len(one))]
    assert found["cdrs"][0, :width] == pytest.approx(heavy[places].mean(0), abs=1e-5)
    assert found["cdr3s"][0, :width] == pytest.approx(heavy[places[16:]].mean(0), abs=1e-5)
    firsts = np.concatenate([states(stock, tokenizer, chain)[0] for chain in PAIRS[0]])
    assert found["cls"][0] == pytest.approx(firsts, abs=1e-5)


def test_a_linker_is_seen_and_left_out(stock, tokenizer, esm2_folder):
    peer = find_peer(esm2_folder, form="linker")
    assert peer.form == "one sequence, joined by 25 G"
    joined = HEAVY + LINKER + LIGHT
    kept = [*range(40), *range(65, 95)]
    assert peer.score([SHORT]) == pytest.approx(
        [likelihoods(stock, tokenizer, joined)[kept].mean()], abs=1e-5
    )
    [found] = peer.residue_features([SHORT])
    expected = states(stock, tokenizer, joined)[1:-1][kept]
    assert found == pytest.approx(expected, abs=1e-5)
    features = peer.features([SHORT, (None, LIGHT)])
    both = np.concatenate([expected[:40].mean(0), expected[40:].mean(0)])
    assert features["mean-per-chain"][0] == pytest.approx(both, abs=1e-5)
    # One chain has no linker.
    alone = find_peer(esm2_folder).features([(None, LIGHT)])
    assert features["mean-per-chain"][1] == pytest.approx(alone["mean-per-chain"][0], abs=1e-5)


def test_the_digest_tells_the_form(esm2_folder):
    forms = ("pair", "chains", "linker")
    assert len({find_peer(esm2_folder, form=form).digest for form in forms}) == 3


@pytest.mark.parametrize("name", ["demo", "CLM-demo"])
def test_a_member_reads_the_pair(name):
    peer = find_peer(name)
    assert peer.form == "pair, joined by <cls><cls>"
    model, tokenizer = peer.model.loaded
    whole = [float(one.log_probabilities.mean()) for one in score(model, tokenizer, [SHORT, (None, LIGHT)])]
    assert peer.score([SHORT, (None, LIGHT)]) == pytest.approx(whole, abs=1e-6)
    [found] = peer.residue_features([SHORT])
    assert found == pytest.approx(next(embed(model, tokenizer, [SHORT], pooling="none")), abs=1e-6)
    assert peer.num_parameters == model.num_parameters()


def test_an_adapter_answers_merged_in_the_form_of_its_base(tmp_path):
    torch.manual_seed(1)
    base = save_checkpoint(shake(CurrAbForMaskedLM(tiny_config())), tmp_path / "base")
    lora = LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    adapted = get_peft_model(CurrAbForMaskedLM.from_pretrained(base), lora)
    adapted.save_pretrained(tmp_path / "adapter")
    peer, plain = find_peer(tmp_path / "adapter"), find_peer(base)
    assert peer.form == plain.form == "pair, joined by <cls><cls>"
    assert peer.digest != plain.digest
    _, tokenizer = plain.model.loaded
    [merged] = score(adapted.merge_and_unload().eval(), tokenizer, [SHORT])
    assert peer.score([SHORT]) == pytest.approx([float(merged.log_probabilities.mean())], abs=1e-5)
    assert abs(peer.score([SHORT]) - plain.score([SHORT])) > 1e-3


def test_a_separator_that_is_named_makes_a_pair(esm2_folder):
    peer = find_peer(esm2_folder, separator="<cls>")
    assert peer.form == "pair, joined by <cls>"


def test_a_name_that_is_none_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"the size of ESM-2 must be one of 8M, .*; got 'esm2:9M'"):
        find_peer("esm2:9M")
    with pytest.raises(OptionError, match="form must be"):
        find_peer("demo", form="pears")


def test_a_record_without_chains_is_named(esm2_folder):
    with pytest.raises(ValueError, match="record 2 must have a chain"):
        find_peer(esm2_folder).score([SHORT, (None, None)])


def test_a_chain_that_pairs_share_is_asked_for_once(esm2_folder, monkeypatch):
    peer = find_peer(esm2_folder, mode="unmasked")
    pairs = [SHORT, (HEAVY[::-1], LIGHT), SHORT]
    expected = np.concatenate([peer.score([pair]) for pair in pairs])
    asked = []
    answer = type(peer.model).log_likelihoods
    monkeypatch.setattr(
        type(peer.model), "log_likelihoods", lambda self, chains: asked.extend(chains) or answer(self, chains)
    )
    assert peer.score(pairs) == pytest.approx(expected, abs=1e-6)
    assert sorted(asked) == sorted({HEAVY, HEAVY[::-1], LIGHT})
