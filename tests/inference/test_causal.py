"""Causal models in the commands: scored from left to right; what needs a masked model says so."""

import pytest
import torch
from support.tiny_models import PAIRS, save_checkpoint, shake, tiny_config

import curr_ab
from curr_ab import CurrAbForCausalLM, CurrAbForMaskedLM
from curr_ab.cli.main import main
from curr_ab.inference import embed, rank_lights, records_of, restore, saturate, score, score_mutants
from curr_ab.options import OptionError


@pytest.fixture(scope="module")
def causal():
    torch.manual_seed(0)
    return shake(CurrAbForCausalLM(tiny_config(is_decoder=True))).eval()


@pytest.fixture(scope="module")
def causal_folder(causal, tmp_path_factory):
    return save_checkpoint(causal, tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def tokenizer():
    return curr_ab.CurrAbTokenizer()


def by_hand(model, tokenizer, heavy, light):
    """The log-probability of each residue, from one pass without any of the package's batching."""
    ids = tokenizer(heavy, light)["input_ids"]
    with torch.no_grad():
        rows = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    own = [float(rows[at - 1, token]) for at, token in enumerate(ids) if token > 3]
    return torch.tensor(own)


def test_load_gives_the_class_of_the_kind(causal_folder, folder, tmp_path):
    assert type(curr_ab.load(causal_folder, device="cpu")[0]) is CurrAbForCausalLM
    assert type(curr_ab.load(folder, device="cpu")[0]) is CurrAbForMaskedLM
    assert type(curr_ab.load(causal_folder, head="causal-lm", device="cpu")[0]) is CurrAbForCausalLM
    with pytest.raises(ValueError, match=r"must be a masked model here; got a causal one: load it with head"):
        curr_ab.load(causal_folder, head="masked-lm")
    with pytest.raises(ValueError, match=r"must be a causal model here; got a masked one"):
        curr_ab.load(folder, head="causal-lm")
    # What earlier versions wrote has the masked class's name beside `is_decoder`.
    old = CurrAbForMaskedLM(tiny_config(is_decoder=True))
    loaded = curr_ab.load(save_checkpoint(old, tmp_path / "old"), device="cpu")[0]
    assert type(loaded) is CurrAbForCausalLM
    assert torch.equal(loaded.lm_head.dense.weight, old.lm_head.dense.weight)


def test_each_residue_is_scored_by_what_precedes_it(causal, tokenizer):
    scores = list(score(causal, tokenizer, PAIRS, alone=True))
    for one, (heavy, light) in zip(scores, PAIRS, strict=True):
        expected = by_hand(causal, tokenizer, heavy, light)
        assert torch.allclose(one.log_probabilities, expected, atol=1e-4)
        assert one.pll("heavy") == pytest.approx(float(expected[: len(heavy)].sum()), abs=1e-3)
        assert one.pll("light") == pytest.approx(float(expected[len(heavy) :].sum()), abs=1e-3)
        # Nothing precedes the heavy chain: alone it is the same.
        assert torch.allclose(one.alone["heavy"], one.residues("heavy"), atol=1e-4)
        assert not torch.allclose(one.alone["light"], one.residues("light"), atol=1e-2)
    for mode in ("group", "unmasked"):  # there is one way
        again = list(score(causal, tokenizer, PAIRS[:2], mode=mode))
        assert all(
            torch.equal(a.log_probabilities, b.log_probabilities)
            for a, b in zip(again, scores[:2], strict=True)
        )


def test_light_chains_are_ranked_by_their_likelihood_behind_the_heavy_one(causal, tokenizer):
    heavies = [one._replace(light=None) for one in records_of(PAIRS[:2])]
    lights = [one._replace(heavy=None) for one in records_of(PAIRS[:4])]
    for heavy, ranked in zip(heavies, rank_lights(causal, tokenizer, heavies, lights), strict=True):
        assert [one.rank for one in ranked] == [1, 2, 3, 4]
        for one in ranked:
            light = next(light for light in lights if light.id == one.light)
            whole = by_hand(causal, tokenizer, heavy.heavy, light.light)
            assert one.score == one.log_likelihood
            assert one.score == pytest.approx(float(whole[len(heavy.heavy) :].sum()), abs=1e-3)
            assert one.gain is None  # it has never seen a light chain first
    with pytest.raises(ValueError, match="by must be likelihood with CurrAbForCausalLM; got 'gain'"):
        next(rank_lights(causal, tokenizer, heavies, lights, by="gain"))
    both = shake(CurrAbForCausalLM(tiny_config(is_decoder=True, light_first=0.5))).eval()
    ranked = next(rank_lights(both, tokenizer, heavies, lights, by="gain"))
    assert all(one.score == one.gain for one in ranked)


def test_what_needs_a_masked_model_says_so(causal, tokenizer):
    for call in (
        lambda: next(saturate(causal, tokenizer, PAIRS[:1])),
        lambda: score_mutants(causal, tokenizer, PAIRS[0], ["H:Q3A"]),
        lambda: next(restore(causal, tokenizer, [("EVXL", "DIQMTQ")])),
    ):
        with pytest.raises(
            ValueError, match=r"must have a masked model; got a causal one, .*; name a masked"
        ):
            call()


def test_embeddings_are_causal_states(causal, tokenizer):
    heavy, light = PAIRS[0]
    whole, other = embed(causal, tokenizer, [(heavy, light), (heavy, PAIRS[1][1])], pooling="none")
    assert abs(whole[: len(heavy)] - other[: len(heavy)]).max() < 1e-4  # the light chain follows
    assert abs(whole[-20:] - other[-20:]).max() > 1e-2
    with pytest.raises(OptionError, match="pooling must not be cls with a causal model"):
        next(embed(causal, tokenizer, PAIRS[:1], pooling="cls"))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (("score", "--alone"), None),
        (("embed",), None),
        (("mutate",), "must be a masked model here; got a causal one"),
        (("restore",), "must be a masked model here; got a causal one"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_commands(command, complaint, causal_folder, table, tmp_path, capsys):
    name, *more = command
    arguments = [name, str(causal_folder), str(table), "--out", str(tmp_path / "out.parquet"), *more]
    code = main([*arguments, "--device", "cpu", "--quiet"])
    shown = capsys.readouterr().err
    if complaint is None:
        assert code == 0 and (tmp_path / "out.parquet").is_file(), shown
    else:
        assert code != 0 and len(shown.strip().splitlines()) == 1 and complaint in shown, shown
