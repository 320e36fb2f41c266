"""Masked training before a head: of the adapters alone, on the training part alone."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from curr_ab.finetuning import adaptation as module
from curr_ab.finetuning import cross_validate, load_finetuned, predict, read_examples
from curr_ab.finetuning.adaptation import FILE, MaskedRows
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
