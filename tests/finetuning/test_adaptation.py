"""Masked training before a head: of the adapters alone, on the training part alone."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from curr_ab.finetuning import adaptation as module
from curr_ab.finetuning import cross_validate, load_finetuned, plant, predict, read_examples, split_folds
from curr_ab.finetuning.adaptation import FILE, MaskedRows
from curr_ab.finetuning.further_sequences import read_further
from curr_ab.options import OptionError
from curr_ab.randomness import random_stream
from curr_ab.training.tasks import MASK

ADAPTING = {
    "method": "lora",
    "adapt_epochs": 4,
    "epochs": 1,
    "start": "probe",
    "learning_rate": 5e-3,
    "rank": 4,
}


@pytest.fixture(scope="module")
def run(make_recipe, member, planted, tmp_path_factory):
    """A run with masked training, and the examples that each masked training saw."""
    out, seen = tmp_path_factory.mktemp("run"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")

        class Watched(MaskedRows):
            def __init__(self, examples, *rest, **options):
                seen.append({one.id for one in examples})
                super().__init__(examples, *rest, **options)

        patch.setattr(module, "MaskedRows", Watched)
        recipe = make_recipe(final=True, **ADAPTING)
        cross_validate(recipe, str(member), [str(planted("specificity-binary", 40))], out)
    return out, seen


@pytest.mark.heavy
def test_no_sequence_of_a_test_part_is_seen(run, make_recipe, planted):
    out, seen = run
    examples = read_examples(make_recipe(), [str(planted("specificity-binary", 40))])
    folds = json.loads((out / "folds.json").read_text())
    assert len(seen) == 3 and len(seen[2]) == 40  # the fit on everything has no test part
    for ids, fold in zip(seen, folds, strict=False):
        assert ids == {examples[index].id for index in fold["train"]}
        assert not ids & {examples[index].id for index in fold["test"]}


@pytest.mark.heavy
def test_it_learns_the_sequences_and_trains_adapters_alone(run):
    out, _ = run
    log = [
        json.loads(line) for line in (out / "fold-1" / "adaptation" / "log.jsonl").read_text().splitlines()
    ]
    assert len(log) == 4 and log[-1]["loss"] < log[0]["loss"]
    weights = load_file(out / "fold-1" / "adaptation" / FILE)
    assert weights and all(".lora_" in name for name in weights)
    assert any(float(value.abs().max()) > 0 for name, value in weights.items() if ".lora_B." in name)
    assert not (out / "fold-1" / "adaptation" / "states").exists()


@pytest.mark.heavy
def test_the_head_goes_on_from_the_adapted_weights(run, make_recipe, member, planted):
    """With a rate of nothing they are what the adapter holds in the end."""
    out, _ = run
    adapted = load_file(out / "final" / "adaptation" / FILE)
    kept = load_file(out / "adapter" / "adapter_model.safetensors")
    moved = [
        float((kept[name.replace(".default", "")] - value).abs().max()) for name, value in adapted.items()
    ]
    from_nothing = [float(value.abs().max()) for name, value in adapted.items() if ".lora_B." in name]
    assert max(moved) < 5e-3 * 8 and max(from_nothing) > max(moved)  # three steps of Adam, and no more
    model, tokenizer = load_finetuned(str(out / "adapter"))
    examples = read_examples(make_recipe(), [str(planted("specificity-binary", 40))])
    (first,) = predict(model, tokenizer, [(examples[0].heavy, examples[0].light)])
    assert np.isclose(sum(first), 1)


def test_masks_differ_between_epochs_and_follow_from_the_seed(make_recipe, planted):
    recipe = make_recipe()
    examples = read_examples(recipe, [str(planted("specificity-binary", 24))])
    rows = MaskedRows(examples.items, recipe)

    def masked(epoch):
        right = rows.mask(random_stream(42, "masks", 1, epoch))
        (part,) = rows.parts(np.arange(24), 1)
        assert len(part.inputs["output_positions"]) == len(right.labels) == rows.answer_ends[-1]
        share = float((part.inputs["input_ids"] == MASK).float().mean())
        assert 0.08 < share < 0.16
        return part.inputs["input_ids"].tolist()

    assert masked(0) != masked(1)
    assert masked(0) == masked(0)


@pytest.mark.parametrize("name", ["adapt_epochs", "layers"])
@pytest.mark.parametrize("method", ["frozen", "full", "probe"])
def test_it_needs_adapters(make_recipe, method, name):
    with pytest.raises(OptionError, match=f"{name} must be 0 for {method}, .* take lora or dora"):
        make_recipe(method=method, **{name: 1})


@pytest.fixture
def further(planted, tmp_path):
    """A table without labels: the labelled pairs themselves, others, a nanobody, and what is no antibody."""
    own = pq.read_table(planted("specificity-binary", 40)).to_pandas()
    other = plant("specificity-binary", 30, seed=9).to_pandas()
    table = pd.concat([own, other])[["heavy", "light"]]
    alone = pd.DataFrame({"heavy": [other.heavy[0]], "light": [None]})
    table = pd.concat([table, alone, pd.DataFrame({"heavy": ["ACDEFGHIK"], "light": [None]})])
    path = tmp_path / "further.csv"
    table.to_csv(path, index=False)
    return path


def test_further_sequences_leave_out_all_chains_outside_the_training_part(make_recipe, planted, further):
    recipe = make_recipe(**ADAPTING)
    examples = read_examples(recipe, [str(planted("specificity-binary", 40))])
    found = read_further([str(further)], recipe)
    assert any(item.light is None for item in found.items)
    assert "impossible" in found.notes[1] or "too short" in found.notes[1]
    for fold in split_folds(examples, recipe):
        tested = {chain for one in examples.take(fold.test) for chain in one.chains}
        seen = found.beside(examples, fold.train)
        assert tested.isdisjoint(chain for item in seen for chain in item.chains)
        assert 0 < len(seen) < len(found.items)
    everything = found.beside(examples, np.arange(40))
    assert len(everything) == len(found.items)


@pytest.mark.slow
def test_a_run_adapts_on_further_sequences(make_recipe, member, planted, further, tmp_path, monkeypatch):
    seen = []

    class Watched(MaskedRows):
        def __init__(self, examples, *rest, **options):
            seen.append({one.chains for one in examples})
            super().__init__(examples, *rest, **options)

    monkeypatch.setattr(module, "MaskedRows", Watched)
    recipe = make_recipe(**{**ADAPTING, "adapt_epochs": 1})
    data = [str(planted("specificity-binary", 40))]
    cross_validate(recipe, str(member), data, tmp_path / "run", adapt_data=[str(further)])
    examples = read_examples(recipe, data)
    found = read_further([str(further)], recipe)
    for chains, fold in zip(seen, split_folds(examples, recipe), strict=True):
        own = {one.chains for one in examples.take(fold.train)}
        assert chains == own | {item.chains for item in found.beside(examples, fold.train)}
        assert len(chains) > len(own)
    card = (tmp_path / "run" / "fold-1" / "adapter" / "README.md").read_text()
    assert "further.csv" in card and str(tmp_path) not in card
    with pytest.raises(ValueError, match=r"got others .*adapt_data"):
        cross_validate(recipe, str(member), data, tmp_path / "run")


def test_further_sequences_may_be_objects_in_memory(make_recipe, further):
    frame = pd.read_csv(further)
    recipe = make_recipe(**ADAPTING)
    assert read_further(frame, recipe).fingerprint == read_further([str(further)], recipe).fingerprint
    with pytest.raises(OptionError, match=r"must hold a record that can be trained on; got none$"):
        read_further(frame.head(0), recipe)


@pytest.mark.heavy
def test_a_choice_without_adapters_says_nothing_of_further_sequences(
    make_recipe, member, planted, further, tmp_path
):
    """Where auto takes regressions, nothing was adapted on anything."""
    recipe = make_recipe("affinity", **{**ADAPTING, "method": "auto"})
    cross_validate(recipe, member, [planted("affinity", 30)], tmp_path / "run", adapt_data=[str(further)])
    about = json.loads((tmp_path / "run" / "fold-1" / "adapter" / "finetuning.json").read_text())["data"]
    assert about["examples"] == 30 and "its records" not in about


def test_further_sequences_need_masked_training(make_recipe, further, tmp_path):
    with pytest.raises(OptionError, match="adapt_epochs must be 1 or more with adapt_data"):
        read_further([str(further)], make_recipe())
    (tmp_path / "none.csv").write_text("heavy\nACDEFGHIK\n")
    with pytest.raises(OptionError, match="adapt_data must hold a record that can be trained on; got none"):
        read_further([str(tmp_path / "none.csv")], make_recipe(**ADAPTING))
