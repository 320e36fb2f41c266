"""Light chains ranked for heavy chains."""

import pyarrow.csv
import pytest
import torch
from support.tiny_models import PAIRS, shake, tiny_config

from curr_ab import CurrAbForSequenceClassification
from curr_ab.cli.main import main
from curr_ab.inference import rank_lights, records_of, score

RECORDS = list(records_of(PAIRS))
HEAVIES = [record._replace(light=None) for record in RECORDS]
LIGHTS = [record._replace(heavy=None) for record in RECORDS]


@pytest.mark.heavy
def test_conditional_likelihood_and_gain(deep, tokenizer):
    likelihood, gain = {}, {}
    for light in LIGHTS:
        joint = next(score(deep, tokenizer, [(PAIRS[1][0], light.light)], mode="group"))
        alone = next(score(deep, tokenizer, [(None, light.light)], mode="group"))
        likelihood[light.id] = joint.pll("light")
        gain[light.id] = joint.pll("light") - alone.pll()
    for by, expected in ((None, likelihood), ("gain", gain)):
        (ranked,) = rank_lights(deep, tokenizer, HEAVIES[1:2], LIGHTS, by=by)
        assert [one.light for one in ranked] == sorted(expected, key=expected.get, reverse=True)
        assert [one.rank for one in ranked] == [1, 2, 3, 4]
        for one in ranked:
            assert one.log_likelihood == pytest.approx(likelihood[one.light], abs=1e-3)
            assert one.gain == pytest.approx(gain[one.light], abs=1e-3)
            assert one.score == pytest.approx(expected[one.light], abs=1e-3)


def test_a_pairing_head(tokenizer):
    torch.manual_seed(0)
    labels = {0: "shuffled", 1: "native"}
    config = tiny_config(num_labels=2, id2label=labels, label2id={label: i for i, label in labels.items()})
    model = shake(CurrAbForSequenceClassification(config)).eval()
    (ranked,) = rank_lights(model, tokenizer, HEAVIES[:1], LIGHTS)
    expected = {}
    for light in LIGHTS:
        with torch.no_grad():
            logits = model(**tokenizer(PAIRS[0][0], light.light, return_tensors="pt")).logits[0]
        expected[light.id] = float(logits.softmax(-1)[1])
    assert {one.light: one.score for one in ranked} == pytest.approx(expected, abs=1e-5)
    assert [one.light for one in ranked] == sorted(expected, key=expected.get, reverse=True)
    with pytest.raises(ValueError, match="by must be head with CurrAbForSequenceClassification; got 'gain'"):
        list(rank_lights(model, tokenizer, HEAVIES, LIGHTS, by="gain"))
    model.config.id2label = {0: "a", 1: "b"}
    with pytest.raises(ValueError, match=r"must mean a native pair; got .*id2label"):
        list(rank_lights(model, tokenizer, HEAVIES, LIGHTS))


def test_nothing_to_rank(deep, tokenizer):
    with pytest.raises(ValueError, match="at least one heavy and one light chain; got"):
        list(rank_lights(deep, tokenizer, HEAVIES, []))


@pytest.mark.heavy
def test_from_files(folder, deep, tokenizer, tmp_path):
    heavies, lights = tmp_path / "heavies.csv", tmp_path / "pairs.csv"
    heavies.write_text("id,heavy\n" + "".join(f"h{one.id},{one.heavy}\n" for one in HEAVIES[:2]))
    lights.write_text("id,heavy,light\n" + "".join(f"l{one.id},{one.heavy},{one.light}\n" for one in RECORDS))
    out = tmp_path / "ranks.csv"
    options = ["--dtype", "float32", "--quiet", "--top", "2", "--out", str(out)]
    assert main(["pair", str(folder), str(heavies), str(lights), *options]) == 0
    rows = pyarrow.csv.read_csv(out).to_pylist()
    assert [(row["heavy"], row["rank"]) for row in rows] == [("h1", 1), ("h1", 2), ("h2", 1), ("h2", 2)]
    ranked = next(rank_lights(deep, tokenizer, HEAVIES[:1], LIGHTS))
    assert [row["light"] for row in rows[:2]] == [f"l{one.light}" for one in ranked[:2]]
