"""Embeddings against hidden states taken by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from support.flash_kernel import flash_kernel
from support.tiny_models import PAIRS, shake, stock_twin, tiny_config

from curr_ab import CurrAbForMaskedLM
from curr_ab.inference import EmbeddingPlan, Record, attention_maps, embed, records_of
from curr_ab.modeling import modeling_curr_ab


@pytest.fixture(scope="module")
def states(deep, tokenizer):
    """Hidden states of the first pair in stock ESM, one sequence alone, and where its chains are."""
    heavy, light = PAIRS[0]
    with torch.no_grad():
        out = stock_twin(deep)(**tokenizer(heavy, light, return_tensors="pt"), output_hidden_states=True)
    first = len(heavy) + 1
    return (
        [layer[0] for layer in out.hidden_states],
        slice(1, first),
        slice(first + 2, first + 2 + len(light)),
    )


def test_pooling_by_hand(deep, tokenizer, states):
    layers, heavy, light = states
    last = layers[-1]
    residues = torch.cat([last[heavy], last[light]])
    expected = {
        ("mean", "pair"): residues.mean(0),
        ("max", "pair"): residues.amax(0),
        ("std", "pair"): residues.std(0, correction=0),
        ("cls", "pair"): last[0],
        ("none", "pair"): residues,
        ("mean", "heavy"): last[heavy].mean(0),
        ("max", "light"): last[light].amax(0),
        ("none", "light"): last[light],
    }
    for (pooling, part), reference in expected.items():
        found = next(embed(deep, tokenizer, PAIRS[:1], pooling=pooling, part=part))
        assert found == pytest.approx(reference.numpy(), abs=1e-5), (pooling, part)


def test_layers(deep, tokenizer, states):
    layers, heavy, light = states
    for number, layer in enumerate(layers):
        residues = torch.cat([layer[heavy], layer[light]])
        found = next(embed(deep, tokenizer, PAIRS[:1], layers=number))
        assert found == pytest.approx(residues.mean(0).numpy(), abs=1e-5)
    several = next(embed(deep, tokenizer, PAIRS[:1], layers=[-1, 0]))
    assert several.shape == (2, 80)
    assert several[0] == pytest.approx(found, abs=1e-6)
    with pytest.raises(ValueError, match="layers must be from -4 to 3 for this model; got 4"):
        next(embed(deep, tokenizer, PAIRS, layers=4))


def test_regions(deep, tokenizer, simulated):
    record = simulated[0]
    residues = next(embed(deep, tokenizer, [record], pooling="none", part="heavy"))
    cdr3 = [place for place, letter in enumerate(record.region_mask_heavy) if letter == "6"]
    assert record.heavy[cdr3[0] - 1] == "C"  # the anchor before it
    found = next(embed(deep, tokenizer, [record], pooling="mean", part="CDRH3"))
    assert found == pytest.approx(residues[cdr3].mean(0), abs=1e-5)
    bare = record._replace(region_mask_heavy=None)  # numbered by alignment
    assert next(embed(deep, tokenizer, [bare], part="CDRH3")) == pytest.approx(found, abs=1e-6)
    with pytest.raises(ValueError, match=r"record 1 .*must hold one variable domain of an antibody's heavy"):
        next(embed(deep, tokenizer, [("EVQLVESGGGLVQPG", "DIQMTQ")], part="CDRH3"))
    with pytest.raises(ValueError, match="unknown parts of a pair 'CDR3'; did you mean CDR"):
        next(embed(deep, tokenizer, PAIRS, part="CDR3"))


@pytest.mark.heavy
@pytest.mark.parametrize("layout", ["equal", "padded", "packed"])
def test_company_changes_nothing(layout, deep, tokenizer, simulated):
    together = list(embed(deep, tokenizer, simulated, layout=layout, tokens_per_batch=1500))
    alone = [next(embed(deep, tokenizer, [one])) for one in simulated[:20]]
    assert len(together) == len(simulated)
    assert np.abs(np.stack(together[:20]) - np.stack(alone)).max() <= 1e-5


@pytest.mark.parametrize("layout", ["equal", "padded", "packed"])
@pytest.mark.parametrize(
    ("pooling", "part"),
    [("mean", "CDRH3"), ("max", "heavy"), ("std", "light"), ("none", "pair"), ("cls", "pair")],
)
def test_every_pooling_is_the_same_in_any_batch(pooling, part, layout, deep, tokenizer, simulated):
    pairs, how = [*simulated[:5], *PAIRS], {"pooling": pooling, "part": part}
    together = list(embed(deep, tokenizer, pairs, layout=layout, tokens_per_batch=700, **how))
    for array, pair in zip(together, pairs, strict=True):
        alone = next(embed(deep, tokenizer, [pair], **how))
        assert array.shape == alone.shape and np.abs(array - alone).max() <= 1e-5
        held = array if array.base is None else array.base
        assert held.size <= len(pairs) * alone.size  # one result does not keep the states of its batch alive


def test_attention_maps(deep, tokenizer):
    found = next(attention_maps(deep, tokenizer, PAIRS[:1]))
    heavy, light = PAIRS[0]
    size = len(heavy) + len(light)
    assert found.shape == (3, deep.config.num_attention_heads, size, size)
    with torch.no_grad():
        encoded = tokenizer(heavy, light, return_tensors="pt")
        whole = deep(**encoded, output_attentions=True).attentions
    assert found[1, 2, 0, len(heavy)] == pytest.approx(float(whole[1][0, 2, 1, len(heavy) + 3]), abs=1e-6)


def test_single_chains(deep, tokenizer):
    light = PAIRS[0][1]
    only = next(embed(deep, tokenizer, [(None, light)], part="light", pooling="none"))
    assert only.shape == (len(light), 80)
    with pytest.raises(ValueError, match="has no heavy chain"):
        next(embed(deep, tokenizer, [(None, light)], part="heavy"))


def test_whatever_holds_pairs(deep, tokenizer):
    expected = np.stack(list(embed(deep, tokenizer, PAIRS)))
    heavies, lights = zip(*PAIRS, strict=True)
    frame = pd.DataFrame({"name": list("abcd"), "VH": heavies, "VL": lights})
    forms = {
        "iterator": iter(PAIRS),
        "mappings": [{"heavy": heavy, "light": light} for heavy, light in PAIRS],
        "records": [Record("x", heavy, light) for heavy, light in PAIRS],
        "frame": frame,
        "arrow": pa.Table.from_pandas(frame),
        "batches": pa.Table.from_pandas(frame).to_batches(2),
    }
    for name, form in forms.items():
        assert np.stack(list(embed(deep, tokenizer, form))) == pytest.approx(expected, abs=1e-5), name
    assert [one.id for one in records_of(frame)] == list("abcd")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("EVQ", "DIQ"), "list of pairs"),
        ("pairs.csv", "read_pairs"),
        ([("EVQL",)], r"record 1: a pair must be written as \(heavy, light\); got \('EVQL',\)"),
        ([*PAIRS, ("EVQ!", "DIQ")], r"record 5 \('5'\), heavy chain, position 4: '!'"),
        ([("EVQL", "")], r"record 1 \('1'\), light chain is empty"),
        ([{"heavy": "EVQL", "ligth": "DIQ"}], "no column is known as the light chain; name it with"),
        (pd.DataFrame({"heavy": ["EVQ"]}), "no column is known as the light chain; name it with"),
    ],
)
def test_what_is_no_pair(pairs, message, deep, tokenizer):
    with pytest.raises(ValueError, match=message):
        list(embed(deep, tokenizer, pairs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poolings": ("median",)}, "poolings must be .*; got 'median'"),
        ({"parts": ("CDR3",)}, "unknown parts of a pair 'CDR3'; did you mean"),
        ({"layers": ()}, "layers must be one at least; got none"),
        ({"poolings": ("cls",), "parts": ("heavy",)}, "parts must hold pair for the pooling cls"),
    ],
)
def test_plans_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingPlan(**options)


def test_packed_batches_through_a_flash_kernel(tokenizer, simulated, monkeypatch):
    monkeypatch.setattr(modeling_curr_ab, "why_not_packed", lambda device, dtype, head_size: None)
    model = shake(CurrAbForMaskedLM(tiny_config(hidden_size=64))).eval()
    alone = [next(embed(model, tokenizer, [one])) for one in simulated[:6]]
    with flash_kernel() as kernel:
        together = list(embed(model, tokenizer, simulated[:6], layout="packed", tokens_per_batch=900))
    assert {one["dropout"] for one in kernel.calls} == {0.0} and len(kernel.calls) > 2
    assert np.abs(np.stack(together) - np.stack(alone)).max() <= 1e-5
