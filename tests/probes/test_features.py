"""Features of pairs: from residues alone, and several sets from one pass of a member."""

import numpy as np
import pytest
import torch
from support.tiny_models import PAIRS, save_checkpoint, shake, tiny_config

import curr_ab
from curr_ab import CurrAbForCausalLM, CurrAbForMaskedLM
from curr_ab.data.reading.formats import builtin_path
from curr_ab.domains import find_domains
from curr_ab.probes.feature_names import MEMBER_FEATURES, RESIDUE_FEATURES
from curr_ab.probes.member_features import member_features, residue_features
from curr_ab.probes.sequence_features import BASELINES, sequence_features

HEAVY, LIGHT = PAIRS[0]
ODD = [(HEAVY, None), (None, LIGHT), ("ACD", LIGHT)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    torch.manual_seed(0)
    model = shake(CurrAbForMaskedLM(tiny_config()))
    return curr_ab.load(save_checkpoint(model, tmp_path_factory.mktemp("member")))


def test_means_are_those_of_the_states_themselves(loaded):
    model, tokenizer = loaded
    found = member_features(model, tokenizer, PAIRS)
    residues = residue_features(model, tokenizer, PAIRS)
    assert set(found) == set(MEMBER_FEATURES) and set(residues) == set(RESIDUE_FEATURES)
    for row, (heavy, light) in enumerate(PAIRS):
        with torch.inference_mode():
            ids = tokenizer(heavy, light, return_tensors="pt")["input_ids"]
            states = [one[0].numpy() for one in model.esm(ids, output_hidden_states=True).hidden_states]
        masks = [find_domains(text)[0].region_mask for text in (heavy, light)]
        assert list(map(len, masks)) == [len(heavy), len(light)]
        whole = {"": states[2], "middle-layer-": states[1]}
        for layer, of_layer in whole.items():
            chains = of_layer[1 : 1 + len(heavy)], of_layer[-1 - len(light) : -1]
            expected = {
                "mean": np.concatenate(chains).mean(0),
                "mean-per-chain": np.concatenate([chain.mean(0) for chain in chains]),
            }
            for name, letters in {"cdrs": "246", "cdr3s": "6"}.items():
                held = [[letter in letters for letter in mask] for mask in masks]
                means = [chain[at].mean(0) for chain, at in zip(chains, held, strict=True)]
                expected[name] = np.concatenate(means)
            for name, values in expected.items():
                assert found[layer + name][row] == pytest.approx(values, abs=2e-5), name
            assert residues[f"{layer}residue"][row] == pytest.approx(np.concatenate(chains), abs=2e-5)
        assert found["cls"][row] == pytest.approx(states[2][0], abs=2e-5)


def test_a_chain_that_is_not_there_has_zeros(loaded):
    model, tokenizer = loaded
    found = member_features(model, tokenizer, ODD)
    width = model.config.hidden_size
    for name in ("mean-per-chain", "cdrs", "middle-layer-cdr3s"):
        assert not found[name][0, width:].any() and found[name][0, :width].any(), name
        assert not found[name][1, :width].any() and found[name][1, width:].any(), name
    # What is no variable domain has no CDRs: its mean stands for them.
    assert np.array_equal(found["cdrs"][2, :width], found["mean-per-chain"][2, :width])
    residues = residue_features(model, tokenizer, ODD, ["residue"])["residue"]
    assert [len(one) for one in residues] == [len(HEAVY), len(LIGHT), 3 + len(LIGHT)]


def test_names_are_checked_and_a_causal_model_has_no_first_token(loaded, tmp_path):
    model, tokenizer = loaded
    with pytest.raises(ValueError, match=r"features must be some of mean-per-chain, .*got 'median'"):
        member_features(model, tokenizer, PAIRS, ["median"])
    torch.manual_seed(0)
    causal = CurrAbForCausalLM(tiny_config(is_decoder=True, token_dropout=False))
    model, tokenizer = curr_ab.load(save_checkpoint(causal, tmp_path / "causal"))
    assert "cls" not in member_features(model, tokenizer, PAIRS[:1])
    with pytest.raises(ValueError, match="must not be cls for a causal model"):
        member_features(model, tokenizer, PAIRS, ["cls"])


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_need_residues_alone(name):
    pairs = [*PAIRS, *ODD, PAIRS[0]]
    found = sequence_features(name, pairs)
    assert len(found) == len(pairs) and np.isfinite(found).all()
    assert np.array_equal(found[0], found[-1]) and np.array_equal(
        found[:2], sequence_features(name, pairs[:2])
    )
    assert not np.array_equal(found[0], found[1])
    half_heavy, half_light = found[len(PAIRS)], found[len(PAIRS) + 1]
    assert np.array_equal(half_heavy + half_light, found[0])  # each chain has columns of its own


def test_baselines_say_what_they_are_called():
    heavy = (
        "EVQLVESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYC"
        "AKRRDEWGQGTLVTVSS"
    )
    [found] = sequence_features("cdr3", [(heavy, None)])
    assert found[0] == 6 and found[21] == 1  # AKRRDE: three positive and two negative charges
    assert found[22] == pytest.approx((1.8 - 3.9 - 2 * 4.5 - 2 * 3.5) / 6)
    with pytest.raises(ValueError, match=r"features must be one of v-gene, .*; got 'mean'"):
        sequence_features("mean", PAIRS)


def test_the_nearest_gene_is_the_one_that_the_corpus_names():
    import pyarrow.parquet as pq

    rows = pq.read_table(builtin_path()).slice(15_000, 120).to_pylist()
    pairs = [(row["heavy"], row["light"]) for row in rows]
    genes = sequence_features("v-gene", pairs)
    assert (genes.sum(axis=1) == 2).all()
    names = [row["v_call_heavy"].partition("*")[0] for row in rows]
    called = genes[:, : genes.shape[1]].argmax(axis=1)
    by_name = {}
    for name, gene in zip(names, called.tolist(), strict=True):
        by_name.setdefault(name, []).append(gene)
    agreeing = sum(max(map(found.count, found)) for found in by_name.values())
    assert agreeing / len(rows) > 0.9
    distances = sequence_features("germline-distance", pairs)[:, 0]
    mutations = np.array([row["mutations_heavy"] for row in rows])
    assert np.corrcoef(distances, mutations)[0, 1] > 0.8
